"""What is read of an annotator's texts. Pure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.annotate.aspects import ASPECTS, read_marks
from selfevo_jax.annotate.reading import read_text
from selfevo_jax.annotate.steps import StepReading, numbered, read_steps, steps_of
from selfevo_jax.judges.endpoint import Answer


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("<think>Is it 5?</think>\n\nIt is 6.", ("It is 6.", "")),
        ("Is it 5?\n</think>\n\nIt is 6.", ("It is 6.", "")),
        ("<thinking>Is it 5?</thinking>It is 6.", ("It is 6.", "")),
        ("[THINK]Is it 5?[/THINK]It is 6.", ("It is 6.", "")),
        ("<think></think>It is <b>6</b>, I think.", ("It is <b>6</b>, I think.", "")),
        ("<think>Is it 5?", (None, "thinking alone")),
        ("<think>Is it 5?</think>\n", (None, "empty")),
    ],
)
def test_what_an_annotator_only_thought_is_in_no_row(said, read):
    assert read_text(Answer("a", said, "stop")) == read


@pytest.mark.parametrize(
    ("response", "steps"),
    [
        ("It is 5.", ["It is 5."]),
        ("First 3 + 2 = 5. Then 5 is odd. Done", ["First 3 + 2 = 5.", "Then 5 is odd.", "Done"]),
        ("It costs 3.50 dollars, i.e. little.", ["It costs 3.50 dollars, i.e. little."]),
        ("a\n\nb\nc", ["a", "b", "c"]),
        ("So:\nStep 1: add.\nmore\nStep 2: stop.", ["So:\nStep 1: add.\nmore", "Step 2: stop."]),
        ("1. add\n2) stop", ["1. add", "2) stop"]),
        ("3. add\n4. stop", ["3. add", "4. stop"]),
        ("Code:\n```\n1. x\n\n2. y\n```\nend", ["Code:", "```\n1. x\n\n2. y\n```", "end"]),
    ],
)
def test_the_steps_of_a_response_are_its_numbered_ones_or_its_lines_or_its_sentences(response, steps):
    assert steps_of(response) == steps


@settings(max_examples=60)
@given(st.text(alphabet="ab1. \n`)S", max_size=60))
def test_steps_hold_every_letter_of_a_response_and_none_is_empty(response):
    steps = steps_of(response)
    assert all(step.strip() for step in steps)
    assert "".join("".join(steps).split()) == "".join(response.split())
    assert numbered(steps).count("[") == len(steps)


@pytest.mark.parametrize(
    ("feedback", "good", "found"),
    [
        ("Step 1: right. 2 + 3 = 5.\nStep 2: wrong. 5 is odd.", False, StepReading(2)),
        ("**Step 1:** Correct.\n- Step 2 is not right, since 5 is odd.", False, StepReading(2)),
        ("Step 1: it adds.\nStep 2: it stops.", True, StepReading(None)),
        ("Step 1: wrong. In step 2 it goes on.", False, StepReading(1)),
        ("All steps are fine.", True, "follows no step"),
        ("Step 2: wrong.", False, "steps out of order"),
        ("Step 1: right.\nStep 1: right.", False, "steps out of order"),
        ("Step 1: right.\nStep 2: right.\nStep 3: right.", True, "a step that is not there"),
        ("Step 1: right.", True, "steps left out"),
        ("Step 1: right.", False, StepReading(None)),
        ("Step 1: right.\nStep 2: incorrect.", True, "a wrong step, and a good verdict"),
    ],
)
def test_feedback_follows_the_steps_from_the_first_on_or_is_none(feedback, good, found):
    assert read_steps(feedback, 2, good) == found


ALL = tuple(ASPECTS)
FULL = "Instruction following: {} Fine.\nHonesty: {}\nTruthfulness: {} So so.\nHelpfulness: {}\nAdvice: say more"


def test_the_rating_is_the_mean_of_the_marks_that_there_are():
    marks = read_marks(FULL.format("5.", "4/5. Sure.", "N/A.", "3"), ALL)
    assert marks == "no mark from 1 to 5 for truthfulness"
    marks = read_marks(FULL.format("5.", "N/A", "4 out of 5,", "3"), ALL)
    assert marks.rating == 4.0
    assert marks.by_aspect == dict(zip(ALL, (5, None, 4, 3), strict=True))
    assert marks.text().splitlines() == [
        "Instruction following: 5 of 5. Fine.",
        "Honesty: not applicable.",
        "Truthfulness: 4 of 5. So so.",
        "Helpfulness: 3 of 5.",
        "Advice: say more",
        "Rating: 4/5",
    ]


@pytest.mark.parametrize("mark", ["4 or 5", "4-5", "4.5", "0", "6", "10", "4/10", "four", "", "4 to 5", "45"])
def test_a_mark_that_is_no_whole_one_from_1_to_5_is_none(mark):
    assert read_marks(FULL.format(mark, 5, 5, 5), ALL) == "no mark from 1 to 5 for instruction following"


def test_an_aspect_that_is_missing_or_named_twice_is_no_mark():
    text = FULL.format(5, 5, 5, 5)
    assert read_marks(text.replace("Honesty", "Candour"), ALL) == "no honesty"
    assert read_marks(f"{text}\nHonesty: 2", ALL) == "honesty twice"
    assert read_marks(f"{text}\nHonesty: 2", ("helpfulness",)).rating == 5.0
