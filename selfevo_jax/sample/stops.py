"""Text of a completion while it grows: whole characters only, and the first match of a stop string."""

from collections.abc import Sequence
from typing import Protocol


class TextTokenizer(Protocol):
    """What the engine needs of a tokenizer (see selfevo_jax.text.Tokenizer)."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def prefix_space(self) -> bool: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def token_bytes(self, id: int) -> bytes: ...


class Stream(Protocol):
    """What is needed of an incremental decoder (see selfevo_jax.text.StreamDecoder)."""

    def push(self, id: int) -> str: ...

    def finish(self) -> tuple[str, bool]: ...


class StopWatch:
    """Decodes token by token and looks for stop strings, which may begin and end anywhere within tokens."""

    def __init__(self, stream: Stream, stop_strings: Sequence[str]) -> None:
        self._stream = stream
        self._stops = tuple(stop_strings)
        self._reach = max((len(s) for s in self._stops), default=1) - 1
        self._ends: list[int] = []
        self.text = ""
        self.found: int | None = None
        """Where the first stop string begins in the text, once one has been seen."""

    def _look(self, piece: str) -> bool:
        begin = max(0, len(self.text) - self._reach)
        self.text += piece
        places = [at for stop in self._stops if (at := self.text.find(stop, begin)) >= 0]
        if places:
            self.found = min(places)
            self.text = self.text[: self.found]
        return bool(places)

    def push(self, token: int) -> bool:
        """Takes the next token; True when a stop string is now complete (push nothing after that)."""
        piece = self._stream.push(token)
        self._ends.append(len(self.text) + len(piece))
        return self._look(piece)

    def finish(self) -> bool:
        """The end of the tokens; True when a stop string shows up only now."""
        tail, clean = self._stream.finish()
        return clean and bool(tail) and self._look(tail)

    @property
    def pushed(self) -> int:
        """Tokens taken so far."""
        return len(self._ends)

    def kept(self) -> int:
        """How many tokens lie wholly before the stop string (or all, without one).

        Of several counts with the same text the least is taken: what follows are the first bytes of a character
        that belongs to the stop string.
        """
        if self.found is None:
            return len(self._ends)
        inside = [0, *(end for end in self._ends if end <= self.found)]
        return inside.index(inside[-1])
