"""Families whose layers differ, against `transformers`: greedy texts, and the gradient of a training step."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hf_models import SHAPE, logits_of, reference

from selfevo_jax.checkpoint import read_huggingface
from selfevo_jax.data import Batch
from selfevo_jax.model import unstack_layers
from selfevo_jax.sample import DrawKey, Engine, Request, SamplingParams
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import TrainConfig
from selfevo_jax.train.state import Form
from selfevo_jax.train.step import gradient_sums

torch = pytest.importorskip("torch")

FAMILIES = ["gemma-2", "gemma-3", "qwen-2.5-mixed"]
NEW, ROWS, LENGTH = 12, 8, 24


class Texts:
    """Of the engine, which these tests read no text of."""

    vocab_size = SHAPE["vocab_size"]

    def push(self, id):
        return ""

    def finish(self):
        return "", True


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    @functools.cache
    def made(name):
        folder = tmp_path_factory.mktemp(name)
        model = reference(name)
        model.save_pretrained(folder)
        config, load = read_huggingface(folder)
        return model, folder, config, load(None, jnp.float32)

    return made


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
    given = jax.device_put(form.formed(params), form.learnt)
    sums = jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))(given, batch.micro(1))
    assert float(sums.loss) == pytest.approx(float(loss), rel=1e-5)
    expected = read_huggingface(tmp_path)[1](None, jnp.float32)
    top = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
    ours = unstack_layers(sums.gradient) if scan else sums.gradient
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * top), ours, expected)
