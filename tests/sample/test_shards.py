"""Slots on several shards of a mesh: what is computed there, counted on paper, and the same texts as one device's."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh
from paper_programs import run_on_paper
from sample_helpers import (
    BOS,
    CONFIG,
    EOS,
    SHALLOW,
    VOCAB,
    ByteStream,
    ByteTokenizer,
    Requests,
    plain,
    random_params,
    self_chains,
)

from selfevo_jax.sample import DrawKey, Engine, Request, SamplingParams, Speculation, shapes
from selfevo_jax.sample.placing import Placing
from selfevo_jax.sharding import make_mesh

MESHES = [(8, 1, 1), (2, 2, 2)]
LONG = dataclasses.replace(CONFIG, max_position=640, vocab_size=512)


class Stages:
    """A chain of four texts: a question, and after each answer an instruction."""

    def __init__(self, number, sample, prompt, instructions):
        self.id, self.text, self.instructions, self.said = f"{number}/{sample}", prompt, instructions, []
        self.sample = sample

    def next(self, last):
        if last is not None:
            assert last.error is None
            self.said.append(last.tokens)
            self.text += last.tokens + self.instructions[len(self.said) - 1]
        if len(self.said) == len(self.instructions):
            return None
        key = DrawKey(1, f"stage {len(self.said)}", self.id.split("/")[0], self.sample)
        return Request(self.text, SamplingParams(max_new_tokens=60, stop_ids=(1, 2, 3, 4)), key)


def questions(number, samples=1):
    """Chains whose prompts are as long as those of grade-school questions, about a hundred tokens."""
    rng = np.random.default_rng(0)

    def text(length):
        return tuple(rng.integers(5, 512, int(length)).tolist())

    head, instructions = text(14), (text(55), text(30), text(55), ())
    prompts = [head + text(np.clip(rng.lognormal(4.06, 0.4), 20, 150)) + text(30) for _ in range(number)]
    return [Stages(i, sample, prompt, instructions) for i, prompt in enumerate(prompts) for sample in range(samples)]


def on_paper(shape, chains, slots=32, repeats=False, accelerator=False, **options):
    """What a run of the chains says and costs on a mesh; None is one device. `accelerator`: with the shapes that an
    engine has there."""
    mesh = None if shape is None else make_mesh(*shape)
    e = Engine(LONG, None, slots=slots, cache_length=640, mesh=mesh, stream=ByteStream, **options)
    if accelerator:
        e._on_cpu, e._alone_from, e._multiple = False, math.inf, 8
        e.decode_windows = windows = shapes.cache_windows(e.cache_length)
        e.extend_windows = shapes.extend_windows(windows)
    e.drawable, e.new_stream = None, lambda: Mute()
    e.fit([n for chain in chains for n in (len(chain.text), 56, 31, 56)])
    stats, programs = run_on_paper(e, chains, repeats)
    return [chain.said for chain in chains], stats, programs


class Mute:
    def push(self, id):
        return ""

    def finish(self):
        return "", True


@functools.cache
def alone(samples=1, number=128):
    return on_paper(None, questions(number, samples))


@pytest.mark.parametrize("shape", MESHES)
def test_a_mesh_computes_no_more_than_one_device_and_its_slots_are_as_busy(shape):
    said, one, _ = alone()
    found, stats, programs = on_paper(shape, questions(128))
    assert found == said
    assert stats.prefilled + stats.padding <= 1.15 * (one.prefilled + one.padding)
    assert stats.computed_over_least <= 1.05
    assert stats.full_occupancy >= 0.92
    rows = {n for name, n, _ in programs.calls if name == "decode"}
    assert min(rows) < 32  # the drain goes on with fewer


def test_with_an_accelerator_s_shapes_a_mesh_pads_little_more_than_one_device():
    how = {"slots": 128, "accelerator": True}
    (said, one, _), (found, stats, _) = (on_paper(shape, questions(512), **how) for shape in (None, (8, 1, 1)))
    assert found == said
    assert stats.prefilled + stats.padding <= 1.15 * (one.prefilled + one.padding)


@pytest.mark.parametrize("shape", [None, (2, 2, 2)])
def test_with_a_step_behind_each_dispatch_the_device_does_not_wait_and_computes_the_same_tokens(shape):
    said, without, _ = on_paper(shape, questions(128))
    found, stats, _ = on_paper(shape, questions(128), overlap_steps=1)
    assert found == said
    assert (without.waits, without.decoded, without.busy) == (without.launches, stats.decoded, stats.busy)
    assert (stats.waits, stats.prefilled) == (1, pytest.approx(without.prefilled, rel=0.01))
    assert stats.prefilled + stats.padding <= 1.01 * (without.prefilled + without.padding)
    assert stats.steps <= 1.025 * without.steps
    assert 0 < stats.late <= 0.04 * stats.busy


def test_samples_of_a_prompt_share_its_prefill_within_their_shard():
    said, one, _ = alone(samples=4, number=24)
    found, stats, _ = on_paper((2, 2, 2), questions(24, samples=4))
    assert found == said
    assert stats.shared > one.shared / 2  # a sample whose shard is full goes to another one
    assert stats.prefilled < 1.2 * one.prefilled


@settings(max_examples=25)
@given(st.data())
def test_slots_that_are_moved_chosen_and_copied_stay_on_their_shard(data):
    shards, each = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.integers(1, 6))
    places = Placing(shards * each, shards)
    live = data.draw(st.lists(st.integers(0, places.slots - 1), unique=True)) if places.slots else []
    shard_of = [i // each for i in range(places.slots)]
    n_rows = max([1, *map(len, places.by_shard(live))])
    moves = places.moves(sorted(live), n_rows)
    after = set(live) - {i for i, _ in moves} | {j for _, j in moves}
    assert all(shard_of[i] == shard_of[j] for i, j in moves)
    assert len(after) == len(live)
    assert all(i % each < n_rows for i in after)
    ids, row_of = places.rows_of(places.by_shard(live), n_rows)
    assert {int(ids[row]): row for row in row_of.values()} == row_of
    assert all(row // n_rows == shard_of[i] for i, row in row_of.items())
    copied = [pair for call in places.copies(moves, 2) for pair in zip(*map(np.ndarray.tolist, call), strict=True)]
    assert sorted(pair for pair in copied if pair[1] < places.slots) == sorted(moves)


def test_on_a_mesh_whole_chains_and_shared_prompts_say_what_they_say_alone():
    params, rng = random_params(config=SHALLOW), np.random.default_rng(5)
    head = (BOS, *rng.integers(4, VOCAB, 36).tolist())

    def all_chains():
        ends = SamplingParams(temperature=1.0, max_new_tokens=9, stop_ids=(EOS,))
        rows = [Request((*head, 5 + i // 3), ends, DrawKey(0, "r", str(i // 3), i % 3)) for i in range(12)]
        return [*self_chains(10, 1.0), *(Requests(i, row) for i, row in enumerate(rows))]

    def run(slots, **on):
        how = {"cache_length": 64, "stream": ByteStream, "extend_lengths": (40,), **on}
        e = Engine(SHALLOW, ByteTokenizer(), slots=slots, **how)
        chains = all_chains()
        stats = e.run(params, chains)
        return plain([chain.got[0] for chain in chains[10:]], chains[:10]), stats, e

    lone, *_ = run(4)
    two_slices = Mesh(np.asarray(jax.devices()).reshape(2, 1, 2, 2), make_mesh().axis_names)
    found, stats, e = run(16, mesh=two_slices)
    assert found == lone
    assert e.shards == 4
    assert e.at_once(e.rows_of(40)[0], 40) < 4 * e.rows_of(40)[0]  # rows go one after the other
    assert len(e.decode_rows) == 2
    assert stats.shared > 0


@pytest.mark.parametrize("shape", [None, (4, 1, 1)])
def test_drafts_change_no_text_also_where_chains_are_moved_and_steps_go_on_behind_a_dispatch(shape):
    plain_said, without, _ = on_paper(shape, questions(8), slots=4, repeats=True)
    for behind, speculation in enumerate((Speculation(3), Speculation(2, always=False))):
        how = {"speculation": speculation, "overlap_steps": behind}
        said, found, _ = on_paper(shape, questions(8), slots=4, repeats=True, **how)
        assert said == plain_said
        assert 0 < found.accepted < found.drafted
        assert found.busy + found.accepted == without.busy
