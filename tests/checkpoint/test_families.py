"""Families whose layers differ, or have experts, against `transformers`: greedy texts, and the gradient of a step."""

import copy
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hf_models import SHAPE, logits_of, made_once
from safetensors.numpy import load_file, save_file

from selfevo_jax.checkpoint import read_huggingface
from selfevo_jax.checkpoint.peft import write_peft
from selfevo_jax.data import Batch
from selfevo_jax.errors import ModelError
from selfevo_jax.model import (
    PRESETS,
    LoraConfig,
    Transformer,
    abstract_adapters,
    abstract_params,
    adapter_axes,
    merge_adapters,
    quantize_params,
    scaled_adapters,
    stack_layers,
    unstack_layers,
)
from selfevo_jax.sample import DrawKey, Engine, Request, SamplingParams
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import TrainConfig
from selfevo_jax.train.state import Form
from selfevo_jax.train.step import gradient_sums

torch = pytest.importorskip("torch")

FAMILIES = ["gemma-2", "gemma-3", "qwen-2.5-mixed", "qwen-3-moe"]
NEW, ROWS, LENGTH = 12, 8, 24


@pytest.fixture(scope="module", autouse=True)
def all_compile_quickly(quick_compiles):
    """In this file."""


class Texts:
    """Of the engine, which these tests read no text of."""

    vocab_size = SHAPE["vocab_size"]

    def push(self, id):
        return ""

    def finish(self):
        return "", True


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return made_once(tmp_path_factory)


@pytest.mark.parametrize("shape", [None, (2, 2, 2)], ids=["one device", "eight"])
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_texts_of_ragged_prompts_equal_those_of_transformers(models, name, shape) -> None:
    model, _, config, params = models(name)
    rng = np.random.default_rng(1)
    prompts = [rng.integers(2, 130, n).tolist() for n in (1, 2, 3, 5, 8, 11, 13, 20)]
    engine = Engine(
        config,
        Texts(),
        slots=8,
        cache_length=40,
        extend_lengths=(20,),
        extend_rows=(8,),
        stream=lambda _: Texts(),
        mesh=None if shape is None else make_mesh(*shape),
    )
    greedy = SamplingParams(temperature=0.0, max_new_tokens=NEW)
    asked = [Request(tuple(p), greedy, DrawKey(0, "respond", f"p{i}", 0)) for i, p in enumerate(prompts)]
    for prompt, got in zip(prompts, engine.generate(engine.place(params), asked), strict=True):
        # each token is the most likely one behind all before it
        likely = logits_of(model, [prompt + list(got.tokens)])[0].argmax(-1)
        assert list(got.tokens) == likely[len(prompt) - 1 : -1].tolist()
        assert len(got.tokens) == NEW


@pytest.mark.parametrize(("shape", "scan", "remat"), [((1, 1, 1), False, "none"), ((2, 2, 2), True, "full")])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_of_a_step_is_that_of_transformers(models, name, shape, scan, remat, tmp_path) -> None:
    model, _, config, params = models(name)
    rng = np.random.default_rng(2)
    tokens = rng.integers(2, 130, (ROWS, LENGTH)).astype(np.int32)
    weights = rng.choice([0.0, 1.0, 2.0], (ROWS, LENGTH)).astype(np.float32)
    ones = np.ones((ROWS, LENGTH), np.int32)
    batch = Batch(tokens, weights, ones, np.broadcast_to(np.arange(LENGTH, dtype=np.int32), ones.shape))

    model.zero_grad()
    logps = torch.log_softmax(model(torch.tensor(tokens)).logits[:, :-1], -1)
    picked = logps.gather(2, torch.tensor(tokens[:, 1:], dtype=torch.int64)[..., None])[..., 0]
    loss = -(picked * torch.tensor(weights[:, 1:])).sum()
    loss.backward()
    gradient = copy.deepcopy(model)
    with torch.no_grad():  # in the place of the weights, to be read as they are
        for to, leaf in zip(gradient.parameters(), model.parameters(), strict=True):
            to.copy_(leaf.grad)
    gradient.save_pretrained(tmp_path)

    settings = TrainConfig(batch_rows=ROWS, length=LENGTH, scan_layers=scan, remat=remat)
    mesh = make_mesh(*shape, jax.devices()[: int(np.prod(shape))])
    form = Form.of(config, settings, mesh, TRAIN_RULES)
    own = jax.device_get(params)  # stacked by numpy, so that no program is compiled for it
    given = jax.device_put(stack_layers(own, lambda *leaves: np.stack(leaves)) if scan else own, form.learnt)
    sums = jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))(given, batch.micro(1))
    assert float(sums.loss) == pytest.approx(float(loss), rel=1e-5)
    expected = read_huggingface(tmp_path)[1](None, jnp.float32)
    top = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
    found = jax.device_get(sums.gradient)
    ours = unstack_layers(found) if scan else found
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * top), ours, expected)


