"""What a model thinks aloud before it answers, where its server or template leaves that in the text."""

from __future__ import annotations

import re
from collections.abc import Callable

_NAMES = r"(?:think|thinking|thought|reasoning)"
_OPENED = re.compile(rf"<{_NAMES}>|\[think\]", re.IGNORECASE)
_CLOSED = re.compile(rf"</{_NAMES}>|\[/think\]", re.IGNORECASE)


def behind_thinking(text: str, runs_on: Callable[[str], bool] = lambda before: False) -> int | None:
    """Where the answer itself begins: 0 where there is no thinking before it; None where the thinking does not end.

    A closing mark alone counts too: templates that open the thinking do so in the prompt, which is no part of the text.
    What is thought where the text `runs_on` before it, in an invented next question, is not before the answer.
    """
    closed = _CLOSED.search(text)
    if closed is None:
        return None if _OPENED.match(text.lstrip()) else 0
    opened = _OPENED.search(text, 0, closed.start())
    return 0 if opened is not None and runs_on(text[: opened.start()]) else closed.end()


def own_part(text: str, runs_on: Callable[[str], bool] = lambda before: False) -> slice:
    """Where the answer itself is: behind what is only thought before it (see `behind_thinking`), or before that, where
    nothing comes behind it. Empty where the thinking does not end, or is all there is."""
    begin = behind_thinking(text, runs_on)
    if begin is None:
        return slice(len(text), len(text))
    if begin and not text[begin:].strip():
        opened = _OPENED.search(text, 0, begin)
        if opened is not None and text[: opened.start()].strip():
            return slice(0, opened.start())
    return slice(begin, len(text))
