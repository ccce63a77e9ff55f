"""The update does not depend on how it is computed: scanned, recomputed, chunked, on kernels, or through adapters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_params import random_params
from train_helpers import assert_close

from selfevo_jax.data import Batch, Batches, Example, pack
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import (
    LoraConfig,
    ModelConfig,
    TrainAttention,
    Transformer,
    hidden_states,
    merge_adapters,
    param_shardings,
    scaled_adapters,
    stack_layers,
    unstack_layers,
)
from selfevo_jax.model.attention import Scoring, causal_mask
from selfevo_jax.model.blocked_attention import Blocks, blocked_attention
from selfevo_jax.model.transformer import attend_masked
from selfevo_jax.plan.accounting import account
from selfevo_jax.plan.groups import MeshAxes
from selfevo_jax.plan.hlo import parse
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import TrainConfig, fit, token_loss_sums
from selfevo_jax.train.loss import HeadLoss, chunk_count, shifted, table_cuts
from selfevo_jax.train.state import Form, init_state
from selfevo_jax.train.step import gradient_sums, make_train_step

CONFIG = ModelConfig(32, 16, 2, 4, 2, 8, 32, max_position=64, qkv_bias=True)
UNTIED = dataclasses.replace(CONFIG, tie_embeddings=False, vocab_size=40)
IN_PIECES = dataclasses.replace(CONFIG, vocab_size=640)
UNTIED_IN_PIECES = dataclasses.replace(UNTIED, vocab_size=600)
LENGTH, ROWS = 24, 8
SETTINGS = TrainConfig(steps=3, warmup_steps=1, learning_rate=3e-3, batch_rows=ROWS, length=LENGTH, clip_norm=0.5)
ONE = MeshAxes({"x": 1})
MESHES = [(1, 1, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2)]


@functools.cache
def params_of(config):
    return jax.device_get(random_params(config))


def mesh_of(shape):
    return make_mesh(*shape, jax.devices()[: int(np.prod(shape))])


def laid_out(form):
    """The parameters in this form, stacked by numpy: no program is compiled for it."""
    params = params_of(CONFIG)
    stacked = stack_layers(params, lambda *leaves: np.stack(leaves)) if form.scan else params
    return jax.device_put(stacked, form.learnt)


def make_examples(count, seed=0, vocab=32):
    rng = np.random.default_rng(seed)
    out = []
    for index in range(count):
        size = int(rng.choice([4, 7, 10, 20]))
        weights = np.where(np.arange(size) < size // 2, 0.0, rng.choice([0.5, 1.0, 2.0], size)).astype(np.float32)
        weights[0] = 0
        out.append(Example(f"row{index}", "x", rng.integers(0, vocab, size).astype(np.int32), weights))
    return out


def batch_of(count=13, seed=0, rows=ROWS, vocab=32):
    packed = pack(make_examples(count, seed, vocab), LENGTH)
    arrays = [packed.tokens, packed.weights, packed.segment_ids, packed.positions]
    assert len(packed.tokens) <= rows
    return Batch(*(np.pad(x, ((0, rows - len(x)), (0, 0))) for x in arrays))


@functools.cache
def plain_loss_and_gradient(config):
    """By the decoder's own forward pass and whole logits: no scan, nothing recomputed, one device."""
    model, batch = Transformer(config), batch_of()

    def loss(p):
        logits, _ = model.apply({"params": p}, batch.tokens, batch.positions, segment_ids=batch.segment_ids)
        return token_loss_sums(logits, batch)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(params_of(config))
    return float(value), jax.device_get(gradient)


@pytest.mark.parametrize(
    ("shape", "scan", "remat"),
    [
        ((1, 1, 1), False, "none"),
        ((1, 1, 1), True, "none"),
        ((1, 1, 1), True, "full"),
        ((8, 1, 1), True, "minimal"),
        ((1, 8, 1), False, "full"),
        ((2, 2, 2), False, "minimal"),
        ((2, 2, 2), True, "full"),
    ],
)
def test_gradient_does_not_depend_on_scan_remat_or_mesh(shape, scan, remat):
    settings = dataclasses.replace(SETTINGS, scan_layers=scan, remat=remat)
    form = Form.of(CONFIG, settings, mesh_of(shape), TRAIN_RULES)
    params = laid_out(form)
    accumulate = 1 if shape in {(8, 1, 1), (1, 8, 1)} else 2
    sums = jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))(params, batch_of().micro(accumulate))
    value, gradient = plain_loss_and_gradient(CONFIG)
    assert float(sums.loss) == pytest.approx(value, rel=1e-5)
    found = jax.device_get(sums.gradient)
    assert_close(unstack_layers(found) if scan else found, gradient)
    for leaf, layout in zip(jax.tree.leaves(sums.gradient), jax.tree.leaves(form.learnt), strict=True):
        assert leaf.sharding.is_equivalent_to(layout, leaf.ndim)


