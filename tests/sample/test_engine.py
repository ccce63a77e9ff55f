"""The engine against a naive loop, and its independence of slots, order, batch and mesh."""

import dataclasses

import jax
import numpy as np
import pytest
from sample_helpers import BOS, CONFIG, SHALLOW, VOCAB, ByteTokenizer, Requests, engine, naive, random_params, requests

from selfevo_jax.errors import ConfigError
from selfevo_jax.model import RopeScaling
from selfevo_jax.sample import DrawKey, Engine, Request, SamplingParams
from selfevo_jax.sample.methods import draw, key_words, make_keys, settings_of
from selfevo_jax.sharding import make_mesh

_draw = jax.jit(draw)


def test_ragged_greedy_rows_equal_the_naive_uncached_loop():
    rows = requests(9, temperature=0.0, max_new_tokens=16)
    for row, got in zip(rows, engine(slots=4).generate(random_params(), rows), strict=True):
        tokens, logprobs, finish = naive(random_params(), row.tokens, 16, row.params.stop_ids)
        assert list(got.tokens) == tokens
        assert got.finish == finish
        np.testing.assert_allclose(got.logprobs, logprobs, atol=1e-4)


def test_sampled_rows_equal_the_naive_loop_with_the_same_keys():
    rows = requests(5, temperature=0.9, top_k=20, top_p=0.95, max_new_tokens=12)
    for row, got in zip(rows, engine(slots=2, seed=7).generate(random_params(), rows), strict=True):
        k = row.key
        key = make_keys(key_words(7, k.round, k.stage, k.prompt_id, k.sample)[None])
        s = settings_of([row.params])

        def pick(logits, i, key=key, s=s):
            return int(_draw(np.asarray(logits, np.float32)[None], key, np.asarray([i]), s)[0][0])

        tokens, logprobs, finish = naive(random_params(), row.tokens, 12, row.params.stop_ids, pick)
        assert list(got.tokens) == tokens
        assert got.finish == finish
        np.testing.assert_allclose(got.logprobs, logprobs, atol=1e-4)


def test_parameters_are_spread_over_the_mesh_and_no_slot_axis_is_whole_on_one_device():
    e = engine(slots=8, mesh=make_mesh(2, 2, 2))
    placed = e.place(random_params())
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(placed))
    assert e.place(placed) is placed
    assert e.new_state().cache.k[0].addressable_shards[0].data.shape[:2] == (2, 1)


def test_samples_and_rounds_differ_and_the_same_seed_repeats():
    def text(seed=0, round=0, sample=0):
        row = Request((BOS, 5, 6), SamplingParams(max_new_tokens=24), DrawKey(round, "respond", "p", sample))
        return engine(seed=seed).generate(random_params(), [row])[0].tokens

    assert text() == text()
    assert len({text(), text(sample=1), text(round=1), text(seed=1)}) == 4


def test_five_rows_on_a_wider_mesh_give_five_results():
    e = engine(slots=5, config=SHALLOW, mesh=make_mesh(4, 1, 2))
    got = e.generate(random_params(config=SHALLOW), requests(5))
    assert len(got) == 5
    assert all(c.finish != "error" for c in got)


def test_long_prompts_go_in_pieces_with_the_same_result():
    rows = [Request((BOS, *range(4, 44)), SamplingParams(temperature=0, max_new_tokens=8))] * 3
    whole = engine().generate(random_params(), rows)
    pieces = engine(extend_lengths=(8,)).generate(random_params(), rows)
    assert (
        [c.tokens for c in whole]
        == [c.tokens for c in pieces]
        == [tuple(naive(random_params(), rows[0].tokens, 8)[0])] * 3
    )


def test_subsets_of_many_slots_give_the_same_results():
    rows = requests(90, temperature=0.7)
    params = random_params(config=SHALLOW)
    small = engine(slots=4, config=SHALLOW).generate(params, rows)
    large = engine(slots=64, config=SHALLOW, extend_rows=(8, 64)).generate(params, rows)
    assert [c.tokens for c in large] == [c.tokens for c in small]


def test_a_second_run_with_other_parameters_sees_nothing_of_the_first():
    rows = requests(6, temperature=0.0)
    e = engine()
    first = e.generate(random_params(0), rows)
    other = e.generate(random_params(1), rows)
    assert [c.tokens for c in other] == [c.tokens for c in engine().generate(random_params(1), rows)]
    assert [c.tokens for c in e.generate(random_params(0), rows)] == [c.tokens for c in first]


def test_programs_are_compiled_ahead_and_none_later():
    # not the helper's shapes: this engine chooses its own
    e = Engine(SHALLOW, ByteTokenizer(), slots=9, cache_length=100, extend_rows=(9,), decode_steps=16)
    rows = [*requests(200), *requests(60, seed=1, max_new_tokens=60)]
    rows = [row for row in rows if len(row.tokens) in {3, 12, 30}]  # each length is a program to compile
    long = [SamplingParams(max_new_tokens=60, stop_ids=(1, 2, 3, 5, 6))] * 2
    rows += [Request((BOS, *[4] * n), params) for n, params in zip((40, 90), long, strict=True)]
    for job in e.compilations(random_params(config=SHALLOW), [len(row.tokens) for row in rows], n_stops=5):
        job()
    assert 2 <= len(e.extend_lengths) <= 8
    assert e.extend_lengths[-1] >= 91
    for seed in (0, 1):  # two rounds, with other parameters
        stats = e.run(random_params(seed, config=SHALLOW), [Requests(i, row) for i, row in enumerate(rows)])
        assert (stats.compiles, stats.chains, stats.failed) == (0, len(rows), 0)


