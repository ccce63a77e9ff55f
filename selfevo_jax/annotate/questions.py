"""What an annotator is asked: for feedback on a response, for a refinement, for an answer."""

from __future__ import annotations

from collections.abc import Sequence

from selfevo_jax.annotate import aspects
from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.annotate.steps import numbered
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import JudgePrompt
from selfevo_jax.text import JUDGE_RATING, JUDGE_VERDICT

Messages = tuple[dict[str, str], ...]
_PARTS = ("prompt", "response", "feedback", "reference")

_SYSTEM = (
    "You are a careful teacher. A student has answered a question, and your feedback helps the student to see what is "
    "wrong and how to do better."
)
_QUESTION = "[Question]\n{prompt}\n\n"
_REFERENCE = "[Reference answer, which the student does not know: never speak of it]\n{reference}\n\n"
_RESPONSE = "[Answer of the student]\n{response}\n[End of the answer]\n\n"
_FEEDBACK = "[Feedback]\n{feedback}\n[End of the feedback]\n\n"
_BY_STEPS = (
    "The answer has {n}, numbered above. Go through the steps in their order, with one line for each that begins with "
    '"Step 1:", "Step 2:" and so on, and says '
)
_VERDICT_BY_STEPS = (
    '"right" or "wrong" and why, with the calculation or the fact that shows it. At the first wrong step say what is '
    'right instead, and stop there. Do not write a new answer. End with one line: "Verdict: correct" or "Verdict: '
    'incorrect".'
)
_RATING_BY_STEPS = (
    "what is good and what is lacking in it. Do not write a new answer. End with one line: "
    '"Rating: n/10", where 10 needs no change.'
)
_REFINE = (
    "Write the student's answer again using this feedback. Keep what is right and the student's own form; change what "
    "the feedback calls wrong. Give only the new answer."
)


class Questions:
    """The questions of an annotation. Raises ConfigError for a template that does not hold its parts once."""

    def __init__(self, section: AnnotateSection) -> None:
        self._section = section
        own = section.templates
        reference = _REFERENCE if section.reference else ""
        system = _SYSTEM if own.system is None else own.system
        self._feedback = JudgePrompt(system, own.feedback or f"{_QUESTION}{reference}{_RESPONSE}", "")
        self._refine = JudgePrompt(system, own.refine or f"{_QUESTION}{reference}{_RESPONSE}{_FEEDBACK}{_REFINE}", "")
        self._answer = JudgePrompt("", own.answer or "{prompt}", "")
        reference_parts = ("reference",) if section.reference else ()
        for name, asks, parts in (
            ("feedback", self._feedback, ("prompt", "response", *reference_parts)),
            ("refine", self._refine, ("prompt", "response", "feedback", *reference_parts)),
            ("answer", self._answer, ("prompt",)),
        ):
            _check(f"templates.{name}", asks.template, parts)

    def feedback(self, prompt: str, response: str, reference: str, steps: list[str]) -> Messages:
        """`steps`: of the response, where feedback goes by them."""
        own = self._section.templates.feedback is not None
        shown = numbered(steps) if self._section.stepwise else response
        asks = self._parts(self._feedback, prompt=prompt, response=shown, reference=reference)
        return _messages(self._feedback.system, asks if own else asks + self._task(len(steps)))

    def _task(self, steps: int) -> str:
        section = self._section
        if section.aspects:
            return aspects.task(section.aspects)
        if not section.stepwise:
            return JUDGE_RATING if section.rated else JUDGE_VERDICT
        how = _RATING_BY_STEPS if section.rated else _VERDICT_BY_STEPS
        return _BY_STEPS.replace("{n}", "1 step" if steps == 1 else f"{steps} steps") + how

    def refine(self, prompt: str, response: str, feedback: str, reference: str) -> Messages:
        parts = {"prompt": prompt, "response": response, "feedback": feedback, "reference": reference}
        return _messages(self._refine.system, self._parts(self._refine, **parts))

    def answer(self, prompt: str) -> Messages:
        """What asks for an answer, as a user would."""
        return _messages(self._answer.system, self._answer.text(prompt=prompt))

    def _parts(self, asks: JudgePrompt, **parts: str) -> str:
        if not self._section.reference:
            del parts["reference"]
        return asks.text(**parts)


def _check(key: str, template: str, parts: Sequence[str]) -> None:
    for part in _PARTS:
        found, wanted = template.count(f"{{{part}}}"), int(part in parts)
        if found != wanted:
            times = ("no", "one", f"{found}")
            raise ConfigError(
                f"{key}: found {times[min(found, 2)]} {{{part}}} in it, expected {times[wanted]}; it stands around "
                f"{', '.join(f'{{{one}}}' for one in parts)}"
            )


def _messages(system: str, user: str) -> Messages:
    asks = {"role": "user", "content": user}
    return ({"role": "system", "content": system}, asks) if system else (asks,)