@pytest.mark.parametrize("scan", [False, True])
def test_gradients_of_the_layers_matrices_stay_in_the_compute_dtype(scan):
    settings = dataclasses.replace(SETTINGS, scan_layers=scan, compute_dtype="bfloat16")
    form = Form.of(CONFIG, settings, mesh_of((1, 8, 1)), TRAIN_RULES)
    params = laid_out(form)
    sums = jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))(params, batch_of().micro(1))
    found = jax.device_get(sums.gradient)
    gradient = unstack_layers(found) if scan else found
    dtypes = jax.tree.map(lambda x: x.dtype.name, gradient)
    assert set(jax.tree.leaves(dtypes["layers_0"]["mlp"])) == {"bfloat16"}
    assert dtypes["layers_0"]["mlp_norm"]["scale"] == dtypes["embedding"] == "float32"
    assert_close(jax.tree.map(lambda x: np.asarray(x, np.float32), gradient), plain_loss_and_gradient(CONFIG)[1], 2e-2)
    state = init_state(params_of(CONFIG), CONFIG, settings, form.mesh, TRAIN_RULES)
    after, _ = jax.eval_shape(
        make_train_step(CONFIG, settings, form.mesh), state, batch_of().micro(1), np.float32(1e-3)
    )
    assert {x.dtype.name for x in jax.tree.leaves((after.params, after.opt_state[1].mu))} == {"float32"}


def test_remat_computes_again_what_it_says_and_no_more():
    def flops(remat):
        form = Form.of(CONFIG, dataclasses.replace(SETTINGS, remat=remat), mesh_of((1, 1, 1)), TRAIN_RULES)
        step = jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))
        return account(parse(step.lower(params_of(CONFIG), batch_of().micro(1)).compile().as_text()), ONE).flops

    c, tokens = CONFIG, ROWS * LENGTH
    attention = 2 * 2 * tokens * LENGTH * c.n_heads * c.head_dim
    products = 2 * tokens * c.d_model * (2 * c.n_heads * c.head_dim + 2 * c.n_kv_heads * c.head_dim + 2 * c.d_ff)
    none = flops("none")
    # the layer's last product is not computed again: nothing needs its output
    assert flops("minimal") - none == c.n_layers * attention
    assert flops("full") - none == c.n_layers * (products + attention)


@functools.cache
def head_case(config):
    """States, table and batch, and the loss of whole logits with its gradients, three times as large."""
    batch, params = batch_of(vocab=config.vocab_size), params_of(config)
    hidden = np.random.default_rng(0).normal(size=(ROWS, LENGTH, config.d_model)).astype(np.float32)
    table = params["embedding"] if config.tie_embeddings else params["head"]["kernel"]

    def whole(h, t):
        logits = h @ (t.T if config.tie_embeddings else t)
        return 3 * token_loss_sums(logits, batch)[0]

    return hidden, table, batch, jax.device_get(jax.jit(jax.value_and_grad(whole, (0, 1)))(hidden, table))


