"""D_meta of the base's own bare answers to word problems: right, wrong and nearly right ones, in its own words."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from selfevo_jax.data import MetaRow
from selfevo_jax.data.equations_section import EquationsSection
from selfevo_jax.tasks.balanced import balanced
from selfevo_jax.tasks.base import Answer, BuiltMeta
from selfevo_jax.tasks.equations.annotator import feedback, is_bare, near_miss, with_answer
from selfevo_jax.tasks.equations.problems import Problem
from selfevo_jax.text import extract_answer


def build_meta(
    problems: Sequence[Problem], answers: Sequence[Answer], settings: EquationsSection, limit: int | None, seed: int
) -> BuiltMeta:
    """D_meta rows; the same arguments give the same result.

    A bare answer of the base is a row as it came, and with other numbers in its place: the right one, and one that is
    nearly right. So right and wrong answers differ in their number alone, and the critic cannot go by the words.
    Refinements are the same answer with the right number. Counted are the answers that are used, and why others are
    not.

    Args:
      problems: those that the base answered.
      answers: the base's, by the problem's id.
      settings: shares of rows, and what is no bare answer.
      limit: rows at most; None takes all.
      seed: of near misses and of the choice of rows.
    """
    counts: Counter[str] = Counter()
    sorts: dict[str, list[MetaRow]] = {"right": [], "near": [], "wrong": []}
    rng = random.Random(f"equations/meta/{seed}")
    known = {problem.id: problem for problem in problems}
    seen: set[tuple[str, str]] = set()
    held: set[tuple[str, str]] = set()
    for answer in answers:
        text = answer.text.strip()
        why = (
            "cut by a limit"
            if not answer.finished
            else "not a bare number"
            if not is_bare(text)
            else "too long"
            if len(text) > settings.most_characters
            else "copies"
            if (answer.id, text) in seen
            else "answers"
        )
        counts[why] += 1
        if why != "answers":
            continue
        seen.add((answer.id, text))
        for sort, row in _rows(f"{answer.id}-{answer.sample}", known[answer.id], text, rng, counts):
            if (row.prompt, row.response) in held:
                counts["rows that are copies"] += 1
                continue
            held.add((row.prompt, row.response))
            sorts[sort].append(row)
    return BuiltMeta(balanced(sorts, settings.right_share, settings.near_share, limit, rng), dict(counts))


def _rows(
    name: str, problem: Problem, text: str, rng: random.Random, counts: Counter[str]
) -> Iterator[tuple[str, MetaRow]]:
    """The rows that a bare answer gives, each with its sort."""
    fixed = with_answer(text, problem.answer)
    if fixed is None:
        counts["not repaired"] += 1
        return
    given = extract_answer(text)
    if given is not None and given != problem.answer:
        yield "wrong", _row(f"{name}-own", problem, text, fixed, "own")
    yield "right", _row(f"{name}-right", problem, fixed, fixed, None)
    slip = near_miss(problem, rng)
    spoilt = None if slip is None or slip == given else with_answer(text, slip)
    if spoilt is not None:
        yield "near", _row(f"{name}-near", problem, spoilt, fixed, "near miss")


def _row(name: str, problem: Problem, response: str, refinement: str, error: str | None) -> MetaRow:
    given = extract_answer(response)
    assert given is not None
    words, good = feedback(problem, given)
    return MetaRow(name, problem.prompt, response, words, refinement, good, error)
