"""How a chain judges an answer: with several texts of feedback, or by the likelihood of two words."""

import math

import pytest
from sample_helpers import BOS, PIECES, ByteTokenizer, Format, ids

from selfevo_jax.chains import RefineChain, Rollout, StageParams, words_notice
from selfevo_jax.chains.judging import told_apart
from selfevo_jax.checkpoint import open_model
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import JudgeSection, LikelihoodJudge, open_judge
from selfevo_jax.sample import Completion, SamplingParams
from selfevo_jax.text import FormatSection, PromptFormat

STAGES = StageParams(*[SamplingParams(max_new_tokens=9)] * 3)
TEXTS = {"Verdict: correct": 1, "Verdict: incorrect": 2, "Rating: 9": 3, "Rating: 4": 4, "Rating: 5": 5}
FAILED = Completion((), "", (), "error", "too long")


class Tokens(Format):
    """Instructions of their own: 50 and their length."""

    def judge(self, so_far, text=None):
        return [*so_far, 60, 61] if text is None else [*so_far, 50, len(text)]

    def continuation(self, so_far, text):
        return ids(text)


def play(judge, *texts, turns=1):
    """Runs a chain over scripted texts; returns what became of it, and its requests."""
    chain = RefineChain("p", "abc", Tokens(), STAGES, ByteTokenizer().decode, judge=judge, turns=turns)
    requests, last = [], None
    for text in [*texts, None]:
        if (request := chain.next(last)) is None:
            break
        assert text is not None, f"the chain asks for more than the script holds: {request}"
        requests.append(request)
        last = text if isinstance(text, Completion) else said(text)
    return chain.result, requests


def said(text, finish="stop"):
    tokens = (30 + TEXTS[text],) if text in TEXTS else tuple(ids(text))
    return Completion(tokens, text, (-0.5,) * len(tokens), finish)


def ensemble(**settings):
    return open_judge(JudgeSection(kind="ensemble", ensemble=settings))


GOOD, BAD = "Verdict: correct", "Verdict: incorrect"


def test_the_texts_of_an_ensemble_are_asked_for_behind_one_answer_by_draws_of_their_own():
    got, requests = play(ensemble(), "xy", GOOD, BAD, GOOD)
    assert [r.key.stage for r in requests] == ["respond", "feedback-0", "feedback-0.1", "feedback-0.2"]
    assert {r.tokens for r in requests[1:]} == {(BOS, *ids("abc"), *ids("xy"), 60, 61)}
    feedback = got.candidates[0].feedback
    assert (feedback.good, feedback.rating) == (True, 0.666667)
    assert [(text.text, text.good, text.tokens) for text in feedback.members] == [
        (GOOD, True, (31,)),
        (BAD, False, (32,)),
        (GOOD, True, (31,)),
    ]


def test_each_instruction_asks_in_its_own_words_and_a_refinement_goes_on_from_a_text_that_says_what_all_say():
    judge = ensemble(instructions=["true?", "is it whole?", "clear?"])
    got, requests = play(judge, "xy", GOOD, BAD, BAD, "z", GOOD, GOOD, GOOD)
    assert [r.tokens[-2:] for r in requests[1:4]] == [(50, 5), (50, 12), (50, 6)]
    assert requests[4].tokens == (*requests[2].tokens, 32, 62)
    assert got.candidates[0].feedback.text == BAD
    assert got.chosen == 1


def test_of_marks_a_refinement_goes_on_from_the_one_nearest_to_the_joined_mark():
    _, requests = play(ensemble(member="rating"), "xy", "Rating: 9", "Rating: 4", "Rating: 5", "z", *["Rating: 9"] * 3)
    assert requests[4].tokens[-2:] == (35, 62)


def test_texts_that_cannot_be_read_are_kept_and_counted_and_no_vote():
    got, _ = play(ensemble(), "xy", said(GOOD, "length"), GOOD, GOOD)
    feedback = got.candidates[0].feedback
    assert (feedback.good, feedback.rating, feedback.unread) == (True, 1.0, 1)
    got, requests = play(ensemble(), "xy", "mumble", GOOD, FAILED)
    assert len(requests) == 4
    assert got.candidates[0].feedback.good is None
    assert [text.finish for text in got.candidates[0].feedback.members] == ["stop", "stop", "error"]
    assert [text.error for text in got.candidates[0].feedback.members] == [None, None, "too long"]
    assert "too long" not in str(got.to_dict())
    assert got.error is None
    assert play(ensemble(samples=2), "xy", FAILED, FAILED)[0].error == "too long"


