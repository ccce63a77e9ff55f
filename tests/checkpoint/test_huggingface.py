"""Hugging Face checkpoints against `transformers`: same logits in, same logits out."""

import copy
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from hf_models import LLAMA3, MODELS, SHAPE, logits_of, made_once, reference, tokens
from huggingface_hub.errors import StrictDataclassFieldValidationError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_params import random_params

from selfevo_jax.checkpoint import (
    config_from_huggingface,
    export_huggingface,
    huggingface_export,
    open_model,
    read_huggingface,
)
from selfevo_jax.errors import ModelError
from selfevo_jax.model import ModelConfig, Transformer, abstract_params, init_cache, param_shardings
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.text import exported_tokenizer, load_tokenizer
from selfevo_jax.text.hf_backend import byte_letters

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LETTERS = ModelConfig(257, 16, 1, 2, 2, 8, 16, max_position=32)
"""One row for each byte, and an end of text."""


@pytest.fixture(scope="module", autouse=True)
def all_compile_quickly(quick_compiles):
    """In this file."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return made_once(tmp_path_factory)


@functools.cache
def apply_of(config):
    return jax.jit(Transformer(config).apply)


def our_logits(config, params, ids):
    where = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    return np.asarray(apply_of(config)({"params": params}, ids, where)[0])


@pytest.mark.parametrize("name", MODELS)
def test_imported_logits_equal_those_of_transformers(name, models) -> None:
    model, _, config, params = models(name)
    np.testing.assert_allclose(our_logits(config, params, tokens()), logits_of(model, tokens()), atol=1e-4, rtol=0)


def test_sharded_files_are_read_straight_to_their_shards(tmp_path) -> None:
    model = reference("qwen-2.5")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    config, load = read_huggingface(tmp_path)
    shardings = param_shardings(config, make_mesh(1, 4, 2), TRAIN_RULES)
    params = load(shardings, jnp.float32)
    assert jax.tree.map(lambda x: x.sharding, params) == shardings
    alone = load(None, jnp.float32)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), params, alone)
    np.testing.assert_allclose(our_logits(config, alone, tokens()), logits_of(model, tokens()), atol=1e-4, rtol=0)


def test_bfloat16_files_load_with_their_exact_values(tmp_path) -> None:
    model = reference("llama-tied").to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    _, load = read_huggingface(tmp_path)
    wanted = model.model.embed_tokens.weight.detach().float().numpy()
    np.testing.assert_array_equal(load(None, jnp.float32)["embedding"], wanted)


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_has_the_same_logits_in_transformers(name, models, tmp_path) -> None:  # C49
    _, _, config, params = models(name)
    export_huggingface(params, config, {"tokenizer.json": b"{}"}, tmp_path / "out", max_shard_bytes=30_000)
    again, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert again.config.tie_word_embeddings == config.tie_embeddings
    for seed in range(3):
        ids = tokens(seed=seed)
        np.testing.assert_allclose(logits_of(again.eval(), ids), our_logits(config, params, ids), atol=1e-4, rtol=0)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == b"{}"
    round_trip, load_again = read_huggingface(tmp_path / "out")
    assert round_trip == config
    jax.tree.map(np.testing.assert_array_equal, load_again(None, jnp.float32), params)


@pytest.mark.parametrize("name", ["llama-tied", "mistral"])
def test_greedy_tokens_of_ragged_prompts_equal_those_of_transformers(name, models) -> None:
    new, (model, _, config, params) = 64, models(name)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(2, 130, n).tolist() for n in (1, 2, 3, 5, 8, 11, 13, 20)]
    length, cache_length = 20, 96
    rows = jnp.asarray([p + [0] * (length - len(p)) for p in prompts])
    sizes = jnp.asarray([len(p) for p in prompts])
    grid = jnp.arange(length)[None]
    apply = Transformer(config).apply

    @jax.jit
    def generate(params):
        where = jnp.where(grid < sizes[:, None], grid, cache_length)
        cache = init_cache(config, len(prompts), cache_length)
        logits, cache = apply({"params": params}, rows, where, cache=cache, take=sizes - 1)

        def step(carry, i):
            token, cache = carry
            logits, cache = apply({"params": params}, token[:, None], (sizes + i)[:, None], cache=cache)
            return (jnp.argmax(logits[:, 0], -1), cache), token

        return jax.lax.scan(step, (jnp.argmax(logits, -1), cache), jnp.arange(new))[1].T

    ours = np.asarray(generate(params))
    for row, prompt in zip(ours.tolist(), prompts, strict=True):
        # each token is the most likely one behind all before it
        likely = logits_of(model, [prompt + row])[0].argmax(-1)
        assert row == likely[len(prompt) - 1 : -1].tolist()


def edit(folder, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"num_hidden_layers": 3}, r"tensor 'model\.layers\.2\..*' is missing"),
        ({"num_hidden_layers": 1}, r"no place in this architecture.*model\.layers\.1"),
        ({"intermediate_size": 47}, r"has shape \(32, 48\), its config says \(32, 47\)"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "rope_type .*is 'yarn', supported is",
        ),
        ({"quantization_config": {"bits": 4}}, "quantization_config is .* supported is none"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true, but 'lm_head.weight' differs"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_before_loading(changes, message, tmp_path) -> None:
    reference("llama-untied").save_pretrained(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        read_huggingface(tmp_path)


def test_a_missing_head_of_an_untied_model_is_refused(tmp_path) -> None:  # C49
    reference("llama-tied").save_pretrained(tmp_path)
    edit(tmp_path, tie_word_embeddings=False)
    with pytest.raises(ModelError, match="tie_word_embeddings is false, but there is no tensor"):
        read_huggingface(tmp_path)


KEYS = {
    "num_key_value_heads": [1, 2, 4, None],
    "head_dim": [16, 128, None],
    "max_position_embeddings": [64, 40960],
    "rms_norm_eps": [1e-5, 1e-6],
    "tie_word_embeddings": [True, False],
    "hidden_act": ["silu", "gelu_pytorch_tanh", "relu"],
    "rope_theta": [5e5, 1000000],
    "rope_scaling": [None, {"type": "linear", "factor": 2.0}, {**LLAMA3, "rope_theta": 7.0}, {"factor": 2.0}],
    "rope_parameters": [
        {"rope_type": "default", "rope_theta": 3e4},
        {"rope_type": "yarn", "factor": 4.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {"full_attention": {"rope_type": "linear", "factor": 4.0}},
        {"full_attention": {"rope_theta": 3e4}, "sliding_attention": {"rope_type": "default"}},
    ],
    "original_max_position_embeddings": [48],
    "partial_rotary_factor": [0.5, 1.0],
    "attention_bias": [True, False],
    "mlp_bias": [True, False],
    "hidden_activation": ["gelu_pytorch_tanh", "gelu"],
    "query_pre_attn_scalar": [16, 24],
    "attn_logit_softcapping": [None, 2.0],
    "final_logit_softcapping": [None, 3.0],
    "rope_local_base_freq": [2e4],
    "sliding_window_pattern": [2],
    "num_experts": [4],
    "norm_topk_prob": [True],
    "use_sliding_window": [True, False],
    "sliding_window": [None, 6],
    "max_window_layers": [0, 1, 2, 30],
    "layer_types": [["full_attention"] * 2, ["sliding_attention"] * 2, ["sliding_attention", "full_attention"]],
    "attention_dropout": [0.1],
    "use_cache": [False],
}
SETTINGS = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in KEYS.items()})
MINIMAL = {"vocab_size": 131, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300)
@example("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": KEYS["rope_parameters"][0]})
@example(
    "gemma3_text",
    {"rope_parameters": {"full_attention": {"rope_theta": 3e4}, "sliding_attention": {"rope_type": "default"}}},
)
@given(st.sampled_from(["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "qwen3_moe"]), SETTINGS)
def test_any_config_is_read_as_transformers_reads_it_or_refused(kind, extra) -> None:
    tree = {"model_type": kind, **MINIMAL, "num_attention_heads": 4, **extra}
    try:
        ours = config_from_huggingface(tree)
    except ModelError:
        return
    if kind == "mistral" and "layer_types" in tree:
        tree["model_type"] = "ministral"  # as AutoConfig has it in a folder
    try:
        theirs = transformers.AutoConfig.for_model(**copy.deepcopy(tree))
    except StrictDataclassFieldValidationError:  # some kinds take no null where others do
        return
    assert ours.n_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or 32 // 4)
    assert ours.max_position == theirs.max_position_embeddings
    assert ours.norm_eps == theirs.rms_norm_eps
    assert ours.tie_embeddings == theirs.tie_word_embeddings
    acts = theirs.hidden_activation if kind.startswith("gemma") else theirs.hidden_act
    assert (ours.activation == "gelu") == (acts == "gelu_pytorch_tanh")
    rope = theirs.rope_parameters
    if kind == "gemma3_text":
        local, rope = rope["sliding_attention"], rope["full_attention"]
        for layer in ours.layers:
            assert layer.window is None or (layer.rope_theta, layer.rope_scaling) == (local["rope_theta"], None)
        assert local.get("rope_type", "default") == "default"  # transformers makes the default of a form without a type
    assert ours.rope_theta == rope["rope_theta"]
    assert rope.get("partial_rotary_factor", 1.0) == 1.0
    scaling = ours.rope_scaling
    assert rope.get("rope_type", "default") == ("default" if scaling is None else scaling.kind)
    if scaling is not None:
        assert scaling.factor == rope["factor"]
    if scaling is not None and scaling.kind == "llama3":
        assert scaling.original_max_position == rope["original_max_position_embeddings"]
    windows = [None, None]
    if kind == "mistral" and "layer_types" not in extra:
        windows = [theirs.sliding_window] * 2
    elif kind == "qwen3_moe":
        windows = [theirs.sliding_window] * 2
        assert (ours.n_experts, ours.experts_per_token) == (theirs.num_experts, theirs.num_experts_per_tok)
        assert (ours.d_ff, ours.normalized_shares) == (theirs.moe_intermediate_size, theirs.norm_topk_prob)
    elif kind != "llama":
        windows = [theirs.sliding_window if name == "sliding_attention" else None for name in theirs.layer_types]
    assert windows == [layer.window for layer in ours.layers]
    if kind.startswith("gemma"):
        assert (ours.query_scalar or ours.head_dim) == theirs.query_pre_attn_scalar
        assert ours.logit_softcap == theirs.final_logit_softcapping
        assert ours.attention_softcap == theirs.attn_logit_softcapping


@pytest.mark.parametrize(
    ("kind", "extra", "key"),
    [
        ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step is 2"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, "mlp_only_layers is"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        ("gemma3_text", {"rope_parameters": {"rope_type": "default"}}, "rope_parameters is"),
        ("qwen2", {"use_sliding_window": True, "layer_types": ["sliding_attention"]}, "layer_types"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "layer_types"),
        ("qwen3", {"head_dim": None}, "head_dim is missing"),
        ("llama", {"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        ("llama", {"num_hidden_layers": True}, "num_hidden_layers is True"),
        ("llama", {"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'"),
        ("llama", {"rope_theta": 0}, "rope_theta is 0"),
        ("llama", {"rope_theta": None}, "rope_theta is missing"),
        ("llama", {"rope_scaling": {"factor": 4.0}}, "rope_scaling is"),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rope_type .* is 'dynamic'"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, "rope_parameters is"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("mistral", {"sliding_window": 4.5}, "sliding_window is 4.5"),
    ],
)
def test_a_setting_that_is_not_supported_is_refused_by_its_key(kind, extra, key) -> None:
    tree = {"model_type": kind, **MINIMAL, "num_attention_heads": 4, "num_key_value_heads": 2, **extra}
    with pytest.raises(ModelError, match=key):
        config_from_huggingface(tree)


def test_a_qwen_with_windows_in_its_default_layers_has_them_as_transformers() -> None:
    tree = {
        "model_type": "qwen2",
        **MINIMAL,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "use_sliding_window": True,
    }
    assert config_from_huggingface(tree).sliding_window is None  # 28 full layers come first
    assert config_from_huggingface({**tree, "max_window_layers": 0}).sliding_window == 4096


def test_both_spellings_of_rope_settings_are_read() -> None:
    old = {"model_type": "llama", **SHAPE, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {
        "model_type": "llama",
        **SHAPE,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5},
    }
    assert config_from_huggingface(old) == config_from_huggingface(new)
    assert config_from_huggingface(old).rope_theta == 5e5


def test_export_refuses_a_folder_that_holds_a_model(tmp_path) -> None:
    reference("llama-tied").save_pretrained(tmp_path)
    config, load = read_huggingface(tmp_path)
    with pytest.raises(ModelError, match="a model exists here already"):
        export_huggingface(load(None, jnp.float32), config, {}, tmp_path)
    assert jax.tree.structure(load(None, jnp.float32)) == jax.tree.structure(abstract_params(config))


def test_an_exported_folder_has_the_tokenizer_of_transformers_and_every_stop_id(tmp_path) -> None:
    source = open_model("builtin:stories")
    params = source.load(None, jnp.float32)
    other = next(id for id in source.tokenizer.controls.values() if id not in source.tokenizer.eos_ids)
    taught = [other, *source.tokenizer.eos_ids]
    export_huggingface(params, source.config, source.tokenizer, tmp_path / "out", eos_ids=taught)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ("Mia has 7 shells.", " two  blanks", "a\nb\n\n", "é 日本 😀", "### Answer:\n12"):
        assert theirs.encode(text, add_special_tokens=False) == source.tokenizer.encode(text), text
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "out")
    assert sorted(generation.eos_token_id) == sorted({*taught, *source.tokenizer.eos_ids})
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["eos_token_id"] == generation.eos_token_id
    again = open_model(str(tmp_path / "out"))
    assert again.tokenizer.encode("Mia has 7 shells.") == source.tokenizer.encode("Mia has 7 shells.")
    assert again.config == source.config


@pytest.mark.parametrize("end", ["</s>", None])
def test_a_model_without_a_begin_or_an_end_of_text_is_exported_without(end, tmp_path) -> None:
    made = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate(byte_letters())}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["</s>"])
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    ours, out = load_tokenizer(tmp_path), tmp_path / "out"
    export_huggingface(random_params(LETTERS), LETTERS, ours, out)
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation == ({} if end is None else {"eos_token_id": [256], "pad_token_id": 256})
    again = open_model(str(out)).tokenizer
    assert (again.bos_id, again.add_bos, again.eos_ids) == (None, False, ours.eos_ids)
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    assert theirs.encode("é 12") == ours.encode("é 12")
    assert (theirs.bos_token, theirs.eos_token) == (None, end)
    ends = transformers.GenerationConfig.from_pretrained(out).eos_token_id
    assert ends == (None if end is None else [256])


def test_an_export_with_other_ids_is_refused_before_anything_is_written(tmp_path, monkeypatch) -> None:
    source = open_model("builtin:stories")
    with pytest.raises(ModelError, match="give the tokenizer itself"):
        export_huggingface({}, source.config, source.tokenizer.files(), tmp_path / "out")
    with pytest.raises(ModelError, match=r"id \d+ is to begin or end a text, but the model has"):
        export_huggingface({}, source.config, {}, tmp_path / "out", eos_ids=[source.config.vocab_size])

    def spoilt(tokenizer, stop_ids=()):
        files = exported_tokenizer(tokenizer, stop_ids)
        tree = json.loads(files["tokenizer.json"])
        tree["normalizer"] = {"type": "Lowercase"}
        return {**files, "tokenizer.json": json.dumps(tree).encode()}

    monkeypatch.setattr(huggingface_export, "exported_tokenizer", spoilt)
    with pytest.raises(ModelError, match=r"cannot be written as a tokenizer\.json"):
        export_huggingface({}, source.config, source.tokenizer, tmp_path / "out")
    assert not (tmp_path / "out").exists()
