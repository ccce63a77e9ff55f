"""Text out of a growing list of tokens: whole characters only."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol


class TokenBytes(Protocol):
    """What is needed of a tokenizer to decode token by token."""

    @property
    def prefix_space(self) -> bool: ...

    def token_bytes(self, id: int) -> bytes: ...


class StreamDecoder:
    """Decodes token by token; what `push` has given back joins to `tokenizer.decode` of the same ids, at any time.

    Bytes that can never become a character turn into U+FFFD, one for each maximal faulty run (Unicode 3.9).
    """

    def __init__(self, tokenizer: TokenBytes) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = bool(getattr(tokenizer, "prefix_space", False))

    def push(self, id: int) -> str:
        """Takes the next token; gives back the characters that are complete with it."""
        piece = self._tokenizer.token_bytes(id)
        if self._at_start and piece:
            self._at_start = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def finish(self) -> tuple[str, bool]:
        """(what is left to show, whether the text ends with a whole character). Half a character is never shown."""
        pending = self._decoder.getstate()[0]
        return "", not pending


def first_stop(text: str, stop_strings: Sequence[str]) -> int | None:
    """Where the earliest match of any stop string begins; None without one. Empty stop strings never match."""
    places = [at for stop in stop_strings if stop and (at := text.find(stop)) >= 0]
    return min(places, default=None)
