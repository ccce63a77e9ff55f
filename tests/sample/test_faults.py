"""Bad rows name themselves and leave the others alone; ends of the cache, of the text and of characters."""

import jax
import jax.numpy as jnp
import pytest
from sample_helpers import (
    BOS,
    END,
    EOS,
    PIECES,
    ByteStream,
    ByteTokenizer,
    Format,
    Reader,
    Requests,
    Verdict,
    engine,
    ids,
    naive,
    plain,
    random_params,
    scripted,
    self_chains,
)

from selfevo_jax.chains import RefineChain, StageParams
from selfevo_jax.sample import DrawKey, Engine, Request, SamplingParams
from selfevo_jax.sharding import make_mesh

GREEDY = SamplingParams(temperature=0, max_new_tokens=6)


def follow(config, params, prompt, **kw):
    e = Engine(
        config,
        ByteTokenizer(),
        slots=2,
        cache_length=64,
        stream=ByteStream,
        decode_steps=4,
        text_steps=4,
        extend_lengths=(8,),
        extend_rows=(2,),
    )
    row = Request(tuple(prompt), SamplingParams(**{"temperature": 0, "max_new_tokens": 20, "stop_ids": (EOS,), **kw}))
    return e.generate(params, [row])[0]


@pytest.mark.parametrize(
    ("tokens", "params", "needles"),
    [
        ((), GREEDY, ["empty", "0 tokens"]),
        (tuple(range(4, 44)), GREEDY, ["40 tokens", "holds 32"]),
        ((BOS, 5), SamplingParams(max_new_tokens=0), ["max_new_tokens is 0"]),
        ((BOS, 5), SamplingParams(temperature=float("nan")), ["temperature is nan"]),
        ((BOS, 5), SamplingParams(stop_ids=(EOS, 64)), ["stop id 64", "64 tokens"]),
        ((BOS, 5), SamplingParams(stop_ids=(-1,)), ["stop id -1"]),
        ((BOS, 99), GREEDY, ["token id 99"]),
    ],
)
def test_a_bad_row_is_named_and_the_others_go_on(tokens, params, needles):
    rows = [Request((BOS, 4 + i), GREEDY, DrawKey(prompt_id=f"row-{i}")) for i in range(4)]
    rows[2] = Request(tokens, params, DrawKey(prompt_id="row-2"))
    got = engine(slots=2, cache_length=32).generate(random_params(), rows)
    assert got[2].finish == "error"
    for needle in ["row-2", *needles]:
        assert needle in got[2].error
    for i in (0, 1, 3):
        assert list(got[i].tokens) == naive(random_params(), rows[i].tokens, 6)[0]


def _chain(name, prompt="ab", fmt=None, stop_ids=()):
    short = SamplingParams(max_new_tokens=6, stop_ids=stop_ids)
    feedback = SamplingParams(max_new_tokens=10, stop_strings=tuple("abcdefghijklmnopqrst"))
    judge, stages = Reader(lambda _: Verdict(False)), StageParams(short, feedback, short)
    return RefineChain(name, prompt, fmt or Format(), stages, ByteTokenizer().decode, judge=judge)


class _Nothing(Format):
    def respond(self, prompt):
        return []


class _LongInstruction(Format):
    def judge(self, so_far, text=None):
        return [*so_far, *[60] * 60]


@pytest.mark.parametrize("shape", [None, (2, 2, 2)])
def test_bad_chains_are_named_at_their_stage_and_the_others_go_on(shape):
    def bad():
        return [
            _chain("too-long", "a" * 70),
            _chain("empty", fmt=_Nothing()),
            _chain("bad-stop", stop_ids=(64,)),
            _chain("long-judge", fmt=_LongInstruction()),
        ]

    def nan(i):
        row = Request((BOS, 5), GREEDY, DrawKey(prompt_id=f"nan-{i}"))
        spoilt = Request((BOS, 5), SamplingParams(temperature=float("nan")), DrawKey(prompt_id=f"nan-{i}", sample=1))
        none = Request((BOS, 5), SamplingParams(max_new_tokens=0), DrawKey(prompt_id=f"nan-{i}", sample=2))
        return Requests(f"nan-{i}", row, spoilt, none, row)

    good, alone, wrong, mixed = self_chains(6, 1.0), self_chains(6, 1.0), bad(), [nan(0), nan(1)]
    every = [mixed[0], *[c for pair in zip(good, [*wrong, *bad()[:2]], strict=True) for c in pair], mixed[1]]
    done = []
    e = engine(5, mesh=None if shape is None else make_mesh(*shape))
    stats = e.run(random_params(), every, on_done=done.append)
    assert sorted(map(id, done)) == sorted(map(id, every))
    assert stats.failed == 6 + 4
    engine(1).run(random_params(), alone)
    assert plain([], good) == plain([], alone)
    needles = ["71 tokens but the cache holds 64", "0 tokens", "stop id 64", "tokens but the cache holds 64"]
    stages = ["respond", "respond", "respond", "feedback-0"]
    for chain, needle, stage in zip(wrong, needles, stages, strict=True):
        error = chain.result.error
        assert error.startswith(f"prompt '{chain.prompt_id}' (round 0, stage {stage}, sample 0): ")
        assert needle in error
    for chain in mixed:  # a chain may go on after a bad request
        first, spoilt, none, last = chain.got
        assert (first.finish, last.finish) == ("length", "length")
        assert last.tokens == first.tokens == tuple(naive(random_params(), (BOS, 5), 6)[0])
        assert f"'{chain.id}'" in spoilt.error
        assert "temperature is nan" in spoilt.error
        assert "sample 2): max_new_tokens is 0" in none.error


