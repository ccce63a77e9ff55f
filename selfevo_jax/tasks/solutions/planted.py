"""The builder of D_meta: worked solutions in, (prompt, response, feedback, refinement) rows out, without an annotator.

A wrong row is a gold solution with one planted mistake, carried through; its refinement is the gold solution. A right
row is the gold solution with feedback that walks through it; its refinement is the response itself.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

from selfevo_jax.data import MetaRow, QARow
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.tasks.solutions.mistakes import KINDS, Kind, Mistake, plant
from selfevo_jax.tasks.solutions.phrases import criticism, praise
from selfevo_jax.tasks.solutions.worked import Solution, format_number, numbers, parse_solution


def build_meta_rows(
    qa_rows: Iterable[QARow],
    seed: int,
    per_row: int = 1,
    *,
    right_share: float = 0.5,
    kinds: Sequence[Kind] = KINDS,
    marks: bool = False,
    limit: int | None = None,
) -> list[MetaRow]:
    """D_meta from worked solutions in GSM8K's format; the same seed and rows give the same result.

    Rows whose solution cannot be read, or in which no mistake can be planted sensibly, are left out, for right rows
    too, so that right and wrong rows come from the same kind of question.

    Args:
      qa_rows: questions with worked solutions.
      seed: of steps, mistakes and words. A row's mistake depends on the seed, its own id and its turn.
      per_row: D_meta rows for each question. Wrong rows of one question differ in their kind where they can.
      right_share: share of rows with a right response. Kinds of mistake take turns among the wrong ones.
      kinds: the kinds of mistake to plant.
      marks: keep the `<<expr=value>>` marks in responses and refinements.
      limit: rows to return at most; None takes all.

    Raises:
      ConfigError: a setting that cannot be used.
      EmptySelectionError: no row can be used.
    """
    _check(per_row, right_share, kinds, limit)
    built: list[MetaRow] = []
    wrong = tried = 0
    for row in qa_rows:
        tried += 1
        gold = _solution(row)
        if gold is None:
            continue
        right_texts: set[str] = set()
        for turn in range(per_row):
            rng = random.Random(f"{seed}:{row.id}:{turn}")
            mistake = _mistake(gold, row, kinds, wrong, rng)
            if mistake is None:
                break
            n = len(built)
            is_right = math.floor((n + 1) * right_share + 1e-9) > math.floor(n * right_share + 1e-9)
            new = _meta_row(row, turn, gold, None if is_right else mistake, marks, rng)
            if is_right and new.feedback in right_texts:
                continue
            right_texts.add(new.feedback)
            wrong += not is_right
            built.append(new)
            if len(built) == limit:
                return built
    if not built:
        raise EmptySelectionError(
            f"none of {tried} rows gives a D_meta row: a worked solution needs <<expr=value>> marks and a last line "
            "'#### answer'"
        )
    return built


def _check(per_row: int, right_share: float, kinds: Sequence[Kind], limit: int | None) -> None:
    if per_row < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"per_row {per_row} and limit {limit} must be 1 or more")
    if not 0 <= right_share <= 1:
        raise ConfigError(f"right_share {right_share} must lie between 0 and 1")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ConfigError(f"kinds {list(kinds)} must be one or more of {', '.join(KINDS)}")


def _solution(row: QARow) -> Solution | None:
    try:
        return parse_solution(row.answer)
    except ValueError:
        return None


def _mistake(gold: Solution, row: QARow, kinds: Sequence[Kind], turn: int, rng: random.Random) -> Mistake | None:
    """The kind whose turn it is, or else the next one that this solution can carry."""
    for i in range(len(kinds)):
        mistake = plant(gold, row.prompt, kinds[(turn + i) % len(kinds)], rng)
        if mistake is not None:
            return mistake
    return None


def _meta_row(
    row: QARow, turn: int, gold: Solution, mistake: Mistake | None, marks: bool, rng: random.Random
) -> MetaRow:
    text = gold.text(marks)
    name = f"{row.id}-{turn}"
    if mistake is None:
        return MetaRow(name, row.prompt, text, praise(gold, rng), text, True)
    stated = frozenset(map(format_number, numbers(row.prompt)))
    feedback = criticism(mistake, stated, rng)
    return MetaRow(name, row.prompt, mistake.wrong.text(marks), feedback, text, False, mistake.kind, mistake.step)
