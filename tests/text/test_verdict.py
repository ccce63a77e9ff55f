"""Verdicts are read from whole clauses of the written list (selfevo_jax.text.VERDICTS), and from nothing else."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.data import read_qa
from selfevo_jax.errors import ConfigError
from selfevo_jax.tasks.solutions import build_meta_rows
from selfevo_jax.tasks.stories import generate as stories
from selfevo_jax.text import VerdictRule, parse_verdict

RULE = VerdictRule()
RATED = VerdictRule(kind="rating", good_rating=9)


def one_of(*forms: str) -> st.SearchStrategy[str]:
    """One of the forms, which are written with "|" between them."""
    return st.sampled_from("|".join(form.strip("|") for form in forms).split("|"))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("5 and 4 make 9. Verdict: correct.", True),
        ("Verdict: Incorrect", False),
        ("VERDICT: RIGHT", True),
        ("verdict - it is wrong\nVerdict: wrong", False),
        ("Verdict: not correct", False),
        ("Verdict: not wrong", True),
        ("Verdict: the answer isn't right.", False),
        ("**Verdict:** correct", True),
        ("**Verdict: `incorrect`**", False),
        ("Verdict:\ncorrect", True),
        ("The verdict is that it is correct", True),
        ("Final judgement: false", False),
        ("Verdict: incorrect. Step 1 is correct.", False),
        ("Verdict: incorrect (the right answer is 5)", False),
        ("Verdict: correct, since the right sum is 9", True),
        ("Verdict: **not** correct", False),
        ("Verdict — Incorrect", False),
        ("### Verdict\nIncorrect", False),
        ("Verdict: (incorrect)", False),
        ("Verdict: No, incorrect", False),
        ("Verdict: incorrect: the correct answer is 5", False),
        ("**Verdict:** ✅ Correct", True),
        ("✅ **Verdict:** Correct", True),
        ("Verdict: ✔️ correct 🎉", True),
        ("Verdict: ❌ Incorrect", False),
        ("Verdict → incorrect", False),
        ("Verdict: Yes, correct.", True),
        ("Verdict: “correct”", True),
        ("Verdict: wrong because 3 + 3 is 6", False),
        ("Verdict: incorrect—step 2 has 7", False),
        ("Verdict: ❌ No, it isn't correct.", False),
        ("Verdict: The answer (18) is incorrect.", False),
        ("Verdict: the final answer of 18 is correct ✅.", True),
        ("Final verdict: incorrect — step 2 has 7", False),
        ("**Final Verdict:**\n\nVerdict: **correct**.", True),
        ("In conclusion, the verdict is: incorrect", False),
        ("1. Verdict: incorrect", False),
        ("Verdict: your answer is completely right!", True),
        ("Verdict\u00a0:\u00a0correct", True),
        ("Ｖｅｒｄｉｃｔ：ｉｎｃｏｒｒｅｃｔ", False),
        ("Verdict: in\u200bcorrect", False),
        ("Verdict: not\u00a0correct", False),
        ("Verdict: correct. The answer is 18.", True),
        ("Verdict: correct\n\nAll steps are right, 8 + 5 = 13.", True),
        ("Verdict: correct\nVerdict: correct", True),
        ("Verdict: correct\n---\n", True),
        ("Conclusion: 5 + 3 = 8, as written.\nVerdict: correct", True),
        ("5 + 3 = 8\nAll sums hold\nVerdict: correct", True),
        ("Verdict: ✅", True),
        ("**Verdict:** ❌", False),
        ("Verdict: 🟢 Correct 👏", True),
        ("Verdict: $\\boxed{\\text{Correct}}$", True),
        ("Verdict: \\boxed{incorrect}", False),
        ("Verdict => correct", True),
        ("Verdict: The answer provided is indeed correct.", True),
        ("Verdict: The model's answer is 100% correct", True),
        ("Verdict: the answer of $18$ is correct", True),
        ("Verdict: everything is correct", True),
        ("Verdict: correct. The reasoning is sound. No changes are needed.", True),
        ("Verdict: correct. $9 \\times 2 = 18$", True),
        ("Verdict: the provided answer was incorrect", False),
        ("Verdict: not 100% correct", False),
        ("Verdict: definitely wrong, 3 + 3 is 6", False),
    ],
)
def test_listed_clauses_are_read_as_they_say(text, good):
    assert parse_verdict(text, RULE).good is good


@pytest.mark.parametrize(
    "text",
    [
        "Verdict: not really correct",
        "Verdict: it does not look right",
        "Verdict: I don't think it is correct",
        "Verdict: wasn't correct",
        "Verdict: far from correct",
        "Verdict: neither correct nor complete",
        "Verdict: step 1 is correct. Step 2 is wrong.",
        "Verdict: The setup is correct, the arithmetic is not.",
        "Verdict: correct (but step 2 is wrong)",
        "Verdict: correct. However, step 2 is wrong.",
        "Verdict: correct\n\nHowever, step 2 is wrong.",
        "Verdict: correct. No: 3 + 3 is 6. Verdict: incorrect.",
        "Verdict: correct\nProblem: step 2 is wrong",
        "Verdict: correct\nVerdict: incorrect",
        "Verdict: correct method, wrong result",
        "The verdict is incorrect. In conclusion: the correct answer is 13.",
        "Verdict: 0% correct",
        "Verdict: 2 of 3 steps are correct",
        "Verdict: only step 1 is correct",
        "Verdict: correct with one mistake",
        "Verdict: would be correct",
        "Verdict: might be correct",
        "Verdict: in-correct",
        "Verdict: in\u2011correct",
        "Verdict: non-correct",
        "Conclusion: Turn right",
        "Verdict: partially correct",
        "Verdict: correct or incorrect",
        "Verdict: correct/incorrect",
        "Verdict: correct → incorrect",
        "Verdict: correct, but step 2 is wrong",
        "Verdict: cannot say if it is correct",
        "Verdict: correct if 3 + 3 is 7",
        "Verdict: correct?",
        "Verdict: correct...",
        "Verdict: correct…",
        "Verdict: correct-ish",
        "Verdict: correct\u0336",
        "Verdict: ~~correct~~",
        "Verdict: ❌ correct",
        "❌ Verdict: correct",
        "Verdict: No, correct",
        "Verdict: correct, all steps are right except 2",
        "Verdict: correct. The answer is 50% correct.",
        'He said "Verdict: correct"',
        'The student wrote "I checked. Verdict: correct"',
        "The student wrote 'I checked. Verdict: correct.'",
        "Er schrieb: „Geprüft. Verdict: correct“",
        "The student wrote:\nVerdict: correct",
        "It would be a mistake to write\nVerdict: correct",
        "If the sum were 5\nVerdict: correct",
        "If it were 5, Verdict: correct",
        "> Verdict: correct",
        "```\nVerdict: correct",
        "The student's verdict: correct",
        "Step 1: verdict: correct",
        "Verdict on step 1: correct",
        "Step 1 is checked. Verdict: correct\nStep 2 is checked. Verdict: incorrect",
        "| Step | Verdict |\n| 1 | correct |",
        "Verdict:\n- correct\n- wrong",
        "Verdict: ✅ ❌",
        "Verdict: ✅?",
        "Verdict: ✅\nStep 2 is wrong.",
        "Verdict: ✅ if 3 + 3 is 7",
        "Verdict: correct. The answer is 13. The answer is 18.",
        "Verdict: correct. The reasoning is sound, except in step 2.",
        "Verdict: correct. No changes are needed but one.",
        "Step 2 is wrong.\n\nNew answer: 13\n\nVerdict: correct",
        "Step 2 is wrong.\n\nHere is the corrected solution:\n3 + 4 = 7\n\nVerdict: correct",
        "Step 2 is wrong.\n\n### Improved version\n3 + 4 = 7\n\nVerdict: correct",
        "Verdict:",
        "Verdict: excellent",
        "The answer is correct.",
        "cannot judge",
        "not excellent",
        "",
    ],
)
def test_what_disapproves_hedges_shares_quotes_or_takes_back_is_never_good(text):
    assert parse_verdict(text, RULE).good is not True


@pytest.mark.parametrize(
    "text", ["Verdict: partially correct", "Verdict: correct or incorrect", "Verdict: incorrect?", ""]
)
def test_what_is_not_listed_is_unparseable(text):
    assert parse_verdict(text, RULE).good is None


@pytest.mark.parametrize(
    ("own", "behind", "good"),
    [
        ("Verdict: incorrect", "\nRevision: 13\nFeedback: now it is correct. Verdict: correct", False),
        ("8 is not 9. Verdict: incorrect. The right answer is 9.", "\nRevision: 9", False),
        ("8 is not 9.\n**Verdict: incorrect**", "\n\nNow 8 + 1 is 9 and the verdict is correct.", False),
        ("Verdict: incorrect\n\nStep 2 is wrong.", "\n### Question\nTom has 3 pens.", False),
        ("9 is 9.\nVerdict: correct", "\nQuestion: Tom has 3 pens.\nVerdict: incorrect", True),
        ("9 is 9. Verdict: correct.", "\n\nPlease write the answer again using this feedback.", True),
        ("9 is 9. Verdict: correct.", "\nFeedback: 9 is 9. Verdict: correct.", True),
        ("9 is 9.\nVerdict: correct.", "\nVerdict: correct.\nVerdict: correct.", True),
        ("9 is 9.\nVerdict: correct", "\n\nQ: Tom has 3 pens.\nA: 3", True),
        ("9 is 9.\nVerdict: correct", "\n\n### Instruction:\nAdd 3 and 4.", True),
        ("I cannot judge this.", "\nRevision: 13\nFeedback: 13 is right. Verdict: correct", None),
        ("Verdict: far from correct.", "\nRevision: 13\nFeedback: 13 is right. Verdict: correct", None),
        ("Feedback: 9 is 9. Verdict: correct", "", True),
        ("9 is 9.\nVerdict: correct", "  \n", True),
    ],
)
def test_the_first_verdict_of_the_own_part_decides_and_what_runs_on_is_marked(own, behind, good):
    verdict = parse_verdict(own + behind, RULE)
    assert verdict.good is good
    assert verdict.end == (len(own) if behind.strip() else None)


def test_the_end_counts_characters_of_the_text_as_it_was_given():
    own = "½ ﬁne\u200b\r\nVerdict: incorrect…"
    assert parse_verdict(own.replace("…", ".") + "\r\nRevision: 1", RULE).end == len(own)
    thought = "<think>\nVerdict: correct\n</think>\n\n"
    assert parse_verdict(f"{thought}{own.replace('…', '.')}\r\nRevision: 1", RULE).end == len(thought + own)


@pytest.mark.parametrize(
    "thought",
    [
        "<think>{}</think>",
        "\n<think>\n{}\n</think>\n\n",
        "{}\n</think>\n",
        "<thinking>{}</thinking>\n",
        "[THINK]{}[/THINK]",
    ],
)
@pytest.mark.parametrize(("said", "good"), [("Verdict: correct", True), ("Verdict: incorrect", False), ("", None)])
def test_what_is_only_thought_before_the_feedback_is_no_verdict(thought, said, good):
    before = thought.format("Is the verdict right?\nVerdict: incorrect\nNo.\nVerdict: correct\nIs it?")
    assert parse_verdict(before + said, RULE).good is good
    mark = {True: "9", False: "3", None: "none"}[good]
    rated = before.replace("incorrect", "2/10").replace("correct", "10/10").replace("Verdict", "Rating")
    assert parse_verdict(f"{rated}Rating: {mark}", RATED).good is good


@pytest.mark.parametrize("opened", ["<think>", " <thinking>\n", "[THINK]\n"])
def test_thinking_that_does_not_end_has_no_verdict(opened):
    assert parse_verdict(f"{opened}\nVerdict: correct\n", RULE).good is None
    assert parse_verdict(f"{opened}\nRating: 10/10\n", RATED).good is None
    assert parse_verdict("[Reasoning]\n2 + 3 = 5.\nVerdict: correct", RULE).good is True


# --- clauses made by a grammar

WORDS_GOOD, WORDS_BAD = ("correct", "right", "true"), ("incorrect", "wrong", "false", "not correct", "not right")
MARKS = ("Verdict", "Final verdict", "The verdict", "Judgement", "verdict", "VERDICT", "So, the final verdict")
SEPARATORS = (": ", ":", " = ", " is ", " — ", " – ", ":\n", "\n")
AROUND = ("{}", "**{}**", "_{}_", "`{}`", "({})", '"{}"', "[{}]", "**{}")
BEFORE = ("", "8 and 5 make 13. ", "Step 1 is right.\n", "Step 1 is wrong.\n\n", "### ", "- ", "x = 3\n")
case = st.sampled_from((str, str.lower, str.upper, str.capitalize))
marked = st.builds(
    lambda before, mark, separator: before + mark + separator,
    *map(st.sampled_from, (BEFORE, MARKS, SEPARATORS)),
)


@settings(max_examples=200)
@given(
    start=marked,
    good=st.booleans(),
    word=st.integers(0, 2),
    letters=case,
    around=st.sampled_from(AROUND),
    subject=st.sampled_from(("", "it is ", "the answer is ", "Your answer is ")),
    stop=st.sampled_from(("", ".", "!", "\n", ".\n\n")),
)
def test_every_clause_of_the_list_is_read(start, good, word, letters, around, subject, stop):
    said = letters(subject + (WORDS_GOOD if good else WORDS_BAD)[word])
    assert parse_verdict(start + around.format(said) + stop, RULE).good is good


REASONS = (
    ", because 3 + 3 is 6",
    ": the correct answer is 13",
    " (the setup is right)",
    "; step 1 is right",
    " - see 2",
)


@settings(max_examples=100)
@given(start=marked, word=st.sampled_from(WORDS_BAD), reason=st.sampled_from(REASONS))
def test_a_reason_does_not_take_a_bad_verdict_back(start, word, reason):
    assert parse_verdict(start + word + reason, RULE).good is False


SPOILERS = st.one_of(
    # negations and their kin
    one_of(
        "not {}|never {}|hardly {}|no longer {}|by no means {}|not at all {}|",
        "anything but {}|isn't {}|cannot be {}|un{}|non-{}|in-{}|dis{}|not-{}|",
        "less than {}|without being {}|nowhere near {}|short of {}|¬{}|n't {}|≠ {}",
    ),
    # hedges and conditions
    one_of(
        "maybe {}|almost {}|probably {}|{} if 2 is 3|{} unless 2 is 3|would be {}|",
        "could be {}|{} in part|{} so far|{}?|{} or not|{} up to step 2|",
        "{} apart from step 2|seems {}|once {}|sort of {}|{}, perhaps|{} ...|{}ish",
    ),
    # shares
    st.builds(
        "{1} {0}".format,
        st.just("{}"),
        one_of(
            "0%|10 percent|half|one third|2 of 3 steps|1/3|some parts|partly|mostly|0.3",
        ),
    ),
    st.sampled_from(["{} 30%", "{} for 2 of 3", "{} (40%)", "{} to 10 percent", "{}: 1/3"]),
    # roles
    st.builds(
        "{1} {0}".format,
        st.just("{}"),
        one_of(
            "step 1 is|the method is|the setup is|only the unit is|its first half is|",
            "the idea was",
        ),
    ),
    st.sampled_from(["{} method", "{} setup, bad sum", "{} unit", "{} in step 1", "{} for step 1", "{} idea"]),
    # quotations and what others say
    one_of(
        "the student says {}|they call it {}|\"{}\" is what he says|'{}', he says|",
        "one would say {}|«{}» he writes|he claims: {}",
    ),
    # taken back
    one_of(
        "{}, but step 2 is wrong|{}. But step 2 is wrong|{}\nBut step 2 is wrong|",
        "{} - or is it|{} with a slip|{}!? No|{}. Not.|{} (no)|{}; yet 3 is 4|",
        "{}\n\nThough 2 is 3|{} ❌|{}. Wait, no.|{}\n\nverdict: wrong|{}, wrong sum",
    ),
    # typography
    one_of(
        "~~{}~~|\u274c {}|{}\u0336|\xa1{}|in\u2011{}|in\xad{}|in\u200b{}|in\u2013{}|i n {}|*in*{}|<s>{}</s>|{}/wrong",
    ),
)


@settings(max_examples=400)
@given(start=marked, spoiler=SPOILERS, word=st.sampled_from(WORDS_GOOD), letters=case, around=st.sampled_from(AROUND))
def test_no_clause_outside_the_list_is_read_as_good(start, spoiler, word, letters, around):
    for said in (spoiler.format(around.format(letters(word))), around.format(spoiler.format(letters(word)))):
        assert parse_verdict(start + said, RULE).good is not True, start + said


QUOTING = (
    'He wrote "{}"',
    "He wrote: {}",
    "“{}” he wrote",
    "If so, {}",
    "the rule says\n{}",
    "> {}",
    "“All is fine. {}”",
)


@settings(max_examples=100)
@given(frame=st.sampled_from(QUOTING), start=st.sampled_from(MARKS[:2]), word=st.sampled_from(WORDS_GOOD))
def test_a_quoted_verdict_is_not_the_models_own(frame, start, word):
    assert parse_verdict(frame.format(f"{start}: {word}."), RULE).good is not True


@settings(max_examples=200)
@given(text=st.text(alphabet="Vverdict:corect \n.*\"'“”—no£½\u200b\u0336#-", max_size=80))
def test_no_text_breaks_the_reader(text):
    verdict = parse_verdict("Verdict: " + text, RULE)
    assert verdict.rating is None
    assert verdict.end is None or 0 <= verdict.end <= len(text) + 9


def test_all_feedback_made_by_this_project_says_what_its_row_says():
    rows = read_qa("builtin:gsm8k/train")
    made = [(row.feedback, row.good) for seed in range(2) for row in build_meta_rows(rows, seed, per_row=2)]
    rng = random.Random(0)
    for story in stories.make_stories("meta", 500, changes=3, seed=1):
        for answer in (story.answer, rng.randint(0, 20)):
            found = stories.feedback_text(story, f"The answer is {answer}.")
            assert found is not None
            made.append(found)
    assert len(made) > 2000
    assert {good for _, good in made} == {True, False}
    for text, good in made:
        verdict = parse_verdict(text, RULE)
        assert (verdict.good, verdict.end) == (good, None), text


def test_long_texts_are_read_in_no_time():
    for piece in ("Verdict: correct. ", "verdict is ", '"', "* _ ` ", "the answer is 1. ", "\n#", "no, "):
        assert parse_verdict("Verdict: correct. " + piece * 3000, RULE).rating is None


@pytest.mark.parametrize("bad", [{"kind": "other"}, {"good_rating": 11}, {"good_rating": 0}])
def test_rules_that_cannot_be_used_are_refused(bad):
    with pytest.raises(ConfigError):
        VerdictRule(**bad)
