"""Masks by construction, packing, and batches by random access."""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.data.batches import Batches
from selfevo_jax.data.examples import (
    Example,
    TermWeights,
    by_term,
    fit_length,
    meta_examples,
    qa_example,
    self_example,
)
from selfevo_jax.data.packing import best_fill, first_fit, pack, rows_of
from selfevo_jax.errors import ConfigError, DataError, EmptySelectionError, ModelError

BOS, EOS, OTHER_STOP, JUDGE, REFINE, ANSWER = 1, 2, 3, 4, 5, 6


class Letters:
    """Lower-case letters are tokens 10, 11, ...; it knows no control token and the padding id is EOS."""

    pad_id = EOS

    def encode(self, text):
        return [10 + ord(c) - ord("a") for c in text]


@dataclass
class Format:
    """Plain tokens with no marker that a search in text could find."""

    end: tuple[int, ...] = (EOS,)
    tokenizer: Letters = field(default_factory=Letters)

    def respond(self, prompt):
        return [BOS, *self.tokenizer.encode(prompt), ANSWER]

    def judge(self, so_far):
        return [*so_far, *self.end, JUDGE]

    def refine(self, so_far):
        return [*so_far, *self.end, REFINE]

    def continuation(self, so_far, text):
        return self.tokenizer.encode(text)


@dataclass(frozen=True)
class Row:
    id: str = "row"
    prompt: str = "abc"
    response: str = "de"
    feedback: str = "fgh"
    refinement: str = "ij"
    answer: str = "xy"
    good: bool = False


def letters(text):
    return Letters().encode(text)


def example(id, size, seed=0):
    rng = np.random.default_rng(seed + hash(id) % 1000)
    weights = np.ones(size, np.float32)
    weights[0] = 0
    return Example(str(id), "x", rng.integers(10, 30, size).astype(np.int32), weights)


def test_meta_row_teaches_feedback_and_refinement_and_the_direct_answer_alone():
    meta, direct = meta_examples(Row(), Format(), TermWeights(feedback=2, refine=3, direct=5))
    assert meta.term == "meta"
    assert meta.tokens.tolist() == [
        *(BOS, *letters("abc"), ANSWER, *letters("de"), EOS, JUDGE),
        *(*letters("fgh"), EOS, REFINE),
        *(*letters("ij"), EOS),
    ]
    assert meta.weights.tolist() == [0] * 9 + [2] * 4 + [0] + [3] * 3
    assert direct.term == "direct"
    assert direct.tokens.tolist() == [BOS, *letters("abc"), ANSWER, *letters("ij"), EOS]
    assert direct.weights.tolist() == [0] * 5 + [5] * 3
    assert set(by_term([meta, direct])) == {"meta", "direct"}


def test_c20_prompts_and_role_headers_are_never_targets():
    for one in (*meta_examples(Row(), Format()), qa_example(Row(), Format())):
        headers = np.isin(one.tokens, [BOS, JUDGE, REFINE, ANSWER])
        assert not one.weights[headers].any()


def test_a_term_that_weighs_nothing_is_left_out():
    terms = [e.term for e in meta_examples(Row(), Format(), TermWeights(direct=0))]
    assert terms == ["meta"]
    terms = [e.term for e in meta_examples(Row(), Format(), TermWeights(feedback=0, refine=0))]
    assert terms == ["direct"]
    (meta,) = meta_examples(Row(), Format(), TermWeights(feedback=0, direct=0))
    assert meta.weights.sum() == 3
    with pytest.raises(ConfigError, match="refine is -1"):
        TermWeights(refine=-1)


def test_c10_the_mask_covers_real_tokens_only_whatever_the_ending():
    other = qa_example(Row(), Format(end=(OTHER_STOP,)))
    cut = self_example("cut", "abc", letters("xy"), (), Format())
    packed = pack([other, cut], 32)
    assert packed.weights[packed.segment_ids == 0].sum() == 0
    assert packed.weights[packed.segment_ids == 1].sum() == 3
    assert packed.weights[packed.segment_ids == 2].sum() == 2


def test_c18_the_end_is_a_target_once_an_example_although_the_pad_id_is_the_same_token():
    rows = [qa_example(Row(answer="x"), Format()), qa_example(Row(answer="xyz"), Format())]
    packed = pack(rows, 32)
    packed.tokens[packed.segment_ids == 0] = Letters.pad_id
    for segment in (1, 2):
        ends = (packed.tokens == EOS) & (packed.segment_ids == segment)
        assert packed.weights[ends].tolist() == [1]
    assert packed.weights[packed.segment_ids == 0].sum() == 0


