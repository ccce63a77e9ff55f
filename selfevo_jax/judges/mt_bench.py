"""The prompts of MT-bench's judges, for one answer and for two.

Source: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", arXiv 2306.05685; the texts are those of
FastChat (see assets/README.md).
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from selfevo_jax.errors import ConfigError

_FOLDER = Path(__file__).parents[1] / "assets" / "mt_bench"


@dataclass(frozen=True)
class JudgePrompt:
    """What asks a judge: a system text, and a user's turn around `{question}` and the answers."""

    system: str
    template: str
    opening: str
    """What the judge's text begins with where it is to give its verdict at once; `CLOSING` ends it then."""

    def text(self, **parts: str) -> str:
        """The user's turn. Raises ConfigError where the template has not each part once."""
        for name in parts:
            if self.template.count(f"{{{name}}}") != 1:
                raise ConfigError(f"judge prompt: expected {{{name}}} once in it, found {self.template[:80]!r}")
        return re.sub(r"\{(\w+)\}", lambda mark: parts.get(mark[1], mark[0]), self.template)


CLOSING = "]]"


def mt_bench_pair() -> JudgePrompt:
    """For two answers (`pair-v2`): its verdict is [[A]], [[B]] or [[C]]."""
    return _read("pair-v2", "Final verdict: [[")


def mt_bench_single() -> JudgePrompt:
    """For one answer (`single-v1`): its verdict is a number from 1 to 10, as [[5]]."""
    return _read("single-v1", "Rating: [[")


@functools.cache
def _read(name: str, opening: str) -> JudgePrompt:
    fields = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return JudgePrompt(fields["system_prompt"], fields["prompt_template"], opening)
