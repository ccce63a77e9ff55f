"""Whether the answers of a checkpoint are still good texts, whatever they are scored: cut, looping, with feedback in
them, or the same words again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from selfevo_jax.chains import Rollout
from selfevo_jax.evaluate.metrics import Paired, Proportion, distinct_ngrams, paired, proportion, repeated_ngrams
from selfevo_jax.evaluate.winrate import Estimate, mean
from selfevo_jax.judges import Leaks

LOOPING, LEAST_REPEATED = 0.2, 3
BIGRAMS = 1000
"""That the share of distinct ones is told of. A set whose answers have fewer has no such share."""
FAULTS = ("clipped", "looping", "leaked")
"""What a text may have, as `TextFigures` names it."""

Found = dict[str, bool | None]
"""Row id -> whether its answer has a fault; None where it could not be run."""


def loops(text: str) -> bool:
    """Whether a text says the same again and again: of its word 3-grams (words are what white space parts), a fifth or
    more, and at least three, stood in the text before.

    A repeated 3-gram is counted each time but the first. A paragraph that is said twice loops; three words that come
    up three times in a text of more than a dozen do not. A text without white space never does.
    """
    repeated, total = repeated_ngrams(text)
    return repeated >= LEAST_REPEATED and repeated >= LOOPING * total


@dataclass(frozen=True)
class TextFigures:
    """Of the greedy direct answers of one checkpoint on one set. Answers that could not be run are in no figure."""

    n: int
    """Answers."""
    clipped: Proportion
    """Answers that hit a limit."""
    looping: Proportion
    """See `loops`."""
    leaked: Proportion
    """Answers with words of feedback in them: see `Leaks`."""
    leaks: dict[str, int]
    """Words of feedback -> answers in which they were found first; the most frequent ones first."""
    distinct_bigrams: float | None
    """Among BIGRAMS bigrams of words of all answers: see `distinct_ngrams`. None where they have fewer."""
    length: Estimate
    """Tokens of an answer."""
    by_row: dict[str, Found] = field(default_factory=dict)
    """Fault -> which answers have it: what two checkpoints are compared by, row by row."""


def text_figures(rollouts: Sequence[Rollout], leaks: Leaks) -> TextFigures:
    """Of greedy rollouts, one a row: their first responses."""
    answers = {r.id: None if r.candidates[0].finish == "error" else r.candidates[0] for r in rollouts}
    prompts = {r.id: r.prompt for r in rollouts}
    given = [answer for answer in answers.values() if answer is not None]
    words = {id: None if answer is None else leaks.found(answer.text, prompts[id]) for id, answer in answers.items()}
    by_row: dict[str, Found] = {
        "clipped": {id: None if a is None else a.clipped for id, a in answers.items()},
        "looping": {id: None if a is None else loops(a.text) for id, a in answers.items()},
        "leaked": {id: None if a is None else words[id] is not None for id, a in answers.items()},
    }
    shares = {name: proportion([has for has in by_row[name].values() if has is not None]) for name in FAULTS}
    return TextFigures(
        n=len(given),
        **shares,
        leaks=dict(Counter(found for found in words.values() if found is not None).most_common()),
        distinct_bigrams=distinct_ngrams([answer.text for answer in given], of=BIGRAMS),
        length=mean([answer.n_tokens for answer in given]),
        by_row=by_row,
    )


def fault_changes(before: Mapping[str, Found], after: Mapping[str, Found]) -> dict[str, Paired]:
    """Fault -> the share of answers with it, against that of another checkpoint on the same rows (both as in
    `TextFigures.by_row`). A fault of which no row was looked at in both is left out."""
    found = {name: paired(before[name], after[name]) for name in FAULTS if name in before and name in after}
    return {name: change for name, change in found.items() if change is not None}


def grew(change: Paired) -> bool:
    """Whether a fault is measurably more frequent: by more than two standard errors of the rows' differences, and by
    McNemar's exact p, since that error is too small where few rows have changed."""
    return change.better and change.gain > 2 * change.stderr
