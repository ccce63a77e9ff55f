"""Drafts of the next tokens: where they are looked up, that they change no text, and when they are checked."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_programs import looked_up
from sample_helpers import BOS, CONFIG, Requests, engine, random_params, requests, told

from selfevo_jax.config import parse_config
from selfevo_jax.config.load import override
from selfevo_jax.errors import ConfigError
from selfevo_jax.sample import DrawKey, Request, Speculation
from selfevo_jax.sample.draft import proposed
from selfevo_jax.sample.speculation import Pace
from selfevo_jax.sharding import make_mesh

THREE = Speculation(3)
_proposed = jax.jit(proposed, static_argnums=2)


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=20), min_size=4, max_size=4), st.integers(0, 3))
def test_drafts_are_what_followed_the_latest_of_the_longest_matches(texts, junk):
    held = np.full((4, 20), junk, np.int32)  # what lies behind a text is not looked at
    for row, text in enumerate(texts):
        held[row, : len(text)] = text
    drafts, found = _proposed(held, np.asarray([len(text) - 1 for text in texts], np.int32), 5)
    wanted = [looked_up(text, 5) for text in texts]
    assert found.tolist() == [one is not None for one in wanted]
    for row, one in enumerate(wanted):
        assert one is None or drafts[row].tolist() == one


CAPPED = {"attention_softcap": 20.0, "logit_softcap": 10.0}
MODEL = dataclasses.replace(CONFIG, sliding_window=6, local_layers=(True, False), **CAPPED)
"""Layers that see all and layers with a window, and soft caps; below with an int8 cache."""


@functools.cache
def params():
    return random_params(config=MODEL)


@functools.cache
def with_and_without():
    return tuple(engine(slots=4, config=MODEL, cache_dtype="int8", speculation=one) for one in (None, THREE))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_texts_of_requests_and_chains_are_the_same_with_drafts(temperature):
    plain, drafting = with_and_without()
    order = np.random.default_rng(1).permutation(20)
    assert told(drafting, params(), temperature, order) == told(plain, params(), temperature)


def test_ends_and_log_probabilities_are_the_same_with_drafts():
    rows = requests(8, temperature=0.0, max_new_tokens=80, stop_ids=())  # they repeat themselves, to the cache's end
    rows += requests(6, seed=1, temperature=0.0, stop_ids=(), max_new_tokens=30, stop_strings=tuple("abcdefghij"))
    rows += requests(6, seed=2, temperature=0.9, top_k=3, top_p=0.9, max_new_tokens=1)
    plain, drafting = with_and_without()
    pairs = list(zip(*(e.generate(params(), rows) for e in (plain, drafting)), strict=True))
    assert {"cache", "length", "stop_string"} <= {one.finish for one, _ in pairs}
    for one, other in pairs:
        assert dataclasses.replace(one, logprobs=(), end_logprobs=()) == dataclasses.replace(
            other, logprobs=(), end_logprobs=()
        )
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)


def test_a_mesh_draws_the_same_with_drafts():
    on_mesh = engine(slots=4, config=MODEL, cache_dtype="int8", mesh=make_mesh(2, 1, 2), speculation=THREE)
    rows = requests(9, temperature=0.7, max_new_tokens=20)
    got = [[c.tokens for c in e.generate(params(), rows)] for e in (on_mesh, with_and_without()[0])]
    assert got[0] == got[1]


def steps_of(prompt, drawn):
    """Steps, drafts found and drafts accepted while a text is drawn, counted from the text."""
    steps = drafted = accepted = 0
    at = 1  # the first token comes from the prefill
    while at < len(drawn):
        guesses = looked_up([*prompt, *drawn[:at]], 3)
        right = 0
        while guesses and right < 3 and at + right < len(drawn) - 1 and guesses[right] == drawn[at + right]:
            right += 1
        steps, drafted, accepted = steps + 1, drafted + 3 * (guesses is not None), accepted + right
        at += 1 + right
    return steps, drafted, accepted


def test_steps_and_drafts_are_those_that_the_texts_stand_for():
    rows = requests(8, temperature=0.0, max_new_tokens=40, stop_ids=())
    head = (BOS, *range(4, 42))  # a slot copies it from another one, with what drafts are looked up in
    rows += [Request((*head, 42 + i), rows[0].params, DrawKey(0, "r", str(i))) for i in range(5)]
    plain, drafting = with_and_without()
    chains = [[Requests(i, row) for i, row in enumerate(rows)] for _ in range(2)]
    before, after = (e.run(params(), found) for e, found in zip((plain, drafting), chains, strict=True))
    counted = np.sum([steps_of(row.tokens, c.got[0].tokens) for row, c in zip(rows, chains[1], strict=True)], axis=0)
    assert (after.busy, after.drafted, after.accepted) == tuple(counted)
    assert (before.drafted, before.steps_saved, before.busy) == (0, 0, after.busy + after.accepted)
    assert after.shared > 0
    assert after.draft_steps == after.steps < before.steps / 1.5  # a greedy text of this model repeats itself
    assert after.steps + after.steps_saved == pytest.approx(before.steps, rel=0.2)
    assert 0 < after.occupancy <= 1


def test_an_engine_that_measures_draws_the_same_by_programs_made_ahead():
    plain, _ = with_and_without()
    how = {"config": MODEL, "cache_dtype": "int8", "speculation": dataclasses.replace(THREE, always=False)}
    measuring = engine(slots=4, **how)
    measuring.pace = Pace(always=False)  # by the clock, as in float32
    rows = requests(12, temperature=0.0, max_new_tokens=40, stop_ids=())
    for job in measuring.compilations(params(), [len(row.tokens) for row in rows], n_stops=2):
        job()
    chains = [Requests(i, row) for i, row in enumerate(rows)]
    stats = measuring.run(params(), chains)
    assert stats.compiles == 0
    assert 0 < stats.draft_steps < stats.steps
    assert [c.got[0].tokens for c in chains] == [c.tokens for c in plain.generate(params(), rows)]


def pace(rates, plain=1.0, drafting=1.5, **how):
    """A pace that has seen stages draw so many tokens a step, and steps without and with drafts take so long."""
    found = Pace(always=False, **how)
    for stage, rate in rates.items():
        found.drew(stage, round(100 * rate), 100)
    for _ in range(3):
        found.timed("shape", False, plain)
        found.timed("shape", True, drafting)
    return found


def test_drafts_are_checked_where_the_slots_at_work_gain_more_than_they_cost():
    found = pace({"refine-1": 2.5, "respond": 1.1})
    assert found.pays("shape", ["refine-1"])
    assert not found.pays("shape", ["respond"])
    assert found.pays("shape", ["refine-1", "respond"])  # 1.8 in the mean
    assert not found.pays("shape", ["refine-1", "respond", "respond", "respond"])


def test_what_is_not_known_is_tried_and_what_did_not_pay_is_tried_again():
    found = pace({"respond": 1.1})
    assert [found.pays("other", ["respond"]) for _ in range(2)] == [False, False]  # first a step without
    for _ in range(3):
        found.timed("other", False, 1.0)
    assert found.pays("other", ["respond"])
    assert found.pays("shape", ["respond", "refine-1"])  # how many drafts of a refinement are right is not known
    for _ in range(400):
        found.timed("shape", False, 1.0)
    assert found.pays("shape", ["respond"])
    found.timed("shape", True, 1.5)
    assert not found.pays("shape", ["respond"])  # the next one does without again


def test_all_processes_go_by_one_time():
    found = pace({"respond": 1.4}, agreed=lambda seconds: 1.0)
    assert found.pays("shape", ["respond"])


def test_no_clock_decides_where_rounding_depends_on_the_shape_of_a_step():
    for drafting in (0.1, 10.0):
        found = pace({"respond": 1.4, "refine-1": 2.5}, drafting=drafting, taken=1.5)
        assert [found.pays("new", [stage]) for stage in ("respond", "refine-1")] == [False, True]


def test_the_setting_names_the_drafts_and_auto_leaves_them_out_where_arithmetic_binds():
    assert Speculation.of("off", "tpu") is None
    assert Speculation.of("auto", "cpu") is None
    assert Speculation.of(5, "cpu") == Speculation(5)
    auto = Speculation.of("auto", "gpu")
    assert not auto.always
    assert [auto.drafts_of(rows) for rows in (1, 51, 52)] == [4, 4, 0]


@pytest.mark.parametrize("wrong", [0, 17, "on", True, 1.5])
def test_a_wrong_setting_is_one_clear_line(wrong):
    tree = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}}
    for right in ("auto", "off", 1, 16):
        assert parse_config({**tree, "sampling": {"speculate": right}}).sampling.speculate == right
    with pytest.raises(
        ConfigError, match=r"sampling\.speculate: found .*, expected auto or off or a whole number"
    ) as one:
        parse_config({**tree, "sampling": {"speculate": wrong}})
    assert "\n" not in str(one.value)


def test_off_is_a_word_on_the_command_line():
    assert override("sampling.speculate=off") in {("sampling.speculate", "off"), ("sampling.speculate", False)}
