"""Rows of a model that its tokenizer has no text for are never drawn, and take no probability from the others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sample_helpers import CONFIG, random_params

from selfevo_jax.checkpoint import open_model
from selfevo_jax.model import Transformer
from selfevo_jax.sample import DrawKey, Engine, Request, SamplingParams
from selfevo_jax.sharding import make_mesh

TEXTS, ROWS = 164, 168
PADDED = dataclasses.replace(CONFIG, vocab_size=ROWS)


@pytest.fixture(scope="module")
def tokenizer():
    found = open_model("builtin:stories").tokenizer
    assert found.vocab_size == TEXTS
    return found


def params():
    """Every row past the tokenizer is the likeliest: its logit is the largest whatever the text."""
    made = random_params(config=PADDED)
    table = made["embedding"]
    return made | {"embedding": table.at[TEXTS:].set(4 * table[:4])}


def engine(tokenizer, **kw):
    return Engine(PADDED, tokenizer, slots=4, cache_length=64, extend_rows=(4,), extend_lengths=(16,), **kw)


def rows(temperature):
    wanted = SamplingParams(temperature=temperature, max_new_tokens=24)
    return [Request((1, 5, 9 + i), wanted, DrawKey(0, "respond", f"p{i}")) for i in range(4)]


@pytest.mark.parametrize("shape", [None, (2, 1, 2)])
def test_no_id_past_the_tokenizer_is_drawn_and_the_others_probabilities_sum_to_one(tokenizer, shape):
    mesh = None if shape is None else make_mesh(*shape, jax.devices()[: int(np.prod(shape))])
    e = engine(tokenizer, mesh=mesh)
    forward, would_win = jax.jit(Transformer(PADDED).apply), []
    for temperature in (0.0, 1.0):
        for row, got in zip(rows(temperature), e.generate(params(), rows(temperature)), strict=True):
            assert got.error is None
            assert len(got.tokens) == 24
            assert max(got.tokens) < TEXTS
            whole = jnp.asarray([row.tokens + got.tokens])
            logits = np.asarray(forward({"params": params()}, whole, jnp.arange(27)[None])[0][0, 2:-1], np.float64)
            would_win.append((logits.argmax(1) >= TEXTS).mean())
            known = logits[:, :TEXTS]
            expected = known - np.log(np.exp(known - known.max(1, keepdims=True)).sum(1, keepdims=True))
            expected = (expected - known.max(1, keepdims=True))[np.arange(24), list(got.tokens)]
            np.testing.assert_allclose(got.logprobs, expected, atol=1e-4)
    assert np.mean(would_win) > 0.2


def test_a_stop_id_without_a_token_is_refused_by_row(tokenizer):
    wanted = Request((1, 5), SamplingParams(stop_ids=(TEXTS + 1,)), DrawKey(0, "respond", "p"))
    (got,) = engine(tokenizer).generate(params(), [wanted])
    assert got.finish == "error"
    assert f"stop id {TEXTS + 1} has no token in the tokenizer" in got.error


def test_a_tokenizer_for_every_row_needs_no_mask(tokenizer):
    assert engine(tokenizer).drawable.sum() == TEXTS
    same = Engine(dataclasses.replace(CONFIG, vocab_size=TEXTS), tokenizer, slots=1, cache_length=32)
    assert same.drawable is None