@pytest.mark.parametrize("config", [CONFIG, UNTIED, IN_PIECES, UNTIED_IN_PIECES])
@pytest.mark.parametrize("shape", [*MESHES, (1, 2, 4)])
def test_chunked_loss_equals_the_whole(config, shape):
    mesh = mesh_of(shape)
    hidden, table, batch, (value, gradients) = head_case(config)
    layout = param_shardings(config, mesh, TRAIN_RULES)
    place = layout["embedding"] if config.tie_embeddings else layout["head"]["kernel"]
    per_device = ROWS * LENGTH // TRAIN_RULES.ways("batch", mesh)
    # no number of tokens that divides them: the last chunk is not full
    sizes = {"budget": 1, "least_chunk": per_device // 5 + 1, "piece": 200 * config.d_model}
    head = HeadLoss(config.tie_embeddings, place, ("data", "fsdp"), **sizes)

    def loss(h, t):
        return 3 * head.total(h, t, *shifted(batch))

    @jax.jit
    def with_and_without_gradients(h, placed, plain):
        return jax.value_and_grad(loss, (0, 1))(h, placed), loss(h, plain)

    (found, found_gradients), alone = with_and_without_gradients(hidden, jax.device_put(table, place), table)
    assert float(found) == pytest.approx(float(value), rel=1e-6)
    assert_close(found_gradients, gradients)
    assert found_gradients[1].sharding.is_equivalent_to(place, 2)
    assert float(alone) == pytest.approx(float(value))


@pytest.mark.parametrize("config", [CONFIG, UNTIED])
def test_loss_and_gradient_in_bfloat16_are_the_same_in_one_chunk_and_in_many(config, monkeypatch):
    config = dataclasses.replace(config, n_layers=1)
    settings = dataclasses.replace(SETTINGS, compute_dtype="bfloat16")
    form = Form.of(config, settings, mesh_of((1, 1, 1)), TRAIN_RULES)
    params, batch = params_of(config), batch_of()
    params = jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, params)  # logits of some size, as trained models have

    def sums(chunk):
        head = functools.partial(HeadLoss, budget=1, least_chunk=chunk)
        monkeypatch.setattr("selfevo_jax.train.step.HeadLoss", head)
        return jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))(params, batch.micro(1))

    whole, chunked = sums(ROWS * LENGTH), sums(17)

    @jax.jit
    def reference(p):
        model = Transformer(config, dtype=jnp.bfloat16)
        kw = {"segment_ids": batch.segment_ids, "method": Transformer.hidden}
        hidden, _ = model.apply({"params": p}, batch.tokens, batch.positions, **kw)
        table = p["embedding"].T if config.tie_embeddings else p["head"]["kernel"]
        wide = hidden.astype(jnp.float32) @ table.astype(jnp.bfloat16).astype(jnp.float32)
        return token_loss_sums(wide, batch)[0]

    assert float(whole.loss) == pytest.approx(float(reference(params)), rel=1e-6)
    assert float(chunked.loss) == pytest.approx(float(whole.loss), rel=1e-6)
    wide = [jax.tree.map(lambda x: np.asarray(x, np.float32), found.gradient) for found in (chunked, whole)]
    assert_close(*wide, 1e-5)


def test_chunks_fit_the_budget_and_never_fall_below_a_useful_size():
    assert chunk_count(96, 100, budget=9600) == 1
    assert chunk_count(96, 100, budget=9599, least=1) == 2
    assert chunk_count(96, 100, budget=1, least=1) == 96
    assert chunk_count(8192, 128256) == 16
    assert chunk_count(7, 100, budget=200, least=1) == 4


def test_a_head_that_does_not_learn_has_smaller_chunks_of_few_tokens_so_that_more_of_them_are_passed_over():
    place = param_shardings(CONFIG, mesh_of((1, 1, 1)), TRAIN_RULES)["embedding"]
    learns, frozen = (HeadLoss(True, place, learns=learns) for learns in (True, False))
    assert [learns.chunks(n, 49152) for n in (100, 384, 8192)] == [1, 1, 16]
    assert [frozen.chunks(n, 49152) for n in (100, 384, 8192)] == [1, 3, 16]
    assert frozen.chunks(4096, 1000) == 8


@given(st.integers(1, 300_000), st.integers(1, 16_384))
def test_a_table_is_cut_into_few_parts_of_about_one_size(vocab, width):
    cuts = table_cuts(vocab, width)
    parts = np.diff([0, *cuts, vocab])
    assert all(cut % 128 == 0 for cut in cuts)
    assert parts.min() > 0
    assert parts.max() - parts.min() <= 2 * 128
    assert len(parts) <= 1 + 0.7 * vocab * width / 2**26
    assert parts.max() * width <= 2**26 / 0.7 + 2 * 128 * width


def test_a_vocabulary_of_a_prime_number_of_lanes_is_not_cut_into_its_lanes():
    assert table_cuts(151_936, 896) == [75_904]  # Qwen 2.5 and 3
    assert len(table_cuts(128_256, 4096)) == 5


