"""The stage of a chain that judges an answer: every text of feedback that the judge asks for, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfevo_jax.chains.base import ChainFormat, Turns, until
from selfevo_jax.chains.trace import Feedback
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import ChainJudge, Judged, Weighed
from selfevo_jax.sample import Completion, DrawKey, Request, SamplingParams
from selfevo_jax.text import Verdict

Decode = Callable[[Sequence[int]], str]
_UNREAD = Verdict(None, None)


@dataclass(frozen=True)
class Judgement:
    """Of one answer."""

    feedback: Feedback
    so_far: tuple[int, ...]
    """The ids up to the end of the text that the chain goes on from."""
    error: str | None = None
    """The engine's message where no text of feedback could be asked for."""


def judging(
    judge: ChainJudge,
    answered: Sequence[int],
    fmt: ChainFormat,
    params: SamplingParams,
    decode: Decode,
    key: DrawKey,
) -> Turns[Judgement]:
    """Asks for feedback on the answer that `answered` (ids up to its end) ends in, and reads it.

    The further texts of a judge that asks for several are drawn by stages of their own, `STAGE.1` and so on; the words
    that a judge weighs are asked for as `STAGE.good` and `STAGE.bad`. A text that came to no end of its own, or could
    not be asked for, is never read.
    """
    starts = [fmt.judge(answered, text) for text in judge.asks]
    keys = [replace(key, stage=f"{key.stage}.{n}") if n else key for n in range(len(starts))]
    requests = [Request(tuple(start), params, key) for start, key in zip(starts, keys, strict=True)]
    drawn: list[Completion] = yield requests
    texts: list[Feedback] = []
    for last, request in zip(drawn, requests, strict=True):
        texts.append((yield from _read(judge, last, request, fmt, decode)))
    together = judge.joined([Verdict(text.good, text.rating) for text in texts])
    at = _spokesman(texts, together)
    said = replace(texts[at], good=together.good, rating=together.rating)
    if len(texts) > 1:
        said = replace(said, members=tuple(texts))
    errors = [last.error for last in drawn if last.finish == "error"]
    return Judgement(said, (*starts[at], *said.tokens), errors[0] if len(errors) == len(drawn) else None)


def _read(judge: ChainJudge, last: Completion, request: Request, fmt: ChainFormat, decode: Decode) -> Turns[Feedback]:
    if last.finish == "error":
        return Feedback("", "error", None, None, error=last.error)
    said = judge.read(last.text)
    own = last if said.end is None else until(last, said.end, decode)
    if not own.finished:
        said = _UNREAD
    elif judge.weighs is not None:
        said = yield from _weighed(judge.weighs, own, request, fmt, decode)
    else:
        said = judge.scored(said, own.scores)
    return Feedback(own.text, own.finish, said.good, said.rating, own.tokens, own.end, own.scores)


def _spokesman(texts: Sequence[Feedback], together: Judged) -> int:
    """Which text the chain goes on from: of those that say what all say together the first with the nearest score."""

    def apart(at: int) -> tuple[bool, bool, float]:
        text, score = texts[at], together.rating
        far = 0.0 if text.rating is None or score is None else abs(text.rating - score)
        return text.good is None, text.good != together.good, far

    return min(range(len(texts)), key=apart)


def _weighed(
    weighs: Weighed, own: Completion, request: Request, fmt: ChainFormat, decode: Decode
) -> Generator[Any, Any, Judged]:
    at = weighs.place(own.text)
    if at is None:
        return _UNREAD
    head = until(own, at, decode)
    written = decode(head.tokens)
    if len(written) < len(own.text[:at].rstrip()):
        return _UNREAD  # a token lies across the place
    text = (*request.tokens, *head.tokens)
    shared, good, bad = told_apart(weighs, text, fmt, "" if written[-1:].isspace() else " ")
    one = SamplingParams(max_new_tokens=1)
    asked = [
        Request((*text, *shared), one, replace(request.key, stage=f"{request.key.stage}.{name}"), forced)
        for name, forced in (("good", good), ("bad", bad))
    ]
    found: list[Completion] = yield asked
    if any(last.finish == "error" for last in found):
        return _UNREAD
    return weighs.weighed(*(last.scores[0] for last in found))


def told_apart(weighs: Weighed, text: Sequence[int], fmt: ChainFormat, gap: str = " ") -> tuple[list[int], int, int]:
    """The ids that both words, behind a gap, begin with after a text, and then the first ones in which they differ: a
    word is known by that one alone.

    Raises ConfigError where one word is the beginning of the other.
    """
    good, bad = (fmt.continuation(text, gap + word) for word in (weighs.good, weighs.bad))
    differ = next((n for n, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b), None)
    if differ is None:
        raise ConfigError(
            f"judge.likelihood: behind {weighs.lead!r} one of {weighs.good!r} and {weighs.bad!r} begins with all "
            "tokens of the other, so that their probabilities cannot be told apart; name other words"
        )
    return good[:differ], good[differ], bad[differ]


def words_notice(judge: ChainJudge, fmt: ChainFormat, decode: Decode) -> str | None:
    """What the user should know of the words that a judge weighs, by this tokenizer; None where each is one token.

    Raises ConfigError for words that cannot be told apart.
    """
    weighs = judge.weighs
    if weighs is None:
        return None
    asked = fmt.judge(fmt.respond("?"))
    text = [*asked, *fmt.continuation(asked, weighs.lead)]
    shared, *firsts = told_apart(weighs, text, fmt)
    parts = [decode([*shared, first]).strip() for first in firsts]
    words = (weighs.good, weighs.bad)
    if parts == [*words]:
        return None
    known = " and ".join(f"'{word}' by '{part}'" for word, part in zip(words, parts, strict=True))
    return (
        f"judge.likelihood: this tokenizer has no token for each word: {known} is all that is told apart, and what "
        "else begins so counts as that word"
    )
