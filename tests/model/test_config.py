"""A shape that no model has is refused at once, before anything is made of it."""

import dataclasses

import pytest

from selfevo_jax.errors import ModelError
from selfevo_jax.model import PRESETS, ModelConfig

TINY = PRESETS["tiny"].to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 10**9}, "n_layers is 1000000000, expected a whole number from 1 to 1000"),
        ({"vocab_size": 10**18}, "vocab_size"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"d_model": 64.5}, "d_model is 64.5"),
        ({"d_ff": "128"}, "d_ff is '128'"),
        ({"head_dim": True}, "head_dim is True"),
        ({"max_position": float("inf")}, "max_position is inf"),
        ({"n_kv_heads": [2]}, r"n_kv_heads is \[2\]"),
        ({"rope_theta": float("nan")}, "rope_theta is nan, expected a number above 0"),
        ({"norm_eps": "small"}, "norm_eps"),
        ({"tie_embeddings": "no"}, "tie_embeddings is 'no', expected true or false"),
        ({"activation": ["silu"]}, "activation"),
        ({"sliding_window": 0}, "sliding_window"),
        ({"rope_scaling": {"kind": "yarn", "factor": 2.0}}, "rope_scaling.kind is 'yarn'"),
        ({"rope_scaling": {"kind": "linear", "factor": 0}}, "rope_scaling.factor is 0"),
        ({"rope_scaling": [1]}, "model config: "),
        ({"more": 1}, "more"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes, message) -> None:
    with pytest.raises(ModelError, match=message):
        ModelConfig.from_dict({**TINY, **changes})


def test_positions_are_those_that_a_model_is_stretched_to() -> None:
    found = {name: PRESETS[name].positions for name in ("llama-2-7b", "llama-3.1-8b", "gemma-3-4b")}
    assert found == {"llama-2-7b": 4096, "llama-3.1-8b": 131072, "gemma-3-4b": 131072}


def test_every_known_shape_is_accepted() -> None:
    for config in PRESETS.values():
        assert ModelConfig.from_dict(dataclasses.asdict(config)) == config
