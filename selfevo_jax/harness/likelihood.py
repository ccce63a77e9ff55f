"""How probable the model finds a text behind another, by requests of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.chains import Generated, Turns
from selfevo_jax.errors import ModelError
from selfevo_jax.sample import DrawKey, Request, SamplingParams
from selfevo_jax.text import PromptFormat
from selfevo_jax.text.tokenizer import BaseTokenizer

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""The ids before a text, at least one, and its own."""


@dataclass(frozen=True)
class Likelihood:
    """Of one text."""

    logprob: float
    """Natural logarithm, summed over its tokens."""
    greedy: bool
    """Whether greedy sampling would give this text."""
    error: str | None = None
    """The engine's message where a request could not be run."""
    tokens: int = 0
    """Of the text."""


def scoring(id: str, pair: Pair, greedy: bool = True) -> Generated[Likelihood]:
    """A chain that asks for one token of the text after the other, and goes on from each in the slot's cache.

    With `greedy` it first lets the model write: what it writes that is the text needs no further request. Without,
    `Likelihood.greedy` is False.
    """
    return Generated(id, _turns(id, *pair, greedy))


def _turns(id: str, before: tuple[int, ...], text: tuple[int, ...], greedy: bool) -> Turns[Likelihood]:
    logprobs: list[float] = []
    if greedy and text:
        params = SamplingParams(temperature=0.0, max_new_tokens=len(text))
        written = yield Request(before, params, DrawKey(stage="greedy", prompt_id=id))
        if written.finish == "error":
            return Likelihood(0.0, False, written.error)
        for wanted, token, logprob in zip(text, written.tokens, written.logprobs, strict=False):
            if wanted != token:
                break
            logprobs.append(logprob)
    whole = len(logprobs) == len(text)
    one = SamplingParams(temperature=0.0, max_new_tokens=1)
    for at in range(len(logprobs), len(text)):
        key = DrawKey(stage=f"token {at}", prompt_id=id)
        given = yield Request((*before, *text[:at]), one, key, forced=text[at])
        if given.finish == "error":
            return Likelihood(0.0, False, given.error)
        logprobs.append(given.scores[0])
    return Likelihood(sum(logprobs), whole and greedy, tokens=len(text))


def asked(format: PromptFormat, tokenizer: BaseTokenizer, context: str, text: str) -> Pair:
    """The ids of a text behind its context, which is a prompt of the format.

    Where the format is the prompt alone (`format.respond: "{prompt}"`), both are one text, cut behind the ids of the
    context; the white space at its end belongs to what follows. Else the text is an answer: one space that it begins
    with gives way to what stands before answers in this format. An empty context is the beginning of a text.

    Raises ModelError where the tokenizer has no id to begin a text with, and the context is empty.
    """
    if not context:
        return (beginning(tokenizer),), tuple(tokenizer.encode_run(text, prefix=True))
    if not is_bare(format):
        before = format.respond(context)
        return tuple(before), tuple(format.continuation(before, text.removeprefix(" ")))
    shorter = context.rstrip()
    before, whole = format.respond(shorter), format.respond(context + text)
    return tuple(before) or (beginning(tokenizer),), tuple(whole[len(before) :])


def is_bare(format: PromptFormat) -> bool:
    """Whether a prompt of the format is the text alone."""
    config = format.config
    return config.kind == "plain" and config.respond == "{prompt}" and config.system is None


def beginning(tokenizer: BaseTokenizer) -> int:
    """The id that stands before a text that nothing stands before: BOS, else the end of the text before it."""
    if tokenizer.bos_id is not None:
        return tokenizer.bos_id
    if not tokenizer.eos_ids:
        raise ModelError(f"{tokenizer.name}: no token begins or ends a text, so the first one has no probability")
    return tokenizer.eos_ids[0]


def windows(ids: Sequence[int], first: int, length: int) -> list[Pair]:
    """A long text in pieces of at most `length` tokens with what stands before them: each token once, behind as much of
    the text as fits (the windows of lm-evaluation-harness). `first` stands before the text."""
    found: list[Pair] = []
    at = 0
    while at < len(ids):
        end = min(len(ids), at + length)
        # what stands before the last id of a piece is as long as a slot
        before = tuple(ids[end - length - 1 : at]) if at else (first,)
        found.append((before, tuple(ids[at:end])))
        at = end
    return found