def test_a_prompt_that_fits_exactly_passes():
    row = Request(tuple(range(4, 36)), SamplingParams(temperature=0, max_new_tokens=1))
    got = engine(cache_length=32).generate(random_params(), [row])[0]
    assert (list(got.tokens), got.finish) == (naive(random_params(), row.tokens, 1)[0], "length")


def test_a_text_that_reaches_the_end_of_the_cache_stops_there_and_says_so():
    row = Request(tuple(range(4, 54)), SamplingParams(temperature=0, max_new_tokens=32))
    rows = [row, Request((BOS,), SamplingParams(temperature=0, max_new_tokens=32))]
    got = engine(cache_length=64).generate(random_params(), rows)
    assert got[0].finish == "cache"
    assert not got[0].finished
    assert list(got[0].tokens) == naive(random_params(), row.tokens, 15)[0]  # 50 + 14 in the cache, one beyond it
    assert list(got[1].tokens) == naive(random_params(), (BOS,), 32)[0]


def test_weights_that_are_not_finite_give_errors_not_texts():
    broken = jax.tree.map(lambda x: x * jnp.nan, random_params())
    got = engine().generate(broken, [Request((BOS, 5), GREEDY, DrawKey(prompt_id="x"))])[0]
    assert got.finish == "error"
    assert "'x'" in got.error
    assert "not finite" in got.error


@pytest.mark.parametrize("stop", [EOS, END])
def test_any_of_several_stop_ids_ends_the_text_and_stays_out_of_it(stop):
    config, params = scripted([BOS, *ids("abc"), stop])
    got = follow(config, params, [BOS], stop_ids=(EOS, END))
    assert (got.text, got.finish, got.finished) == ("abc", "stop", True)
    assert len(got.tokens) == len(got.logprobs) == 3
    assert (got.end, len(got.end_logprobs)) == ((stop,), 1)


def test_five_and_more_stop_ids_work():
    config, params = scripted([BOS, *ids("abcde")])
    got = follow(config, params, [BOS], stop_ids=(EOS, END, 40, 41, 42, ids("d")[0]))
    assert (got.text, got.finish) == ("abc", "stop")


@pytest.mark.parametrize("split", [[b"\nQ", b"uestion:"], [b"\n", b"Question", b":"]])
def test_a_stop_string_is_found_however_the_tokens_split_it(split):
    pieces = [PIECES.index(p) for p in split]
    config, params = scripted([BOS, *ids("ans"), *pieces, *ids("xyz")])
    got = follow(config, params, [BOS], stop_strings=("\nQuestion:",))
    assert (got.text, got.finish) == ("ans", "stop_string")
    assert list(got.tokens) == ids("ans")
    assert len(got.logprobs) == 3
    assert (list(got.end), len(got.end_logprobs)) == (pieces, len(pieces))


def test_a_one_letter_stop_string_ends_before_the_letter():
    config, params = scripted([BOS, *ids("hint")])
    got = follow(config, params, [BOS], stop_strings=("n",))
    assert (got.text, got.finish, list(got.tokens)) == ("hi", "stop_string", ids("hi"))


def test_a_stop_string_within_a_token_cuts_the_text_inside_it():
    both = PIECES.index(b"ab")
    config, params = scripted([BOS, *ids("c"), both, *ids("d")])
    got = follow(config, params, [BOS], stop_strings=("b",))
    assert (got.text, list(got.tokens), got.end) == ("ca", ids("c"), (both,))


def test_the_first_of_several_stop_strings_wins():
    config, params = scripted([BOS, *ids("hint")])
    assert follow(config, params, [BOS], stop_strings=("nt", "i")).text == "h"


def test_half_of_a_stop_string_at_the_end_is_kept():
    config, params = scripted([BOS, *ids("xyz"), EOS])
    got = follow(config, params, [BOS], stop_strings=("zz", "yza"))
    assert (got.text, got.finish) == ("xyz", "stop")


def test_a_character_over_two_tokens_is_whole_or_left_out():
    first, second = PIECES.index("🙂".encode()[:2]), PIECES.index("🙂".encode()[2:])
    config, params = scripted([BOS, *ids("a"), first, second, *ids("b"), EOS])
    assert follow(config, params, [BOS]).text == "a🙂b"
    cut = follow(config, params, [BOS], max_new_tokens=2)
    assert (cut.text, cut.finish, cut.finished) == ("a", "length", False)
    assert (cut.tokens, cut.end) == ((*ids("a"), first), ())
    watched = follow(config, params, [BOS], stop_strings=("🙂",))
    assert (watched.text, list(watched.tokens), watched.finish) == ("a", ids("a"), "stop_string")
