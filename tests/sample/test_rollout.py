"""SELF's chain, driven by a scripted engine: which stages run, what is carried over, and which candidate is kept."""

import dataclasses
import json

import pytest
from sample_helpers import BOS, PIECES, ByteTokenizer, Format, Verdict, engine, ids, random_params

from selfevo_jax.errors import ConfigError
from selfevo_jax.sample import Completion, Rollout, SamplingParams, SelfChain, StageParams

STAGES = StageParams(
    SamplingParams(temperature=0.8, max_new_tokens=6),
    SamplingParams(temperature=0.7, max_new_tokens=8),
    SamplingParams(temperature=0.0, max_new_tokens=6),
)


def read(text):
    if text.isdigit():
        return Verdict(int(text) >= 9, float(text))
    return Verdict({"good": True, "bad": False}.get(text))


def play(*texts, finish="stop", **kw):
    """Runs a chain over scripted texts; returns it and its requests."""
    chain = SelfChain("p1", "abc", Format(), STAGES, read, **kw)
    requests, last = [], None
    for text in [*texts, None]:
        request = chain.next(last)
        if request is None:
            break
        assert text is not None, "the chain asks for more than the script holds"
        requests.append(request)
        if isinstance(text, Completion):
            last = text
        else:
            tokens = tuple(ids(text)) if text.isalpha() else (5,)
            last = Completion(tokens, text, (-0.5,) * len(tokens), finish)
    return chain, requests


def test_a_good_verdict_on_the_response_ends_the_chain_and_keeps_it():
    chain, requests = play("xy", "good")
    assert [r.key.stage for r in requests] == ["respond", "feedback-0"]
    assert chain.rollout.chosen == 0
    assert chain.rollout.candidates[0].feedback.good is True
    assert chain.rollout.candidates[0].logprobs == (-0.5, -0.5)
    assert chain.rollout.candidates[0].n_tokens == 2


def test_each_stage_appends_to_the_last_and_the_refinement_is_judged_from_the_prompt():
    chain, requests = play("xy", "bad", "z", "good", round=3, sample=2)
    respond, judge, refine, again = (list(r.tokens) for r in requests)
    assert judge == [*respond, *ids("xy"), 60, 61]
    assert refine == [*judge, *ids("bad"), 62]
    assert again == [*respond, *ids("z"), 60, 61]
    assert [r.params for r in requests] == [STAGES.respond, STAGES.feedback, STAGES.refine, STAGES.feedback]
    assert len({r.key for r in requests}) == 4
    assert all((r.key.round, r.key.prompt_id, r.key.sample) == (3, "p1", 2) for r in requests)
    assert chain.rollout.chosen == 1
    assert [c.text for c in chain.rollout.candidates] == ["xy", "z"]


def test_turns_bound_the_refinements():
    chain, requests = play("xy", "bad", "z", "bad", "w", "bad", turns=2)
    assert len(requests) == 6
    assert len(chain.rollout.candidates) == 3
    assert play("xy", "bad", turns=0)[0].rollout.chosen == 0


def test_no_judge_is_plain_sampling():
    chain, requests = play("xy", judge=False)
    assert len(requests) == 1
    assert chain.rollout.candidates[0].feedback is None


def test_feedback_that_cannot_be_read_ends_the_chain_and_is_no_verdict():
    ended = play("xy", "mumble")[0].rollout
    assert len(ended.candidates) == 1
    assert ended.candidates[0].feedback.good is None


def test_a_worse_refinement_never_replaces_a_better_answer():
    kept = play("xy", "good", "z", "bad", stop_when_good=False)[0].rollout
    assert (kept.chosen, len(kept.candidates)) == (0, 2)
    assert play("xy", "7", "z", "3", turns=1)[0].rollout.chosen == 0
    assert play("xy", "3", "z", "7", "w", "5", turns=2)[0].rollout.chosen == 1
    assert play("xy", "bad", "z", "mumble")[0].rollout.chosen == 0


def test_clipped_feedback_is_never_a_verdict():
    chain, _ = play("xy", Completion(tuple(ids("good")), "good", (0.0,) * 4, "length"))
    assert chain.rollout.candidates[0].feedback.good is None
    assert len(chain.rollout.candidates) == 1


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_fault_at_any_stage_ends_the_chain_with_its_message(at):
    script = ["xy", "bad", "z", "bad"]
    script[at] = Completion((), "", (), "error", "too long")
    rollout = play(*script[: at + 1])[0].rollout
    assert rollout.error == "too long"
    assert rollout.chosen == 0
    assert len(rollout.candidates) == at // 2 + 1


def test_a_run_on_is_cut_before_it_is_judged():
    text = "a\nb"
    last = Completion(tuple(PIECES.index(c.encode()) for c in text), text, (-0.5,) * 3, "length")
    chain, requests = play(last, "good", cut=lambda t: t.split("\n", maxsplit=1)[0], decode=ByteTokenizer().decode)
    assert list(requests[1].tokens) == [BOS, *ids("abc"), *ids("a"), 60, 61]
    got = chain.rollout.candidates[0]
    assert (got.text, got.tokens, got.logprobs, got.finish) == ("a", tuple(ids("a")), (-0.5,), "cut")


def test_a_rollout_survives_json_but_for_log_probabilities_whose_last_bits_are_not_reproducible():
    rollout = play("xy", "bad", "z", "good")[0].rollout
    back = Rollout.from_dict(json.loads(json.dumps(rollout.to_dict())))
    without = [
        dataclasses.replace(c, logprobs=(), feedback=dataclasses.replace(c.feedback, logprobs=()))
        for c in rollout.candidates
    ]
    assert back == dataclasses.replace(rollout, candidates=tuple(without))
    assert back != rollout


def test_chains_reuse_their_cache():
    chains = [SelfChain(f"p{i}", "abcdefgh"[: 2 + i % 6], Format(), STAGES, read) for i in range(9)]
    stats = engine(slots=1, cache_length=64).run(random_params(), chains)
    assert stats.prefilled <= 1.6 * stats.lower_bound  # the last drawn token of a stage enters the cache with the next


def test_unusable_stage_settings_are_refused_at_once():
    with pytest.raises(ConfigError, match="temperature"):
        StageParams(SamplingParams(temperature=-1), STAGES.feedback, STAGES.refine)