def test_chunks_pass_over_tokens_without_a_target():
    batch = batch_of(4)
    config = dataclasses.replace(CONFIG, tie_embeddings=True)
    place = param_shardings(config, mesh_of((1, 1, 1)), TRAIN_RULES)["embedding"]
    head = HeadLoss(True, place, ("data", "fsdp"), budget=1, least_chunk=8)
    targets = int((batch.weights > 0).sum())
    assert 0 < targets < batch.tokens.size / 4
    hidden = np.random.default_rng(1).normal(size=(ROWS, LENGTH, 16)).astype(np.float32)
    # a state that no target is predicted from may hold anything
    silent = np.roll(batch.weights, -1, axis=1) <= 0
    silent[:, -1] = True
    hidden[silent] = np.nan
    table = params_of(config)["embedding"]
    total, gradient = jax.jit(jax.value_and_grad(lambda h: head.total(h, table, *shifted(batch))))(hidden)
    assert np.isfinite(total)
    assert (np.asarray(gradient)[silent] == 0).all()
    assert np.isfinite(gradient).all()


def test_training_scanned_and_recomputed_equals_training_plainly():
    batches = Batches({"x": (make_examples(30), 1.0)}, ROWS, LENGTH, seed=0)
    reference, report = fit(params_of(CONFIG), CONFIG, batches, SETTINGS, mesh_of((1, 1, 1)))
    settings = dataclasses.replace(SETTINGS, scan_layers=True, remat="full", accumulate=2)
    got, other = fit(params_of(CONFIG), CONFIG, batches, settings, mesh_of((2, 2, 2)))
    np.testing.assert_allclose(other.losses, report.losses, rtol=1e-5)
    assert_close(got, jax.device_get(reference), relative=2e-4)  # Adam's quotients of rounding


def test_the_first_moment_in_bfloat16():
    settings = dataclasses.replace(SETTINGS, first_moment_dtype="bfloat16")
    batches = Batches({"x": (make_examples(30), 1.0)}, ROWS, LENGTH, seed=0)
    state = init_state(params_of(CONFIG), CONFIG, settings, mesh_of((1, 1, 1)), TRAIN_RULES)
    moments = state.opt_state[1]
    assert {x.dtype for x in jax.tree.leaves(moments.mu)} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in jax.tree.leaves(moments.nu)} == {jnp.dtype("float32")}
    _, narrow = fit(params_of(CONFIG), CONFIG, batches, settings, mesh_of((1, 1, 1)))
    _, wide = fit(params_of(CONFIG), CONFIG, batches, SETTINGS, mesh_of((1, 1, 1)))
    np.testing.assert_allclose(narrow.losses, wide.losses, rtol=1e-2)


def test_adapters_equal_their_merged_weights_and_leave_the_base_alone():
    lora = LoraConfig(rank=4, alpha=8.0)
    settings = dataclasses.replace(SETTINGS, lora=lora, scan_layers=True, learning_rate=3e-2, steps=30)
    batches = Batches({"x": (make_examples(30), 1.0)}, ROWS, LENGTH, seed=0)
    before = params_of(CONFIG)
    adapters, report = fit(before, CONFIG, batches, settings, mesh_of((2, 2, 2)))
    assert np.mean(report.losses[-5:]) < np.mean(report.losses[:5]) - 0.01
    assert adapters["layers_1"]["attention"]["o"]["a"].shape == (4, 8, 4)
    adapters = jax.device_get(adapters)
    merged = jax.device_get(jax.jit(functools.partial(merge_adapters, lora=lora))(before, adapters))
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), merged, before)
    assert moved["layers_0"]["attention"]["q"]["kernel"]
    assert not moved["layers_0"]["attention"]["q"]["bias"]
    assert not moved["embedding"]
    batch, model = batch_of(), Transformer(CONFIG)
    rows = (batch.tokens, batch.positions, batch.segment_ids)
    apart = jax.jit(lambda a: hidden_states(model, before, *rows, adapters=scaled_adapters(a, lora)))(adapters)
    tokens, positions, segments = rows
    plain = functools.partial(model.apply, segment_ids=segments, method="hidden")
    whole, _ = jax.jit(plain)({"params": merged}, tokens, positions)
    np.testing.assert_allclose(apart, whole, rtol=1e-4, atol=1e-5)