def test_c19_the_first_answer_token_is_a_target():
    one = qa_example(Row(prompt="ab", answer="xy"), Format())
    assert len(one) == 4 + 3
    assert one.weights.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_c21_long_rows_are_dropped_and_counted_and_nothing_left_is_an_error():
    rows = [example("a", 5), example("b", 9), example("c", 8)]
    kept, dropped = fit_length(rows, 8)
    assert ([e.id for e in kept], dropped) == (["a", "c"], 1)
    with pytest.raises(EmptySelectionError, match=r"none of 3 examples .* 4 tokens .*shortest has 5"):
        fit_length(rows, 4)
    no_target = Example("d", "x", np.arange(3, dtype=np.int32), np.zeros(3, np.float32))
    with pytest.raises(EmptySelectionError):
        fit_length([no_target], 8)
    with pytest.raises(EmptySelectionError):
        fit_length([], 8)


def test_c22_a_self_made_answer_teaches_its_own_ids_and_the_end_that_was_said_or_none():
    cut = self_example("r", "abc", (40, 41), (), Format())
    whole = self_example("r", "abc", (40, 41), (OTHER_STOP,), Format())
    assert cut.tokens.tolist() == [BOS, *letters("abc"), ANSWER, 40, 41]
    assert whole.tokens.tolist() == [*cut.tokens.tolist(), OTHER_STOP]
    assert (cut.weights.sum(), whole.weights.sum()) == (2, 3)


def test_every_written_text_is_encoded_behind_what_stands_before_it():
    class Seams(Format):
        def continuation(self, so_far, text):
            return [100 + so_far[-1], *letters(text)]

    meta, direct = meta_examples(Row(), Seams())
    behind = [token - 100 for token in meta.tokens if token > 100]
    assert behind == [ANSWER, JUDGE, REFINE]
    assert direct.tokens.tolist() == [BOS, *letters("abc"), ANSWER, 100 + ANSWER, *letters("ij"), EOS]
    assert qa_example(Row(), Seams()).tokens.tolist() == [
        BOS,
        *letters("abc"),
        ANSWER,
        100 + ANSWER,
        *letters("xy"),
        EOS,
    ]


def test_a_row_whose_response_is_right_ends_with_its_feedback_as_a_chain_does():
    meta, direct = meta_examples(Row(good=True), Format(), TermWeights(feedback=2, refine=3, direct=5))
    assert meta.tokens.tolist() == [BOS, *letters("abc"), ANSWER, *letters("de"), EOS, JUDGE, *letters("fgh"), EOS]
    assert meta.weights.tolist() == [0] * 9 + [2] * 4
    assert direct.tokens.tolist() == [BOS, *letters("abc"), ANSWER, *letters("ij"), EOS]
    assert [e.term for e in meta_examples(Row(good=True), Format(), TermWeights(feedback=0))] == ["direct"]


def test_a_format_that_is_not_append_only_is_refused():
    class Rewrites(Format):
        def judge(self, so_far):
            return [BOS, 99, *so_far[2:], *self.end, JUDGE]

    class NoEnd(Format):
        def refine(self, so_far):
            return [*so_far, REFINE]

    with pytest.raises(ModelError, match="judge prompt changes"):
        meta_examples(Row(), Rewrites())
    with pytest.raises(ModelError, match="refine prompt begins with"):
        meta_examples(Row(), NoEnd())


def test_a_first_token_cannot_be_a_target():
    class Empty(Format):
        def respond(self, prompt):
            return []

    with pytest.raises(ModelError, match="row 'row'.*first token is a target"):
        qa_example(Row(), Empty())


@settings(max_examples=60)
@given(st.lists(st.integers(1, 20), max_size=60))
def test_first_fit_places_each_sequence_in_the_first_row_with_room(sizes):
    room, expected = [], []
    for index, size in enumerate(sizes):
        for row, left in enumerate(room):
            if left >= size:
                room[row] -= size
                expected[row].append(index)
                break
        else:
            room.append(20 - size)
            expected.append([index])
    assert first_fit(sizes, 20) == expected


@settings(max_examples=60)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12))
def test_best_fill_takes_the_longest_and_what_fills_its_row_best(sizes):
    rows = best_fill(sizes, 20)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    left = list(range(len(sizes)))
    for row in rows:
        first, *others = row
        assert sizes[first] == max(sizes[i] for i in left)
        left.remove(first)
        sums = {0}  # of every choice among what is left
        for i in left:
            sums |= {s + sizes[i] for s in sums}
        assert sum(sizes[i] for i in others) == max(s for s in sums if s <= 20 - sizes[first])
        left = [i for i in left if i not in others]


def test_tight_packing_of_lengths_as_in_d_meta_leaves_three_places_in_a_hundred():
    lengths = np.random.default_rng(0).normal(476, 120, 300).clip(250, 1100).astype(int)
    tight, loose = (rows_of(lengths.tolist(), 1536, how) for how in ("tight", "shuffled"))
    assert lengths.sum() / (1536 * len(tight)) > 0.97 > lengths.sum() / (1536 * len(loose))