@pytest.mark.parametrize("slots", [3, 8])
def test_samples_of_one_prompt_share_its_prefill(slots):
    rng = np.random.default_rng(0)
    system = (BOS, *rng.integers(4, VOCAB, 40).tolist())
    prompts = [(*system, *rng.integers(4, VOCAB, n).tolist()) for n in (40, 50, 45)]
    rows = [
        Request(prompt, SamplingParams(max_new_tokens=6, temperature=1.0), DrawKey(1, "respond", str(i), sample))
        for i, prompt in enumerate(prompts)
        for sample in range(4)
    ]
    e = Engine(CONFIG, ByteTokenizer(), slots=slots, cache_length=128, extend_lengths=(8, 64), decode_steps=8)
    chains = [Requests(i, row) for i, row in enumerate(rows)]
    stats = e.run(random_params(), chains)
    # each prompt once, beyond what it shares with the one before it, and the last token of every other sample again
    fresh = len(prompts[0]) + len(prompts[1]) + len(prompts[2]) - 2 * len(system)
    assert fresh + 9 <= stats.prefilled <= fresh + 9 + 2
    assert stats.shared > 0
    assert len({chain.got[0].tokens for chain in chains}) == 12  # no two samples of a prompt say the same
    lone = engine(slots=1, cache_length=128)
    for chain, row in zip(chains, rows, strict=True):
        assert chain.got[0].tokens == lone.generate(random_params(), [row])[0].tokens


def test_many_copies_at_once_read_no_cache_that_was_overwritten():
    # two families of prompts whose heads alternate over the slots, more copies in a refill than go into one call
    rng = np.random.default_rng(1)
    heads = [(BOS, *rng.integers(4, VOCAB, 40).tolist()) for _ in range(2)]
    middles = [tuple(rng.integers(4, VOCAB, 36).tolist()) for _ in range(3)]
    order = np.random.default_rng(2).permutation(36)
    rows = [
        Request(
            (*heads[i % 2], *middles[i // 2 % 3], 5 + i),
            SamplingParams(max_new_tokens=1 + i % 3),
            DrawKey(1, "r", str(i)),
        )
        for i in order.tolist()
    ]
    e = Engine(
        SHALLOW, ByteTokenizer(), slots=9, cache_length=128, extend_rows=(2,), extend_lengths=(8, 64), decode_steps=2
    )
    chains, params = [Requests(i, row) for i, row in enumerate(rows)], random_params(config=SHALLOW)
    assert e.run(params, chains).shared > 0
    lone = engine(slots=1, cache_length=128, config=SHALLOW)
    for chain, row in zip(chains, rows, strict=True):
        assert chain.got[0].tokens == lone.generate(params, [row])[0].tokens


def test_without_compiling_ahead_a_second_run_compiles_nothing():
    e = engine(slots=6, cache_length=60, config=SHALLOW, extend_rows=(2,), extend_lengths=(8, 32))
    rows = requests(20)
    ones = [Requests(i, row) for i, row in enumerate(rows)]
    assert e.run(random_params(config=SHALLOW), ones).compiles > 0
    again = e.run(random_params(1, config=SHALLOW), [Requests(i, row) for i, row in enumerate(rows)])
    assert again.compiles == 0


def test_a_chain_reuses_its_cache_when_it_appends_rolls_back_or_forks():
    rng = np.random.default_rng(3)
    base = (BOS, *rng.integers(4, VOCAB, 20).tolist())
    texts = [base, (*base, 7, 8), base[:12], (*base[:12], 30, 31, 32), base]
    rows = [Request(t, SamplingParams(temperature=0, max_new_tokens=5)) for t in texts]
    chain = Requests(0, *rows)
    stats = engine(slots=1).run(random_params(), [chain])
    for row, got in zip(rows, chain.got, strict=True):
        assert list(got.tokens) == naive(random_params(), row.tokens, 5)[0]
    assert stats.requests == 5
    assert stats.prefilled < sum(len(t) for t in texts) - 40
    assert stats.lower_bound <= stats.prefilled


def test_chains_are_pulled_little_ahead_of_free_slots_and_each_ends_once():
    pulled, done, open_at_once = [], [], []

    def source():
        for i, row in enumerate(requests(12)):
            pulled.append(Requests(i, row))
            open_at_once.append(sum(not chain.ended for chain in pulled))
            yield pulled[-1]

    seen = []
    stats = engine(slots=3).run(random_params(), source(), on_done=lambda c: done.append(c.id), progress=seen.append)
    assert sorted(map(int, done)) == list(range(12))
    assert max(open_at_once) <= 3 + 1  # one is asked for its first request while the device computes
    assert stats.chains == 12
    assert seen
    assert seen[-1].chains <= 12


def test_a_cache_beyond_the_model_is_refused():
    with pytest.raises(ConfigError, match=r"cache_length is 300.*256"):
        Engine(CONFIG, ByteTokenizer(), slots=1, cache_length=300, stream=object)
    stretched = dataclasses.replace(CONFIG, rope_scaling=RopeScaling("linear", 2.0))
    assert Engine(stretched, ByteTokenizer(), slots=1, cache_length=512, stream=object).cache_length == 512
    with pytest.raises(ConfigError, match=r"cache_length is 513.*512"):
        Engine(stretched, ByteTokenizer(), slots=1, cache_length=513, stream=object)
    with pytest.raises(ConfigError, match="slots is 0"):
        Engine(CONFIG, ByteTokenizer(), slots=0, cache_length=30, stream=object)
