"""A server that judges each candidate by itself, in a verdict or a rating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfevo_jax.errors import ConfigError
from selfevo_jax.judges.base import Assessment, Case, ChainJudge, Reply
from selfevo_jax.judges.mt_bench import JudgePrompt, mt_bench_single
from selfevo_jax.judges.server import EndpointSection
from selfevo_jax.text import JUDGE_VERDICT

_SYSTEM = "You are a careful and impartial judge of answers."
_VERDICT = (
    f"[Question]\n{{question}}\n\n[The Start of the Answer]\n{{answer}}\n[The End of the Answer]\n\n{JUDGE_VERDICT}"
)


@dataclass(frozen=True)
class EndpointJudge:
    """Asks about each candidate once, and reads the text as `reader` reads feedback."""

    server: EndpointSection
    reader: ChainJudge
    prompt: JudgePrompt
    name: str = "endpoint"
    reads_labels: bool = False
    compares: bool = False
    brief: bool = False

    def shown(self, case: Case) -> dict[str, str]:
        # equal candidates are asked about once
        first = [(at, text) for at, text in enumerate(case.texts) if text is not None and case.texts.index(text) == at]
        return {str(at): self.prompt.text(question=case.prompt, answer=text) for at, text in first}

    def assessed(self, case: Case, replies: Mapping[str, Reply]) -> list[Assessment]:
        return [
            Assessment(None) if text is None else self._read(replies[str(case.texts.index(text))])
            for text in case.texts
        ]

    def _read(self, reply: Reply) -> Assessment:
        if reply.error is not None:
            return Assessment(None, unread="not asked")
        if not reply.whole:
            return Assessment(None, text=reply.text, unread="clipped")
        said = self.reader.read(reply.text)
        return Assessment(said.good, said.rating, reply.text, "no verdict" if said.good is None else None)


def question_of(instruction: str | None, form: str, scale: float) -> JudgePrompt:
    """How a server is asked about one answer. Raises ConfigError for an instruction that does not show both texts, and
    for a scale that the default does not ask for."""
    if instruction is not None:
        for part in ("{prompt}", "{answer}"):
            if instruction.count(part) != 1:
                raise ConfigError(f"judge.batch.instruction: expected {part} once in it, found {instruction[:80]!r}")
        if "{question}" in instruction:
            raise ConfigError("judge.batch.instruction: found {question} in it; the prompt is {prompt}")
        return JudgePrompt(_SYSTEM, instruction.replace("{prompt}", "{question}"), "")
    if form == "verdict":
        return JudgePrompt(_SYSTEM, _VERDICT, "")
    if scale != 10:
        raise ConfigError(
            f"judge.scale: found {scale:g}, but the default question asks for marks up to 10; set it to 10, or give "
            "judge.batch.instruction"
        )
    return mt_bench_single()
