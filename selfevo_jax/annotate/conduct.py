"""An annotation from rows to rows: responses, feedback on each, a refinement of what the feedback calls wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from selfevo_jax.annotate.asked import Asker
from selfevo_jax.annotate.cost import Price
from selfevo_jax.annotate.questions import Messages, Questions
from selfevo_jax.annotate.reading import CUT, Feedback, has_text, read_feedback, read_text, refinement_reader
from selfevo_jax.annotate.responses import STAGE, Base, cut_notice, responses, unique
from selfevo_jax.annotate.rows import Prompt, Rejected, Responded
from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.annotate.steps import steps_of
from selfevo_jax.data import MetaRow, QARow
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges.endpoint import Answer

FEEDBACK, REFINE, ANSWER = "feedback", "refine", "answer"
_META: TypeAdapter[MetaRow] = TypeAdapter(MetaRow)


@dataclass(frozen=True)
class Outcome:
    """What came of an annotation, in the order of its prompts."""

    rows: Sequence[MetaRow | QARow]
    rejected: Sequence[Rejected]
    copies: int = 0
    """Responses that a prompt had already, or prompts that came before: each is asked about once."""
    drawn: int = 0
    """Responses that there should be: so many to each prompt."""
    responses: int = 0
    """That feedback was asked for."""
    judged: Mapping[str, int] = field(default_factory=dict)
    """`good` and `bad` -> responses whose feedback could be read."""

    def reasons(self) -> dict[str, int]:
        """`feedback: no verdict` -> how many, the most frequent first."""
        return dict(Counter(f"{one.stage}: {one.reason}" for one in self.rejected).most_common())

    def counts(self) -> dict[str, Any]:
        """As plain JSON values."""
        cut = sum(one.stage == STAGE and one.reason == CUT for one in self.rejected)
        of = {"drawn": self.drawn, "cut": cut, "responses": self.responses, "copies": self.copies, **self.judged}
        return {"rows": len(self.rows), **of, "rejected": len(self.rejected), "reasons": self.reasons()}


def annotate(
    section: AnnotateSection, source: str, prompts: Sequence[Prompt], asker: Asker, base: Base | None = None
) -> Outcome:
    """Asks what is to be asked, and reads what is answered. `source`: the file of the prompts."""
    return _answers(section, prompts, asker) if section.kind == "qa" else _meta(section, source, prompts, asker, base)


def _answers(section: AnnotateSection, prompts: Sequence[Prompt], asker: Asker) -> Outcome:
    first: dict[str, Prompt] = {}
    for row in prompts:
        first.setdefault(row.prompt, row)
    asks = {row.id: (Questions(section).answer(row.prompt), 0) for row in first.values()}
    answers = asker.ask(ANSWER, section.endpoint, price_of(section), asks, has_text)
    rows: list[QARow] = []
    rejected = []
    for row in first.values():
        text, why = read_text(answers[row.id])
        if text is None:
            rejected.append(Rejected(row.id, row.prompt, ANSWER, why, answers[row.id].text))
        else:
            rows.append(QARow(row.id, row.prompt, text))
    return Outcome(rows, rejected, len(prompts) - len(first))


class Passes:
    """The two passes over responses."""

    def __init__(self, section: AnnotateSection, asker: Asker) -> None:
        self._section, self._asker, self._questions = section, asker, Questions(section)

    def feedback(self, asked: Sequence[Responded]) -> dict[str, tuple[Answer, Feedback | str]]:
        """By the ids of responses: the annotator's answer, and what is read of it, or why nothing is."""
        steps = {one.id: steps_of(one.response) for one in asked}
        asks = {
            one.id: self._questions.feedback(one.prompt, one.response, one.reference, steps[one.id]) for one in asked
        }

        def read(id: str, answer: Answer) -> Feedback | str:
            return read_feedback(self._section, answer, len(steps[id]))

        answers = self._ask(FEEDBACK, asks, lambda id, answer: isinstance(read(id, answer), Feedback))
        return {id: (answer, read(id, answer)) for id, answer in answers.items()}

    def refine(self, asked: Sequence[Responded], feedback: Mapping[str, str]) -> dict[str, Answer]:
        """Refinements of those responses that there is feedback on, by their ids."""
        asks = {
            one.id: self._questions.refine(one.prompt, one.response, feedback[one.id], one.reference)
            for one in asked
            if one.id in feedback
        }
        before, reader = {one.id: one.response for one in asked}, refinement_reader(self._section.judge)
        return self._ask(REFINE, asks, lambda id, answer: reader(answer, before[id])[0] is not None)

    def _ask(
        self, stage: str, asks: Mapping[str, Messages], usable: Callable[[str, Answer], bool]
    ) -> dict[str, Answer]:
        numbered = {id: (messages, 0) for id, messages in asks.items()}
        return self._asker.ask(stage, self._section.endpoint, price_of(self._section), numbered, usable)


def _meta(section: AnnotateSection, source: str, prompts: Sequence[Prompt], asker: Asker, base: Base | None) -> Outcome:
    drawn, rejected = responses(section, source, prompts, asker, base)
    wanted = len(drawn) + len(rejected)
    if (said := cut_notice(section, None if base is None else base.config, rejected, wanted)) is not None:
        asker.reporter.warn(said)
    asked, copies = unique(drawn)
    if twice := next((id for id, count in Counter(one.id for one in asked).items() if count > 1), None):
        raise ConfigError(f"{source}: two responses would have the id '{twice}'; give the rows other ids")
    passes, reader = Passes(section, asker), refinement_reader(section.judge)
    answered = passes.feedback(asked)
    read = {id: found for id, (_, found) in answered.items() if isinstance(found, Feedback)}
    refined = passes.refine(asked, {id: found.text for id, found in read.items() if not found.good})
    rows: list[MetaRow] = []
    for one in asked:
        answer, found = answered[one.id]
        if isinstance(found, str):
            rejected.append(_rejected(one, FEEDBACK, found, answer.text))
            continue
        text: str | None = one.response
        why = ""
        if not found.good:
            answer = refined[one.id]
            text, why = reader(answer, one.response)
        row = MetaRow(one.id, one.prompt, one.response, found.text, text or "", found.good, None, found.step)
        if why := why or _fault(row):
            rejected.append(_rejected(one, REFINE, why, answer.text, found.text))
        else:
            rows.append(row)
    order = {one.id: at for at, one in enumerate(drawn)}
    rejected.sort(key=lambda one: order.get(one.id, -1))
    judged = {"good": sum(found.good for found in read.values()), "bad": len(refined)}
    return Outcome(rows, rejected, copies, wanted, len(asked), judged)


def _rejected(one: Responded, stage: str, why: str, said: str, feedback: str = "") -> Rejected:
    return Rejected(one.id, one.prompt, stage, why, said, one.response, feedback)


def _fault(row: MetaRow) -> str:
    """Why a run would refuse a row; empty where it would not."""
    try:
        _META.validate_python(asdict(row))
    except ValidationError as error:
        first = error.errors()[0]
        return f"{first['loc'][0] if first['loc'] else 'row'}: {first['msg']}"
    return ""


def price_of(section: AnnotateSection) -> Price | None:
    """Of the annotator's tokens; None where it is not known."""
    return None if section.price is None else section.price.price()