@functools.cache
def forward(config, dtype=jnp.float32):
    return jax.jit(Transformer(config, param_dtype=dtype).apply)


def test_experts_have_adapters_of_their_own(models) -> None:
    _, _, config, params = models("qwen-3-moe")
    lora = LoraConfig(rank=2, alpha=4.0)
    rng = np.random.default_rng(3)
    shapes = abstract_adapters(config, lora)
    adapters = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32) * 0.1, shapes)
    assert adapters["layers_0"]["mlp"]["up"]["a"].shape == (config.n_experts, config.d_model, 2)
    axes = jax.tree.leaves(adapter_axes(config, lora), is_leaf=lambda node: isinstance(node, tuple))
    assert [len(x) for x in axes] == [x.ndim for x in jax.tree.leaves(shapes)]
    where = np.broadcast_to(np.arange(LENGTH), (2, LENGTH))
    tokens = rng.integers(2, 130, where.shape)
    apart, _ = forward(config)({"params": params, "lora": scaled_adapters(adapters, lora)}, tokens, where)
    sums = jax.jit(functools.partial(merge_adapters, lora=lora))(params, adapters)
    merged, _ = forward(config)({"params": sums}, tokens, where)
    np.testing.assert_allclose(apart, merged, rtol=0, atol=2e-5 * np.abs(np.asarray(merged)).max())
    assert np.abs(np.asarray(merged) - forward(config)({"params": params}, tokens, where)[0]).max() > 0.1


def test_adapters_of_experts_are_refused_where_peft_has_no_place_for_them(tmp_path) -> None:
    config, lora = PRESETS["qwen-3-30b-a3b"], LoraConfig(rank=2, targets=("q", "up"))
    with pytest.raises(ModelError, match="adapters of experts have no place in a PEFT file"):
        write_peft(tmp_path, {}, lora, config, "base")


def test_int8_experts_have_a_scale_for_each_output_of_each(models) -> None:
    _, _, config, params = models("qwen-3-moe")
    small = jax.jit(functools.partial(quantize_params, declared=abstract_params(config, jnp.int8)))(params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), small) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract_params(config, jnp.int8)
    )

    def widened(node):
        if "scale" in node and "kernel" in node:
            inputs = range(node["kernel"].ndim - node["scale"].ndim)
            first = node["kernel"].shape[0] == config.n_experts and node["kernel"].ndim == 3
            scale = jnp.expand_dims(node["scale"], tuple(i + first for i in inputs))
            return {**node, "kernel": node["kernel"] * scale}
        return {name: widened(leaf) if isinstance(leaf, dict) else leaf for name, leaf in node.items()}

    wide = widened(small)
    for name in ("gate", "up", "down"):
        given = params["layers_0"]["mlp"][name]["kernel"]
        step = np.asarray(small["layers_0"]["mlp"][name]["scale"])[:, None]
        assert (np.abs(np.asarray(wide["layers_0"]["mlp"][name]["kernel"]) - given) <= 0.51 * step).all()
    where = np.broadcast_to(np.arange(LENGTH), (2, LENGTH))
    tokens = np.random.default_rng(4).integers(2, 130, where.shape)
    found, _ = forward(config, jnp.int8)({"params": small}, tokens, where)
    embedding = wide.pop("embedding") * wide.pop("embedding_scale")[:, None]
    floats = _kept({**wide, "embedding": embedding}, abstract_params(config))
    np.testing.assert_allclose(found, forward(config)({"params": floats}, tokens, where)[0], atol=1e-3)


def _kept(tree, like):
    """The leaves of a tree that another one has too."""
    return {name: _kept(tree[name], leaf) if isinstance(leaf, dict) else tree[name] for name, leaf in like.items()}


def test_the_text_of_a_gemma_3_with_images_is_read_by_either_prefix(models, tmp_path) -> None:
    _, folder, config, params = models("gemma-3")
    tensors = load_file(folder / "model.safetensors")
    text = json.loads((folder / "config.json").read_text())
    for number, prefix in enumerate(("language_model.model.", "model.language_model.")):
        out = tmp_path / str(number)
        out.mkdir()
        renamed = {prefix + name.removeprefix("model."): x for name, x in tensors.items()}
        save_file({**renamed, "vision_tower.x": np.zeros(3, np.float32)}, out / "model.safetensors")
        (out / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
        found, load = read_huggingface(out)
        assert found == config
        jax.tree.map(np.testing.assert_array_equal, load(None, jnp.float32), params)
