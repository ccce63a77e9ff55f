"""How a token is chosen from logits: temperature, top-k, top-p, min-p, and draws that depend on a key alone.

Every draw is keyed by (seed, round, stage, prompt id, sample, position), so that a completion depends on
neither the slot, nor the batch, nor the order of work; there is no sampler state to store.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from selfevo_jax.sample.params import SamplingParams
from selfevo_jax.sample.ranks import largest_kept

MIN_TEMPERATURE = 1e-5
"""Positive temperatures below this count as this: fp32 differences of logits divided by less overflow."""
_MASS_TOLERANCE = 1e-6
"""Rounding allowed when the probability of several tokens is compared with top-p."""
KEY_WORDS = 7
_BLOCKS = 128
"""Into how many blocks the vocabulary is cut for a draw, at most. A power of two, so that shards hold whole blocks."""


def key_words(seed: int, round_: int, stage: str, prompt_id: str, sample: int) -> np.ndarray:
    """The draw key of a completion as u32[KEY_WORDS]; names enter by a hash that is stable over machines."""

    def hashed(text: str) -> tuple[int, int]:
        digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")

    words = (seed, round_, *hashed(stage), *hashed(prompt_id), sample)
    return np.asarray([w & 0xFFFFFFFF for w in words], np.uint32)


def make_keys(words: jax.Array) -> jax.Array:
    """Typed keys [B] from u32[B, KEY_WORDS]: the words folded in one after the other."""

    def one(row: jax.Array) -> jax.Array:
        start = jax.random.key(0, impl="threefry2x32")
        return jax.lax.fori_loop(0, KEY_WORDS, lambda i, key: jax.random.fold_in(key, row[i]), start)

    return jax.vmap(one)(words)


def filter_logits(
    logits: jax.Array, temperature: jax.Array, top_k: jax.Array, top_p: jax.Array, min_p: jax.Array
) -> jax.Array:
    """Tempered and filtered logits f32[B, V]; dropped tokens are -inf, the most probable one always stays.

    The order is temperature, top-k, top-p, min-p. top_p acts on the mass that top-k left, and keeps the smallest
    set that reaches it (Holtzman et al., 2020); min_p is relative to the most probable token (Nguyen et al., 2024).
    temperature, top_k, top_p, min_p are [B]; a row of temperature 0 is treated as MIN_TEMPERATURE here.
    """
    vocab = logits.shape[-1]
    top = jnp.max(logits, axis=-1, keepdims=True)
    scaled = (logits - top) / jnp.maximum(temperature, MIN_TEMPERATURE)[:, None]

    def by_rank(scores: jax.Array) -> jax.Array:
        k = jnp.where(top_k > 0, jnp.minimum(top_k, vocab), vocab)
        mass = jnp.where(top_p < 1, top_p - _MASS_TOLERANCE, 1.0)
        return jnp.where(largest_kept(scores, k, mass), scores, -jnp.inf)

    ranked = jnp.any((top_k > 0) | (top_p < 1))
    kept = jax.lax.cond(ranked, by_rank, lambda scores: scores, scaled)
    floor = jnp.log(jnp.maximum(min_p, 1e-38))[:, None] - _MASS_TOLERANCE
    return jnp.where((min_p > 0)[:, None] & (kept < floor), -jnp.inf, kept)


@dataclass(frozen=True)
class DrawSettings:
    """The sampling settings of B rows as arrays [B]."""

    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    min_p: jax.Array


jax.tree_util.register_dataclass(DrawSettings, ["temperature", "top_k", "top_p", "min_p"], [])


def settings_of(params: Sequence[SamplingParams]) -> DrawSettings:
    """Host arrays [B] from one SamplingParams per row."""
    return DrawSettings(
        temperature=np.asarray([p.temperature for p in params], np.float32),  # type: ignore[arg-type]
        top_k=np.asarray([min(p.top_k, 2**31 - 1) for p in params], np.int32),  # type: ignore[arg-type]
        top_p=np.asarray([p.top_p for p in params], np.float32),  # type: ignore[arg-type]
        min_p=np.asarray([p.min_p for p in params], np.float32),  # type: ignore[arg-type]
    )


def drawable_ids(tokenizer: Any, vocab_size: int) -> np.ndarray | None:
    """bool[V]: ids that may be drawn, those that the tokenizer has a text for or knows as control tokens; None for all.

    A tokenizer that does not say which (`BaseTokenizer.drawable`) has a text for each id below its vocab_size; without
    a tokenizer, where nothing is run, the mask keeps all.
    """
    if tokenizer is None:
        return np.ones(vocab_size, bool)
    told = getattr(tokenizer, "drawable", None)
    found: np.ndarray = np.arange(vocab_size) < tokenizer.vocab_size if told is None else told(vocab_size)
    return None if found.all() else found


def first_largest(scores: jax.Array) -> jax.Array:
    """i32[B]: the index of the first of the largest scores of each row f32[B, V]; of a row with a NaN any index.

    What `jnp.argmax` gives of numbers. That is a reduction of pairs, which XLA on a CPU computes element by element.
    """
    last = scores.shape[-1] - 1
    largest = scores == jnp.max(scores, axis=-1, keepdims=True)
    return jnp.min(jnp.where(largest, jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1), last), axis=-1)


def _noise(keys: jax.Array, n: int) -> jax.Array:
    """Gumbel noise f32[B, n] of keys [B]."""
    return jax.vmap(lambda key: jax.random.gumbel(key, (n,), jnp.float32))(keys)


def sampled(scores: jax.Array, keys: jax.Array) -> jax.Array:
    """i32[B]: a token of each row, drawn in proportion to the exponential of its score; keys [B], used for this alone.

    The Gumbel-max trick twice: among blocks of the vocabulary, by what their tokens weigh together, and among the
    tokens of the block that was drawn. That takes a random number for each block and each place in a block, where one
    trick over all takes one for each token of the vocabulary (benchmarks/filters.py).

    Args:
      scores: f32[B, V], of which the largest of a row is 0; -inf is never drawn. A row with a NaN gets any token.
    """
    rows, vocab = scores.shape
    blocks = min(_BLOCKS, 1 << vocab.bit_length() // 2)
    width = -(-vocab // blocks)
    filled = jnp.pad(scores, ((0, 0), (0, blocks * width - vocab)), constant_values=-jnp.inf)
    of_blocks = filled.reshape(rows, blocks, width)
    among, inside = jax.vmap(jax.random.split, out_axes=1)(keys)
    block = first_largest(jnp.log(jnp.sum(jnp.exp(of_blocks), axis=-1)) + _noise(among, blocks))
    # the others are left out, and none is taken out of the rest: that would send a sharded vocabulary around
    drawn = jnp.arange(blocks) == block[:, None]
    noisy = jnp.where(drawn[:, :, None], of_blocks + _noise(inside, width)[:, None], -jnp.inf)
    return jnp.minimum(first_largest(noisy.reshape(rows, -1)), vocab - 1)


def draw(
    logits: jax.Array,
    keys: jax.Array,
    positions: jax.Array,
    settings: DrawSettings,
    allowed: jax.Array | None = None,
    forced: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Choose one token a row: (tokens i32[B], log-probabilities f32[B]).

    Args:
      logits: f32[B, V].
      keys: typed keys [B], one a completion; the draw's own key is fold_in(key, position).
      positions: i32[B], the index of the new token within its completion.
      settings: arrays [B]; temperature 0 takes the first maximum.
      allowed: bool[V], the ids that may be drawn; the others have no probability. None allows all.
      forced: i32[B], the ids to take in place of a draw; a row of -1 is drawn, and so are all where this is None.

    The log-probability is that of the model's own distribution over what is allowed, neither tempered nor filtered. A
    row whose logits are not finite gets a log-probability that is not finite either.
    """
    if allowed is not None:
        logits = jnp.where(allowed, logits, -jnp.inf)
    greedy = first_largest(logits)

    def drawn(_: None) -> jax.Array:
        kept = filter_logits(logits, settings.temperature, settings.top_k, settings.top_p, settings.min_p)
        here = jax.vmap(jax.random.fold_in)(keys, positions)
        return jnp.where(settings.temperature > 0, sampled(kept, here), greedy)

    tokens = jax.lax.cond(jnp.any(settings.temperature > 0), drawn, lambda _: greedy, None)
    if forced is not None:
        tokens = jnp.where(forced >= 0, forced, tokens)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return tokens, chosen - jax.nn.logsumexp(logits, axis=-1)
