"""Chains that ask for several texts at once: their branches share a slot and its cache, and come back in order."""

import numpy as np
import pytest
from sample_helpers import BOS, EOS, VOCAB, engine, naive, random_params

from selfevo_jax.chains import Generated
from selfevo_jax.errors import SelfevoError
from selfevo_jax.sample import Completion, DrawKey, Request, SamplingParams
from selfevo_jax.sharding import make_mesh

DRAWN = SamplingParams(temperature=1.0, max_new_tokens=6, stop_ids=(EOS,))
ONE = SamplingParams(max_new_tokens=1)


def ask(text, stage, params=DRAWN, forced=None):
    return Request(tuple(text), params, DrawKey(1, stage, "p", 0), forced)


def said(*tokens):
    return Completion(tokens, "", (-0.5,) * len(tokens), "stop")


def played(turns, *completions):
    chain = Generated("c", turns)
    asked, last = [], None
    for last in (None, *completions):
        asked.append(chain.next(last))
    return chain, asked


def test_a_list_of_requests_is_run_in_its_order_and_its_completions_come_back_together():
    def turns():
        first = yield ask([1], "a")
        joined = yield [ask([1, 2], "b"), ask([1, 3], "c")]
        nothing = yield []
        last = yield ask([1, 4], "d")
        return first, joined, nothing, last

    a, b, c, d = said(5), said(6), said(7), said(8)
    chain, asked = played(turns(), a, b, c, d)
    assert [request and request.key.stage for request in asked] == ["a", "b", "c", "d", None]
    assert chain.result == (a, [b, c], [], d)


def test_two_branches_that_would_draw_the_same_are_refused():
    with pytest.raises(SelfevoError, match=r"chain c: two requests of one list are .* name each stage"):
        played(iter_of([ask([1], "a"), ask([2], "a")]))
    played(iter_of([ask([1], "a", ONE, 3), ask([1], "a", ONE, 4)]))  # these draw nothing


def iter_of(asked):
    yield asked


def branches(head, n):
    """A response, then n texts that go on from it, then the likelihood of two words behind the second of these."""
    first = yield ask(head, f"respond-{n}")
    start = [*head, *first.tokens, 7]
    joined = yield [ask([*start, *([9] if k == 2 else [])], f"branch-{k}-{n}") for k in range(3)]
    words = yield [ask([*start, *joined[1].tokens], "word", ONE, token) for token in (11, 12)]
    return first, joined, words


def heads():
    rng = np.random.default_rng(0)
    return [(BOS, *rng.integers(4, VOCAB, 3 + n % 5).tolist()) for n in range(9)]


def run(slots, **kw):
    chains = [Generated(str(n), branches(head, n)) for n, head in enumerate(heads())]
    return chains, engine(slots, **kw).run(random_params(), chains)


def test_branches_draw_the_same_whatever_the_slots_and_mesh_and_what_they_have_in_common_is_computed_once():
    alone, stats = run(1)
    for others, _ in (run(3), run(5, mesh=make_mesh(2, 2, 2))):
        for chain, other in zip(alone, others, strict=True):
            assert [c.tokens for c in other.result[1]] == [c.tokens for c in chain.result[1]]
            assert [c.logprobs for c in other.result[2]] == [
                pytest.approx(c.logprobs, abs=1e-5) for c in chain.result[2]
            ]
    assert len({chain.result[1][n].tokens for chain in alone for n in range(2)}) > 9
    assert stats.requests == 6 * 9
    # beyond what no text had before: the last token of the text behind which each further branch and word begins
    assert stats.lower_bound <= stats.prefilled <= stats.lower_bound + 9 * (4 + 1 + max_new(alone))


def max_new(chains):
    """Tokens of a second branch at most, which the words go on from after the third branch has written over it."""
    return max(len(chain.result[1][1].tokens) for chain in chains)


def test_a_forced_token_has_the_probability_that_the_model_gives_it():
    (chain, *_), _ = run(3)
    first, joined, words = chain.result
    text = [*heads()[0], *first.tokens, 7, *joined[1].tokens]
    for token, word in zip((11, 12), words, strict=True):
        assert (word.tokens, word.finish) == ((token,), "length")
        (wanted,) = naive(random_params(), text, 1, pick=lambda logits, i, token=token: token)[1]
        assert word.logprobs == (pytest.approx(wanted, abs=1e-4),)


def test_a_completion_goes_on_behind_a_forced_token_as_behind_a_drawn_one():
    wanted = SamplingParams(temperature=0.0, max_new_tokens=5)
    (given,) = engine().generate(random_params(), [ask([BOS, 5, 6], "a", wanted, 9)])
    (rest,) = engine().generate(random_params(), [ask([BOS, 5, 6, 9], "a", SamplingParams(0.0, max_new_tokens=4))])
    assert given.tokens == (9, *rest.tokens)


def test_a_forced_token_that_is_none_is_told_by_row():
    (got,) = engine().generate(random_params(), [ask([BOS], "a", ONE, VOCAB)])
    assert got.error is not None
    assert f"forced token id {VOCAB} is outside the vocabulary of {VOCAB} tokens" in got.error
