"""What the scheduler does when: long prompts in pieces, host work behind the device's back, and the counts."""

import itertools

import numpy as np
import pytest
from sample_helpers import BOS, CONFIG, VOCAB, Requests, engine, random_params

from selfevo_jax.model import param_count
from selfevo_jax.sample import DrawKey, EngineStats, Request, SamplingParams
from selfevo_jax.sample.floor import decode_floor, step_cost
from selfevo_jax.sample.sharing import SHARE_FROM, Copy, plan_copies


def row(n, new, name="p"):
    rng = np.random.default_rng(n)
    return Request(
        (BOS, *rng.integers(4, VOCAB, n - 1).tolist()),
        SamplingParams(temperature=1.0, max_new_tokens=new),
        DrawKey(0, "respond", name),
    )


def test_a_long_prompt_goes_in_pieces_between_the_tokens_of_the_others():
    e = engine(slots=4, cache_length=128, extend_lengths=(8,), extend_rows=(4,), extend_tokens=32, text_steps=2)
    rows = [row(6, 40, "a"), row(7, 40, "b"), row(8, 40, "c"), row(120, 4, "long")]
    progress = []
    chains = [Requests(i, r) for i, r in enumerate(rows)]
    e.run(random_params(), chains, progress=lambda s: progress.append((s.prefilled, s.decoded)))
    total = sum(len(r.tokens) for r in rows)
    assert max(decoded for prefilled, decoded in progress if prefilled < total) > 3 * 20
    assert max(b - a for (a, _), (b, _) in itertools.pairwise(progress)) <= 8
    lone = engine(slots=1, cache_length=128)
    for chain, r in zip(chains, rows, strict=True):
        assert chain.got[0].tokens == lone.generate(random_params(), [r])[0].tokens


def test_chains_that_ended_are_handed_on_also_when_a_later_one_fails():
    done = []

    class Broken:
        id = "broken"

        def next(self, last):
            if last is None:
                return row(5, 3)
            raise RuntimeError("no next")

    with pytest.raises(RuntimeError, match="no next"):
        engine(slots=2).run(random_params(), [Requests(0, row(4, 2)), Broken()], on_done=lambda c: done.append(c.id))
    assert done == ["0"]


def test_the_counts_add_up():
    e = engine(slots=2)
    chains = [Requests(i, row(6 + i, 4 + i), Request((), SamplingParams())) for i in range(5)]
    stats = e.run(random_params(), chains)
    made = sum(len(chain.got[0].tokens) for chain in chains)
    assert (stats.chains, stats.requests, stats.failed) == (5, 10, 5)
    assert (stats.decoded, stats.busy) == (made, made - 5)  # the first token of each comes from the extend
    assert stats.lower_bound == 6 + 7 + 8 + 9 + 10
    assert stats.prefilled == stats.lower_bound - 3  # the last three find their BOS in a slot that was used before
    # the step that draws token k + 1 puts token k behind the prompt and reads all of it
    assert stats.context == sum(6 + i + k for i, c in enumerate(chains) for k in range(1, len(c.got[0].tokens)))
    assert stats.steps * 2 >= stats.busy
    assert 0 < stats.drain_steps <= stats.steps
    assert stats.seconds >= stats.extend_seconds + stats.decode_seconds
    assert stats.to_dict()["occupancy"] == stats.occupancy


def test_the_floor_of_a_step_is_counted_by_hand():
    n, position = param_count(CONFIG), 2 * CONFIG.n_layers * CONFIG.n_kv_heads * CONFIG.head_dim * 4
    cost = step_cost(CONFIG, rows=3, context=10, weight_bytes=4 * n, position_bytes=position)
    assert cost.flops == 3 * (2 * n + 4 * CONFIG.n_layers * CONFIG.n_heads * CONFIG.head_dim * 10)
    assert cost.bytes == 4 * n + 3 * 10 * position
    e = engine(slots=3)
    stats = e.run(random_params(), [Requests(i, row(6, 9)) for i in range(3)])
    floor = e.floor(stats)
    assert floor["step_bytes"] == pytest.approx(4 * n + stats.context / stats.steps * position)
    assert 0 < floor["share"] < 1
    assert decode_floor(CONFIG, EngineStats(slots=1), [], "float32", weight_bytes=1, position_bytes=1) == {}


def text(*parts):
    """A text of SHARE_FROM tokens a part."""
    return tuple(token for part in parts for token in [part] * SHARE_FROM)


def test_samples_of_one_prompt_wait_for_the_first_and_copy_it():
    wanted = {0: text(1, 2), 1: text(1, 2), 2: text(3), 3: (9, 9)}
    now, later, copies = plan_copies(wanted, dict.fromkeys(range(4), ()))
    assert sorted(now) == [0, 2, 3]
    assert later == [1]
    assert copies == []
    # the last token is computed again: its logits are needed
    assert plan_copies({1: wanted[1]}, {0: wanted[0], 1: (), 2: wanted[2]}) == (
        [1],
        [],
        [Copy(0, 1, 2 * SHARE_FROM - 1)],
    )


def test_a_copy_never_reads_a_slot_that_an_earlier_copy_wrote():
    held = [text(1, 2, 3), text(1, 4)]
    now, later, copies = plan_copies({1: text(1, 2, 3, 5), 2: text(1, 4, 6)}, {0: held[0], 1: held[1], 2: ()})
    assert sorted(now) == [1, 2] or later
    written = set()
    for copy in copies:
        assert copy.source not in written
        written.add(copy.target)
