"""The pair prompt and its verdict: certain, or counted as unread."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import (
    Judgement,
    JudgePrompt,
    Pair,
    PairVerdict,
    RatingJudge,
    mt_bench_pair,
    mt_bench_single,
    pair_text,
    read_pair_verdict,
)

READ = {
    "[[A]]": "A",
    "<think>[[A]] or [[B]]?</think>\n\n[[B]]": "B",
    "I would say [[A]].\n</think>\n\n[[C]]": "C",
    "[[C]]\n": "C",
    "Both are fine, the second is deeper.\n\n[[B]]": "B",
    "Assistant A did not follow the question. Therefore, [[B]].": "B",
    "My final verdict is: [[A]]": "A",
    "**Final verdict:** **[[B]]**": "B",
    'The final verdict is "[[C]]".': "C",
    "Since Assistant A is shorter and does not help, the verdict is [[B]]": "B",
    "Therefore, I choose [[A]]": "A",
    "[[A]]\n\nExplanation: both answer, however the first is clearer.": "A",
    "[[A]], because B does not answer.": "A",
    "[[B]] - Assistant B is more helpful.": "B",
    "Final Verdict: [[A]]\nFinal Verdict: [[A]]": "A",
    "[[A]]\n\nB is wrong on the date and more verbose, whereas A is the better answer.": "A",
    "The matrix is [[1, 2]], as A says. [[A]]": "A",
    "Assistant A: short. Assistant B: long.\nOverall — [[B]]": "B",
}
UNREAD = {
    "": "none",
    "<think>It is [[A]]": "none",
    "Assistant A is better.": "none",
    "[A]": "none",
    "[[a]]": "none",
    "[[ A ]]": "none",
    "[[A]] or [[B]]": "several",
    'Output "[[A]]" if assistant A is better, "[[B]]" if assistant B is better, and "[[C]]" for a tie.': "several",
    "[[A]] at first. On second thought [[B]]": "several",
    "[[A]] and [[D]]": "several",
    "[[A]], or rather [[b]]": "several",
    "It is not [[A]]": "unclear",
    "I do not think that the verdict is [[A]]": "unclear",
    "It would be [[A]]": "unclear",
    "[[A]] if brevity matters": "unclear",
    "If brevity matters, the verdict is [[A]]": "unclear",
    "[[A]] is what one would say.": "unclear",
    "One would say [[A]] rather than the other": "unclear",
    "Verdict: [[A]]\nWait, the second answer is right.": "unclear",
    "Verdict: [[A]]. Actually, B is better.": "unclear",
    "Verdict: [[A]]\nVerdict: Assistant B": "unclear",
    "Verdict: [[A]] (but B is better)": "unclear",
    "Verdict: [[A]] - not sure though": "unclear",
    "Verdict: [[A]], or possibly a tie": "unclear",
    "[[A]]\n\nHowever, Assistant B is better overall.": "unclear",
    "[[A]]. B's answer is the winner": "unclear",
    "[[C]]\nAssistant A is much better.": "unclear",
    "For example: [[A]]": "unclear",
    "I must answer in this format: [[A]]": "unclear",
    "Some might say: [[A]]": "unclear",
    "[[A]]?": "unclear",
}


@pytest.mark.parametrize(("text", "slot"), READ.items())
def test_a_clear_verdict_is_read(text, slot):
    assert read_pair_verdict(text) == PairVerdict(slot)


@pytest.mark.parametrize(("text", "why"), UNREAD.items())
def test_what_is_not_certain_is_unread_with_its_reason(text, why):
    assert read_pair_verdict(text) == PairVerdict(None, why)


def test_a_clipped_text_has_no_verdict():
    assert read_pair_verdict("[[A]]", whole=False) == PairVerdict(None, "clipped")


@settings(max_examples=200)
@given(st.text(alphabet='AB[] \n.:"noif', max_size=40), st.sampled_from("ABC"))
def test_no_text_is_read_as_a_letter_that_is_not_marked_in_it(text, letter):
    verdict = read_pair_verdict(text + f"\n[[{letter}]]")
    assert verdict.slot in (None, letter)
    assert (verdict.slot is None) != (verdict.unread is None)


def pair(first, second):
    both = tuple(Judgement.of(text, whole=True) for text in (first, second))
    return Pair("1", "p", ("x", "y"), both)


@pytest.mark.parametrize(
    ("first", "second", "outcome", "consistent"),
    [
        ("[[A]]", "[[B]]", "win", True),
        ("[[B]]", "[[A]]", "loss", True),
        ("[[C]]", "[[C]]", "tie", True),
        ("[[A]]", "[[A]]", "tie", False),
        ("[[B]]", "[[B]]", "tie", False),
        ("[[A]]", "[[C]]", "tie", False),
        ("[[C]]", "[[A]]", "tie", False),
        ("[[A]]", "hm", None, None),
        ("", "[[B]]", None, None),
    ],
)
def test_agreement_decides_a_disagreement_is_a_tie_and_an_unread_order_is_not_judged(
    first, second, outcome, consistent
):
    assert (pair(first, second).outcome, pair(first, second).consistent) == (outcome, consistent)


def test_a_judge_that_could_not_be_asked_has_given_no_verdict():
    asked = Judgement.of("", False, "too long")
    assert asked.verdict == PairVerdict(None, "not asked")


def test_the_pair_prompt_shows_both_answers_in_either_order_as_they_are():
    prompt = mt_bench_pair()
    answers = ("mine {answer_b} {question}", "theirs")
    one, two = (pair_text(prompt, "What {answer_a}?", answers, first) for first in (True, False))
    assert one.index("mine {answer_b} {question}") < one.index("theirs")
    assert two.index("theirs") < two.index("mine {answer_b} {question}")
    assert all("What {answer_a}?" in text for text in (one, two))
    assert "[[C]]" in prompt.system
    with pytest.raises(ConfigError, match=r"expected \{answer_b\} once"):
        pair_text(JudgePrompt("", "{question} {answer_a}", ""), "q", answers, True)


def test_the_form_of_a_mark_that_the_single_prompt_asks_for_is_read():
    prompt = mt_bench_single()
    assert "Rating: [[5]]" in prompt.text(question="q", answer="a")
    texts = ["The answer is short. Rating: [[5]]", "It is clear.\n\nRating: [[7.5]]", "Rating: [[11]]", "Rating: none"]
    assert [RatingJudge().read(text).rating for text in texts] == [5.0, 7.5, None, None]
