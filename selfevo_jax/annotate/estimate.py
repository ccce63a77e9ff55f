"""What an annotation would ask, before anything is asked: questions, tokens and cost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.annotate.asked import NOT_YET, Asker
from selfevo_jax.annotate.conduct import Passes, annotate
from selfevo_jax.annotate.reading import Feedback
from selfevo_jax.annotate.responses import STAGE, responses, unique
from selfevo_jax.annotate.rows import Prompt, Responded
from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.progress import counted

CHARACTERS = 4
"""Of a token, about, in English."""
_FILLER = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for a text that is not there yet."""


@dataclass(frozen=True)
class StageEstimate:
    """The questions of one stage that have no answer yet."""

    stage: str
    model: str
    questions: int
    read: int
    """Tokens, about."""
    written: int
    """Tokens at most."""
    cost: float | None
    """About, at most; None where the price is not known."""

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", cost about {self.cost:.4f} at most"
        return (
            f"{self.stage} by {self.model}: {counted(self.questions, 'question')}, about {self.read:,} tokens read, "
            f"{self.written:,} written at most{cost}"
        )


def shown(text: str) -> str:
    """A question, with a word in place of what stands for texts that are not there yet."""
    return re.sub(rf"(?:\d+ )?{_FILLER}{{{CHARACTERS},}}", "(a text that is not there yet)", text)


def estimate(
    section: AnnotateSection, source: str, prompts: Sequence[Prompt], asker: Asker, response: int | None = None
) -> list[StageEstimate]:
    """What is left to be asked, with texts of the longest kind where there are none yet; `asker` is not live.

    Refinements are those of all feedback that is not there yet, as if none of it were good. `response`: tokens of a
    response at most, where there are none yet.
    """
    if section.kind == "qa":
        annotate(section, source, prompts, asker)
    else:
        _ask_all(section, source, prompts, asker, response or 1)
    by_stage: dict[str, list[tuple[int, int]]] = {}
    models = {}
    for of, question in asker.pending:
        stage = question.id.partition("-")[0]
        characters = sum(len(message["content"]) for message in question.messages)
        by_stage.setdefault(stage, []).append((-(-characters // CHARACTERS), of.max_tokens))
        models[stage] = of.model
    found = []
    for stage, counts in by_stage.items():
        read, written = (sum(column) for column in zip(*counts, strict=True))
        price = section.responses.price if stage == STAGE else section.price
        cost = None if price is None else price.price().of(read, written)
        found.append(StageEstimate(stage, models[stage], len(counts), read, written, cost))
    return found


def _ask_all(section: AnnotateSection, source: str, prompts: Sequence[Prompt], asker: Asker, response: int) -> None:
    of, longest = section.responses, _FILLER * CHARACTERS * response
    stand_ins = [
        Responded(row.id if of.number == 1 else f"{row.id}-{n}", row.prompt, f"{n} {longest}", row.reference)
        for row in prompts
        for n in range(of.number)
    ]
    drawn = stand_ins
    if of.base is None:
        there, rejected = responses(section, source, prompts, asker)
        not_yet = {one.id for one in rejected if one.reason == NOT_YET}
        drawn = [*there, *(one for one in stand_ins if one.id in not_yet)]
    asked, _ = unique(drawn)
    passes = Passes(section, asker)
    longest = _FILLER * CHARACTERS * section.endpoint.max_tokens
    feedback: dict[str, str] = {}
    for id, (answer, found) in passes.feedback(asked).items():
        if isinstance(found, Feedback):
            feedback |= {} if found.good else {id: found.text}
        elif answer.error == NOT_YET:
            feedback[id] = longest
    passes.refine(asked, feedback)
