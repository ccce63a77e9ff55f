"""Chains beside SELF's, driven by a script: several refinements of one feedback, and two answers."""

from sample_helpers import ByteTokenizer, Format, Reader, Verdict, answered, ids

from selfevo_jax.chains import RefinementsChain, StageParams, TwoAnswersChain
from selfevo_jax.sample import Completion, SamplingParams

STAGES = StageParams(*(SamplingParams(temperature=0.8, max_new_tokens=6) for _ in range(3)))
JUDGE = Reader(lambda text: Verdict({"good": True, "bad": False}.get(text)))
TOO_LONG = Completion((), "", (), "error", "too long")


def play(kind, *texts, judge=JUDGE, **own):
    """The rollout of a chain over answered texts, and what it asked for."""
    chain = kind("p1", "abc", Format(), STAGES, ByteTokenizer().decode, judge=judge, round=3, **own)
    requests = answered(chain, texts)
    return chain.result, requests


def test_all_refinements_go_on_from_one_feedback_and_each_is_judged_as_an_answer_to_the_prompt():
    rollout, requests = play(RefinementsChain, "xy", "bad", "x", "y", "xx", "bad", "good", "bad", refinements=3)
    # what they go on from is in the slot until the first of them is judged
    stages = ["respond", "feedback-0", "refine-1", "refine-2", "refine-3", "feedback-1", "feedback-2", "feedback-3"]
    assert [r.key.stage for r in requests] == stages
    refine = {r.tokens for r in requests if r.key.stage.startswith("refine")}
    assert refine == {(*requests[1].tokens, *ids("bad"), 62)}
    assert list(requests[6].tokens) == [*requests[0].tokens, *ids("y"), 60, 61]
    assert [(c.text, c.verdict) for c in rollout.candidates] == [
        ("xy", False),
        ("x", False),
        ("y", True),
        ("xx", False),
    ]
    assert rollout.chosen == 2


def test_what_is_called_good_or_cannot_be_read_is_not_refined():
    for said, verdict in (("good", True), ("eh", None)):
        rollout, requests = play(RefinementsChain, "xy", said, refinements=3)
        assert (len(requests), rollout.candidates[0].verdict, rollout.error) == (2, verdict, None)


def test_a_fault_ends_a_chain_with_its_message():
    drawn = ["xy", "bad", "x", "y", "xx"]
    for script in ([TOO_LONG], ["xy", TOO_LONG], ["xy", "bad", *[TOO_LONG] * 3], [*drawn, TOO_LONG]):
        rollout, requests = play(RefinementsChain, *script, refinements=3)
        assert (rollout.error, len(requests)) == ("too long", len(script))


def test_a_hint_is_seen_by_the_second_answer_alone_and_the_prompt_stays_the_prompt():
    rollout, requests = play(TwoAnswersChain, "xy", "x", judge=None, second="abca", stage="hinted")
    assert [r.key.stage for r in requests] == ["respond", "hinted"]
    assert [list(r.tokens) for r in requests] == [Format().respond("abc"), Format().respond("abca")]
    assert (rollout.prompt, [c.text for c in rollout.candidates], rollout.chosen) == ("abc", ["xy", "x"], 0)


def test_a_hint_that_is_too_long_is_left_out_and_a_prompt_that_is_ends_the_chain():
    assert len(play(TwoAnswersChain, "xy", TOO_LONG, judge=None, second="abca", stage="hinted")[0].candidates) == 1
    rollout, _ = play(TwoAnswersChain, TOO_LONG, TOO_LONG, judge=None, second="abca", stage="hinted")
    assert rollout.error == "too long"
