"""What was written is opened again, as any model is, and compared with what it was made of: ids and logits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from selfevo_jax.checkpoint import ModelSource, open_model
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, Transformer
from selfevo_jax.text.tokenizer import BaseTokenizer

TOLERANCE = 1e-4
"""Of a logit, or this share of the largest one where that is above 1: the same numbers in fp32."""

_UNKNOWN = "\u2047"
"""What SentencePiece shows for text without a piece, and others do not."""


def logits_of(config: ModelConfig, params: Any, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """fp32 logits of every position of the prompts, one after the other: `[positions, V]`. The parameters may be of any
    dtype; the arithmetic is fp32."""
    length = max(map(len, prompts))
    ids = np.zeros((len(prompts), length), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    where = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)

    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    found = np.asarray(_apply_of(config)({"params": wide}, ids, where)[0])
    return np.concatenate([row[: len(prompt)] for row, prompt in zip(found, prompts, strict=True)])


@functools.lru_cache(maxsize=1)
def _apply_of(config: ModelConfig) -> Any:
    return jax.jit(Transformer(config).apply)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of a logit."""
    return float(np.max(np.abs(one - other)))


def require_same(
    written: str,
    config: ModelConfig,
    tokenizer: BaseTokenizer,
    ends: Sequence[int],
    texts: Sequence[str],
    prompts: Sequence[Sequence[int]],
    wanted: np.ndarray,
) -> float:
    """Opens what was written and compares; the largest difference of a logit.

    Args:
      written: the folder or file.
      config, tokenizer: of the model that it was made of.
      ends: the ids that end a text.
      texts: whose ids are compared.
      prompts: whose logits are.
      wanted: these logits, as `logits_of` gives them, for the parameters as they were rounded.

    Raises ModelError with the first difference.
    """
    found = open_model(written)
    if found.config != config:
        known, read = config.to_dict(), found.config.to_dict()
        key = next(key for key in known if known[key] != read[key])
        raise ModelError(f"export: {key} is {read[key]} in what was written, expected {known[key]}; nothing is kept")
    _require_ids(found, tokenizer, ends, texts)
    apart = difference(logits_of(config, found.load(None, jnp.float32), prompts), wanted)
    most = TOLERANCE * max(1.0, float(np.max(np.abs(wanted))))
    if not apart <= most:
        raise ModelError(
            f"export: a logit differs by {apart:.3g} in what was written, at most {most:.3g} was expected; nothing is "
            "kept. Please report it with the model's name"
        )
    return apart


def _require_ids(found: ModelSource, tokenizer: BaseTokenizer, ends: Sequence[int], texts: Sequence[str]) -> None:
    made = found.tokenizer
    begins = [each.bos_id if each.add_bos else None for each in (made, tokenizer)]
    facts: dict[str, tuple[object, object]] = {
        "the ids that end a text": (set(made.eos_ids), {*tokenizer.eos_ids, *ends}),
        "the id that begins a text": (begins[0], begins[1]),
        "the chat template": (made.chat_template, tokenizer.chat_template),
    }
    for what, (there, here) in facts.items():
        if there != here:
            raise ModelError(f"export: {what}: found {there!r:.80} in what was written, expected {here!r:.80}")
    for text in texts:
        read, known = made.encode(text, special=True), tokenizer.encode(text, special=True)
        if read != known:
            raise ModelError(
                f"export: {text[:80]!r} has the ids {read[:12]} in what was written, expected {known[:12]}; nothing is "
                "kept: this tokenizer cannot be taken there"
            )
        said, shown = tokenizer.decode(known), made.decode(read)
        if shown != said and _UNKNOWN not in said:
            raise ModelError(f"export: the ids of {text[:80]!r} are {shown[:80]!r} there, expected {said[:80]!r}")
