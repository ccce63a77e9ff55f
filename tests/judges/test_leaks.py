"""Feedback in direct answers, found by a run's own format and judge."""

from dataclasses import dataclass

import pytest

from selfevo_jax.judges import ChainJudge, JudgeSection, Leaks, LikelihoodJudge, format_for, open_judge
from selfevo_jax.text import JUDGE_RATING, JUDGE_VERDICT, REFINE, FormatSection

CHAT, PLAIN = FormatSection(kind="chat"), FormatSection()


def leaks(format: FormatSection = CHAT, **judge: object) -> Leaks:
    opened = open_judge(JudgeSection(**judge))
    return Leaks.of(opened, format_for(opened, format))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Paris.\nVerdict: correct", "Verdict:"),
        ("Paris. **verdict: wrong**", "Verdict:"),
        ("so the answer is paris verdict: correct", "Verdict:"),
        ("The jury gave its verdict, and went home.", None),
        ("Check the answer above, step by step!", "check the answer above step"),
        ("I will give only the improved answer now", "give only the improved answer"),
        ("Write the answer again", None),  # four words in a row are an accident
        ("Feedback: fine", None),  # a chat has no such mark
        ("", None),
    ],
)
def test_words_of_the_instructions_and_marks_of_the_verdict_are_found(text: str, words: str | None) -> None:
    assert leaks().found(text, "What is the capital of France?") == words


def test_what_the_prompt_itself_says_is_no_leak() -> None:
    assert leaks().found(JUDGE_VERDICT, f"Repeat after me: {JUDGE_VERDICT}") is None
    assert leaks().found("Verdict: correct", "End with a line 'Verdict: ...'.") is None
    assert leaks().found(f"{JUDGE_VERDICT} {REFINE}", JUDGE_VERDICT) == "write the answer again by"


def test_each_judge_has_the_marks_and_the_instruction_of_its_own() -> None:
    assert leaks(kind="rating").found("Good.\nRating: 9/10", "") == "Rating:"
    assert leaks(kind="rating").found("Say what is good, and what is lacking.", "") == "say what is good and"
    assert leaks().found(JUDGE_RATING, "") is None
    own = LikelihoodJudge(lead="Is it so?")
    assert Leaks.of(own, PLAIN.filled()).found("Tea. is it so? Maybe", "") == "Is it so?"
    several = leaks(kind="ensemble", ensemble={"instructions": ["Look at the sums in it.", "Is it kind and true?"]})
    assert several.found("is it kind AND true", "") == "is it kind and true"
    assert several.found("No.\nVerdict: incorrect", "") == "Verdict:"


def test_short_instructions_are_found_as_sentences_and_without_an_end_as_lines_alone() -> None:
    brief = leaks(FormatSection(kind="chat", judge="Check the answer.", refine="Again"))
    assert brief.found("Paris. Check the answer. It is right.", "") == "Check the answer."
    assert brief.found("Now check the answer.", "") is None
    assert brief.found("Paris\n again \nParis", "") == "Again"
    assert brief.found("Again we see it.", "") is None


def test_the_short_texts_of_a_plain_format_are_marks_at_the_beginning_of_a_line() -> None:
    assert leaks(PLAIN).found("4\nFeedback: 2 and 2 is 4.", "2 + 2?") == "Feedback:"
    assert leaks(PLAIN).found("4\n\nRevision: 5", "2 + 2?") == "Revision:"
    assert leaks(PLAIN).found("We thank you for your feedback: it helps.", "Write a reply.") is None


def test_a_judge_from_outside_has_no_marks_unless_it_says_so() -> None:
    @dataclass(frozen=True)
    class Own(ChainJudge):
        name: str = "own"
        instruction: str = "Say aloud whether this is any good."

    found = Leaks.of(Own(), format_for(Own(), CHAT))
    assert found.found("Verdict: correct", "") is None
    assert found.found("say aloud whether this is", "") == "say aloud whether this is"
