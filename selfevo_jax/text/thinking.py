"""What a model thinks aloud before it answers, where its server or template leaves that in the text."""

from __future__ import annotations

import re

_NAMES = r"(?:think|thinking|thought|reasoning)"
_OPENED = re.compile(rf"\s*(?:<{_NAMES}>|\[think\])", re.IGNORECASE)
_CLOSED = re.compile(rf"</{_NAMES}>|\[/think\]", re.IGNORECASE)


def behind_thinking(text: str) -> int | None:
    """Where the answer itself begins: 0 where there is no thinking before it; None where the thinking does not end.

    A closing mark alone counts too: templates that open the thinking do so in the prompt, which is no part of the text.
    """
    closed = _CLOSED.search(text)
    if closed is not None:
        return closed.end()
    return None if _OPENED.match(text) else 0
