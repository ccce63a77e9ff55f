"""Drafts of the next tokens, looked up in a slot's own text: refinements copy most of a response, feedback quotes it.

Source: prompt lookup decoding (Saxena, 2023, https://github.com/apoorvumang/prompt-lookup-decoding), with the longest
match in place of n-grams of one length.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

LONGEST = 8
"""Tokens of a match at most: of several that are as long the latest counts."""


def proposed(text: jax.Array, position: jax.Array, drafts: int) -> tuple[jax.Array, jax.Array]:
    """The tokens that followed where a text's end stood in it before, and again from there where too few did.

    text i32[E, C] holds the tokens of each row at 0 to `position` i32[E]; what lies behind is not looked at.

    Returns drafts i32[E, drafts], and bool[E]: whether the last token stands anywhere before. Of a row without such a
    place the drafts are tokens of its text, and as good as none.
    """
    n_rows, length = text.shape
    index = jnp.arange(length)
    same, matched = jnp.ones((n_rows, length), bool), jnp.zeros((n_rows, length), jnp.int32)
    for back in range(min(LONGEST, length)):
        before = jnp.pad(text, ((0, 0), (back, 0)), constant_values=-1)[:, :length]
        last = jnp.take_along_axis(text, jnp.maximum(position - back, 0)[:, None], axis=1, mode="clip")
        same &= (before == last) & (position >= back)[:, None]
        matched += same
    earlier = (index < position[:, None]) & (matched > 0)
    place = jnp.argmax(jnp.where(earlier, matched * length + index, -1), axis=1)
    span = jnp.maximum(position - place, 1)
    after = place[:, None] + 1 + jnp.arange(drafts) % span[:, None]
    return jnp.take_along_axis(text, after, axis=1, mode="clip"), jnp.any(earlier, axis=1)


def written(text: jax.Array, position: jax.Array, token: jax.Array, rows: jax.Array) -> jax.Array:
    """The text i32[E, C] with the token of each of these `rows` bool[E] at its position; one out of range is left
    out."""
    return text.at[jnp.arange(text.shape[0]), jnp.where(rows, position, text.shape[1])].set(token, mode="drop")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["token", "position", "count", "active", "text", "drawn", "logprobs", "made"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Grown:
    """What the steps of one dispatch have made of E rows (see `Rows` and `Dispatcher.decode_many`), and the text that
    drafts are looked up in."""

    token: jax.Array
    position: jax.Array
    count: jax.Array
    active: jax.Array
    text: jax.Array | None
    """i32[E, window]: the tokens up to `position`, where drafts are looked up in it."""
    drawn: jax.Array
    logprobs: jax.Array
    made: jax.Array

    def with_token(
        self, step: jax.Array, i: Any, new: jax.Array, logprob: jax.Array, going: jax.Array, over: jax.Array
    ) -> Grown:
        """With the i-th token of a step in the rows that are `going`, which ends those that are `over`."""
        more = going.astype(jnp.int32)
        token, position = jnp.where(going, new, self.token), self.position + more
        return Grown(
            token,
            position,
            self.count + more,
            self.active & ~(going & over),
            None if self.text is None else written(self.text, position, token, going),
            self.drawn.at[step, i].set(token),
            self.logprobs.at[step, i].set(logprob),
            self.made.at[step].add(more),
        )