def test_a_record_keeps_every_text_with_its_tokens_and_what_was_read_and_is_read_back():
    got, _ = play(ensemble(), "xy", GOOD, BAD, GOOD)
    record = got.to_dict()
    assert Rollout.from_dict(record).to_dict() == record
    assert [m["tokens"] for m in record["candidates"][0]["feedback"]["members"]] == [(31,), (32,), (31,)]
    assert got.scores()["turns"][0]["members"] == [[-0.5]] * 3
    alone, _ = play(open_judge(JudgeSection()), "xy", GOOD)
    assert "members" not in alone.to_dict()["candidates"][0]["feedback"]
    assert "members" not in alone.scores()["turns"][0]


def test_people_are_shown_every_text_and_the_score():
    got, _ = play(ensemble(), "xy", GOOD, BAD, "mumble", turns=0)
    assert got.candidates[0].feedback.lines() == [
        "feedback of 3 texts: bad, 0.5",
        f"  good: {GOOD}",
        f"  bad: {BAD}",
        "  cannot be read: mumble",
    ]


# -- likelihood -------------------------------------------------------------------------------------------------------

WORDS = LikelihoodJudge(":", "xab", "xcd")


def weighed(*probabilities):
    return [Completion((1,), "", (math.log(p),), "length") for p in probabilities]


def test_the_words_are_weighed_where_the_feedback_gives_its_verdict_at_the_first_token_in_which_they_differ():
    feedback = Completion((*ids("ok"), PIECES.index(b":"), *ids(" xcd")), "ok: xcd", (-0.5,) * 7, "stop")
    got, requests = play(WORDS, "y", feedback, *weighed(0.6, 0.2))
    good, bad = requests[2:]
    asked = requests[1].tokens
    assert good.tokens == bad.tokens == (*asked, *ids("ok"), PIECES.index(b":"), *ids(" x"))
    assert ([good.forced], [bad.forced]) == (ids("a"), ids("c"))
    assert (good.params.max_new_tokens, good.key.stage, bad.key.stage) == (1, "feedback-0.good", "feedback-0.bad")
    # 0.6 against 0.2 is 3 to 1, whatever was written; log-odds in steps of 0.1
    assert got.candidates[0].feedback.rating == pytest.approx(1 / (1 + math.exp(-1.1)), abs=1e-6)
    assert got.candidates[0].feedback.good is True
    assert got.candidates[0].feedback.text == "ok: xcd"


def test_feedback_without_a_place_or_an_end_is_not_weighed_and_cannot_be_read():
    for feedback in (said("ok"), Completion((1,), "ok: xcd", (-0.5,), "length")):
        got, requests = play(WORDS, "y", feedback)
        assert len(requests) == 2
        assert (got.candidates[0].feedback.good, got.candidates[0].feedback.rating) == (None, None)


def test_a_token_across_the_place_leaves_the_feedback_unread():
    across = PIECES.index(b"uestion:")
    judge = LikelihoodJudge("uest", "xab", "xcd")
    got, requests = play(judge, "y", Completion((across,), "uestion:", (-0.5,), "stop"))
    assert len(requests) == 2
    assert got.candidates[0].feedback.good is None


@pytest.fixture(scope="module")
def shipped():
    tokenizer = open_model("builtin:stories").tokenizer
    return PromptFormat(FormatSection(), tokenizer), tokenizer.decode


def test_words_are_told_apart_as_the_tokenizer_has_them_behind_the_lead(shipped):
    fmt, decode = shipped
    head = fmt.judge(fmt.respond("How many?"))
    for lead, good, bad in (("Verdict:", "correct", "incorrect"), ("Verdict:", "correct", "corrupt")):
        text = [*head, *fmt.continuation(head, lead)]
        shared, *firsts = told_apart(LikelihoodJudge(lead, good, bad), text, fmt)
        whole = [decode([*text, *fmt.continuation(text, f" {word}")]) for word in (good, bad)]
        assert all(a.startswith(decode([*text, *shared, f])) for a, f in zip(whole, firsts, strict=True))
        assert firsts[0] != firsts[1]


def test_words_that_cannot_be_told_apart_are_refused_and_those_known_by_a_part_are_told(shipped):
    fmt, decode = shipped
    with pytest.raises(ConfigError, match=r"behind 'Verdict:' one of 'right' and 'right on' begins with all tokens"):
        words_notice(LikelihoodJudge(good="right", bad="right on"), fmt, decode)
    assert words_notice(LikelihoodJudge(good="zebra", bad="zealous"), fmt, decode) is not None
    assert words_notice(open_judge(JudgeSection()), fmt, decode) is None