def test_stacking_is_undone_by_unstacking():
    stacked = stack_layers(params_of(CONFIG))
    assert stacked["layers"]["mlp"]["up"]["kernel"].shape == (2, 16, 32)
    jax.tree.map(np.testing.assert_array_equal, unstack_layers(stacked), params_of(CONFIG))


PLAIN, WIDE = Scoring(8**-0.5), Scoring(128**-0.5)


@pytest.mark.parametrize(("window", "scoring"), [(None, WIDE), (40, WIDE), (40, Scoring(0.1, 1.5))])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 2)])
def test_splash_attention_equals_the_plain_path_within_segments(window, scoring, shape):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(2, 256, 4, 128)).astype(np.float32)
    k, v = rng.normal(size=(2, 2, 256, 2, 128)).astype(np.float32)
    segments = np.repeat(np.array([[1, 1, 2, 0], [1, 2, 3, 3]], np.int32), 64, axis=1)
    mesh = mesh_of(shape)
    kernel = TrainAttention("splash", mesh, scoring, ("data", "fsdp"), ("tensor",), interpret=True)
    plain = attend_masked(causal_mask(segments, 256, window), scoring)
    real = (segments > 0)[:, :, None, None]

    def loss(attend, *qkv):
        return jnp.sum(jnp.where(real, attend(*qkv)[0], 0.0) ** 2)

    expected = jax.jit(jax.grad(functools.partial(loss, plain), (0, 1, 2)))(q, k, v)
    found = jax.jit(jax.grad(functools.partial(loss, kernel.within(segments, window)), (0, 1, 2)))(q, k, v)
    assert_close(found, expected, relative=1e-4)


@functools.cache
def both_ways(window, block, scoring):
    """Output and gradients of the plain and of the blocked path."""

    def compute(q, k, v, segments, by_out):
        def results(attend):
            out, pull = jax.vjp(attend, q, k, v)
            return out, *pull(by_out)

        plain = attend_masked(causal_mask(segments, q.shape[1], window), scoring)
        blocked = results(lambda *qkv: blocked_attention(*qkv, segments, Blocks(window, block, scoring)))
        return results(lambda *qkv: plain(*qkv)[0]), blocked

    return jax.jit(compute)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.sampled_from([(None, PLAIN), (5, PLAIN), (33, Scoring(0.3, 0.8))]),
    st.sampled_from([8, 16]),
)
def test_blocked_attention_equals_the_plain_path_for_any_segments(sizes, how, block):
    rng = np.random.default_rng(sum(sizes))
    ids = np.repeat(np.arange(1, len(sizes) + 1), sizes)[:64]
    segments = np.stack([np.pad(ids, (0, 64 - len(ids))), np.ones(64)]).astype(np.int32)
    q, (k, v) = rng.normal(size=(2, 64, 4, 8)).astype(np.float32), rng.normal(size=(2, 2, 64, 2, 8)).astype(np.float32)
    by_out = rng.normal(size=q.shape).astype(np.float32)
    expected, found = both_ways(how[0], block, how[1])(q, k, v, segments, by_out)
    assert_close(found, expected, relative=2e-6)


def test_kernels_are_chosen_by_platform_dtype_and_shape():
    mesh = mesh_of((1, 1, 1))
    assert TrainAttention.choose(CONFIG, mesh, TRAIN_RULES, jnp.float32, 256) is None
    chosen = TrainAttention.choose(CONFIG, mesh, TRAIN_RULES, jnp.float32, 640)
    assert (chosen.kernel, chosen.scoring) == ("blocked", Scoring(8**-0.5))
    assert TrainAttention.choose(CONFIG, mesh_of((8, 1, 1)), TRAIN_RULES, jnp.float32, 640) is None


def test_settings_of_memory_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="remat is 'some', expected one of none, minimal, full, offload"):
        TrainConfig(remat="some")
    with pytest.raises(ConfigError, match="first_moment_dtype"):
        TrainConfig(first_moment_dtype="int8")
    with pytest.raises(ConfigError, match="a CPU has no memory of a host"):
        make_train_step(CONFIG, dataclasses.replace(SETTINGS, remat="offload"), mesh_of((1, 1, 1)))
    with pytest.raises(ConfigError, match="lora: targets.*expected some of q, k, v"):
        LoraConfig(targets=("query",))
    with pytest.raises(ConfigError, match="rank 0"):
        LoraConfig(rank=0)
