"""Chat templates: rendered in a process of its own, which can spend neither memory nor time without end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfevo_jax.errors import ModelError

MAX_TEMPLATE = 200_000
"""Characters of a template."""
MAX_OUTPUT = 1_000_000
"""Characters that a template may write for a conversation."""
MEMORY = 1 << 30
"""Bytes that the process may take, Python and jinja2 included."""
CPU_SECONDS, SECONDS = 5, 10
"""Of the processor and of the clock, for all conversations; a tenth of a second is usual."""
_PACKAGES = ("jinja2", "markupsafe")
"""What the process imports beside the standard library."""

Conversation = Sequence[dict[str, str]]


class ChatTemplate:
    """A chat template.

    Args:
      source: the jinja2 text.
      name: where it came from, for messages.
      variables: bos_token, eos_token and the like, and the settings of the template's own. `tools` and `documents` are
        none unless they are among them.

    Raises:
      ModelError: the template is too long.
    """

    def __init__(self, source: str, name: str, variables: dict[str, Any] | None = None) -> None:
        if len(source) > MAX_TEMPLATE:
            raise ModelError(f"{name}: chat template of {len(source)} characters; at most {MAX_TEMPLATE} are read")
        self.name = name
        self.source, self._variables = source, {"tools": None, "documents": None, **(variables or {})}

    def render(self, *conversations: Conversation) -> list[str | ModelError]:
        """The texts of conversations, up to where the assistant is to speak, in the time of one.

        Where the template refuses a conversation, an error that names both stands in the place of its text. Raises
        ModelError when the template is not valid jinja2, or passes a limit.
        """
        found = self._ask([[dict(turn) for turn in turns] for turns in conversations])
        if isinstance(found, dict):
            raise ModelError(f"{self.name}: the chat template is not valid jinja2 ({found['refused']})")
        return [
            each["text"] if "text" in each else self._refusal(turns, each["error"])
            for turns, each in zip(conversations, found, strict=True)
        ]

    def _refusal(self, turns: Conversation, why: str) -> ModelError:
        roles = ", ".join(turn["role"] for turn in turns)
        return ModelError(f"{self.name}: the chat template refuses the turns ({roles}): {why}")

    def _ask(self, conversations: list[list[dict[str, str]]]) -> Any:
        request = {
            "source": self.source,
            "variables": self._variables,
            "conversations": conversations,
            "characters": MAX_OUTPUT,
            "memory": MEMORY,
            "seconds": CPU_SECONDS,
        }
        child = Path(__file__).with_name("template_child.py")
        folders = {str(Path(spec.origin).parents[1]) for spec in map(find_spec, _PACKAGES) if spec and spec.origin}
        command = [sys.executable, "-I", "-S", str(child), *sorted(folders)]
        try:
            done = subprocess.run(
                command, input=json.dumps(request).encode(), capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise self._stopped(f"it takes more than {SECONDS} s") from None
        if done.returncode:
            raise self._stopped(_death(done.returncode, done.stderr.decode("utf-8", "replace")))
        return json.loads(done.stdout)

    def _stopped(self, why: str) -> ModelError:
        return ModelError(f"{self.name}: the chat template was stopped: {why}; use another, or format.kind=plain")


def _death(code: int, said: str) -> str:
    if code in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)):
        return f"it takes more than {CPU_SECONDS} s of the processor, or too much memory"
    return f"its process ended with code {code}" + (f" ({said.strip().splitlines()[-1][:300]})" if said.strip() else "")