def test_packed_rows_hold_each_sequence_whole_with_positions_from_zero():
    rows = [example(i, size) for i, size in enumerate([7, 12, 3, 9, 5, 16, 2])]
    packed = pack(rows, 16)
    found = {}
    for row, ids in enumerate(packed.ids):
        for segment, id in enumerate(ids, start=1):
            at = packed.segment_ids[row] == segment
            found[id] = (packed.tokens[row][at], packed.weights[row][at], packed.positions[row][at])
    assert sorted(found) == sorted(e.id for e in rows)
    for one in rows:
        tokens, weights, positions = found[one.id]
        np.testing.assert_array_equal(tokens, one.tokens)
        np.testing.assert_array_equal(weights, one.weights)
        np.testing.assert_array_equal(positions, np.arange(len(one)))
    with pytest.raises(DataError, match="16 tokens, but a row holds 15"):
        pack(rows, 15)


def ids_of(batches, steps):
    return [[name for row in batches.at(step)[1] for name in row] for step in steps]


@pytest.mark.parametrize("packing", ["tight", "shuffled", "none"])
def test_c26_each_example_comes_once_an_epoch_in_a_new_order(packing):
    rows = [example(i, 3 + i % 9) for i in range(53)]
    batches = Batches({"a": (rows, 1.0)}, 4, 16, seed=7, packing=packing)
    seen, steps = [], 0
    while len(seen) < 3 * len(rows):
        seen += ids_of(batches, [steps])[0]
        steps += 1
    orders = [seen[at * len(rows) : (at + 1) * len(rows)] for at in range(3)]
    for order in orders:
        assert sorted(order) == sorted(e.id for e in rows)
    assert orders[0] != orders[1] != orders[2]
    if packing == "shuffled":  # an epoch ends with a batch
        assert len(seen) == 3 * len(rows)
    else:  # no row is ever empty
        assert all((batches.at(step)[0].segment_ids > 0).any(axis=1).all() for step in range(steps))
    assert not np.array_equal(batches.at(0)[0].tokens, Batches({"a": (rows, 1.0)}, 4, 16, 8).at(0)[0].tokens)


def test_c26_a_step_can_be_asked_for_in_any_order_and_by_a_new_process():
    rows = [example(i, 3 + i % 9) for i in range(53)]
    pools = {"a": (rows[:30], 0.7), "b": (rows[30:], 0.3)}
    straight = Batches(pools, 4, 16, seed=7)
    expected = [straight.at(step) for step in range(40)]
    resumed = Batches(pools, 4, 16, seed=7)
    for step in (39, 0, 17, 5, 38):
        batch, ids = resumed.at(step)
        assert ids == expected[step][1]
        for mine, theirs in zip(batch.arrays(), expected[step][0].arrays(), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_shares_are_shares_of_examples_drawn():
    rows = [example(i, 4) for i in range(100)]
    pools = {"big": (rows[:80], 0.8), "small": (rows[80:85], 0.2), "off": (rows[85:], 0.0)}
    batches = Batches(pools, 8, 16, seed=0)
    drawn = [name for ids in ids_of(batches, range(batches.steps_per_epoch)) for name in ids]
    counts = Counter(drawn[:100])
    assert all(counts[str(i)] == 1 for i in range(80))
    assert [counts[str(i)] for i in range(80, 85)] == [4] * 5
    assert sum(counts.values()) == 100


def test_batches_have_one_shape_and_know_their_padding():
    rows = [example(i, 3 + i % 9) for i in range(53)]
    batches = Batches({"a": (rows, 1.0)}, 4, 16, seed=7, packing="shuffled")
    made = [batches.at(step)[0] for step in range(batches.steps_per_epoch)]
    assert {x.shape for b in made for x in b.arrays()} == {(4, 16)}
    real = sum(int((b.segment_ids > 0).sum()) for b in made)
    assert real == sum(len(e) for e in rows)
    assert batches.padding_share == pytest.approx(1 - real / (len(made) * 4 * 16))


def test_batches_refuse_what_they_cannot_serve():
    rows = [example(i, 5) for i in range(3)]
    with pytest.raises(EmptySelectionError, match="pool 'self' has a share of 0.8"):
        Batches({"meta": (rows, 0.2), "self": ([], 0.8)}, 4, 16, 0)
    with pytest.raises(EmptySelectionError):
        Batches({"meta": (rows, 0.0)}, 4, 16, 0)
    with pytest.raises(ConfigError, match="row '0'.*5 tokens.*holds 4"):
        Batches({"meta": (rows, 1.0)}, 4, 4, 0)
    with pytest.raises(ConfigError, match="share of pool 'meta'"):
        Batches({"meta": (rows, -1.0)}, 4, 16, 0)


def test_the_row_protocols_take_frozen_rows():
    assert qa_example(replace(Row(), id="other"), Format()).id == "other"
