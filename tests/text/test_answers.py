"""The written rule for numeric answers (selfevo_jax.text.RULES), line by line."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.text import cut_run_on, extract_answer, same_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # where the answer stands
        ("So 4 and 5 make 9.\n#### 9", 9),
        ("The answer is 9.", 9),
        ("Answer: 12", 12),
        ("**Answer:** 12", 12),
        ("The answer is **12**.", 12),
        ("The final answer is: $12", 12),
        (r"Hence \boxed{5}, not \boxed{7}", 7),
        (r"\boxed{5 \text{ km}} after 3 hours", 5),
        (r"\boxed{\frac{1}{2}}", Fraction(1, 2)),
        (r"\boxed{5", 5),
        ("First 3, then 4.", 4),
        ("41", 41),
        ("The answer is 5 + 3 = 8.", 8),
        ("The answer is 7. It took 3 steps.", 7),
        ("The answer is 3. Wait, the answer is 4.", 4),
        # a marker with no number behind it
        ("5 apples\n#### ,", None),
        ("The 5 apples. The answer is ,", None),
        (r"5 \boxed{}", None),
        ("no number", None),
        ("", None),
        # C37: punctuation behind the number
        ("So that makes 41 apples, all told.", 41),
        ("It is 41, or so", 41),
        ("#### 41,", 41),
        # C38: separators
        (r"\boxed{12,500}", 12500),
        (r"\boxed{$12{,}500}", 12500),
        ("12,500", 12500),
        (r"12\,500", 12500),
        ("1,234,567.89", Fraction("1234567.89")),
        ("for 3, 4 or 5", 5),
        # C39: money, zeros, signs
        ("$18.00", 18),
        ("18.", 18),
        ("18.0", 18),
        ("-18", -18),
        ("-$18", -18),
        ("$-18", -18),
        (r"\$18", 18),
        ("US$18", 18),
        ("€ 18", 18),
        ("−18", -18),
        ("(-18)", -18),
        ("x=-18", -18),
        ("5-3", 3),
        ("10 - 4", 4),
        ("5)-3", 3),
        (".5", Fraction(1, 2)),
        ("0.1", Fraction(1, 10)),
        # C41: fractions, percent, units
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("1 1/2 cups", Fraction(3, 2)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"\dfrac34", Fraction(3, 4)),
        ("3/0", None),
        ("25%", 25),
        ("12 km", 12),
        ("12km", 12),
        ("3rd", 3),
        ("forty-one", None),
        ("x2", None),
        ("9" * 5000, None),
    ],
)
def test_extraction(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("4 + 3 = 7\n#### 7\n\nTom has 90 pens.\n#### 99", "4 + 3 = 7\n#### 7"),
        ("The answer is 7.\nQuestion: How many?\nThe answer is 99.", "The answer is 7."),
        ("The answer is 7.\n\n### User: How many? 99", "The answer is 7."),
        ("It is 7.\nQ: 99", "It is 7."),
        ("The answer is 7.\n\nTom has 90 pens. The answer is 99.", "The answer is 7."),
        ("The answer is 7.\n\nWait, the answer is 8.", "The answer is 7.\n\nWait, the answer is 8."),
        ("Question: what?\nThe answer is 7.", "Question: what?\nThe answer is 7."),
        ("Step one.\n\nStep two. The answer is 7.\n", "Step one.\n\nStep two. The answer is 7.\n"),
        ("", ""),
    ],
)
def test_run_on_is_cut(text, kept):
    assert cut_run_on(text) == kept
    assert cut_run_on(kept) == kept


def test_the_first_answer_counts_before_a_run_on():
    assert extract_answer("#### 7\n\nQuestion: What is 90 + 9?\n90 + 9 = 99\n#### 99") == 7
    assert extract_answer("The answer is 7.\n\nTom has 90 pens. The answer is 99.") == 7


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("$18.00", "18", True),
        ("18.", "18", True),
        ("18.0", "18", True),
        ("-18", "18", False),
        ("3/4", "0.75", True),
        ("25%", "25", True),
        ("25%", "0.25", False),
        ("12 km", "12", True),
        (r"\boxed{$12{,}500}", "#### 12,500", True),
        ("no number", "no number", False),
        ("", "0", False),
    ],
)
def test_comparison_is_symmetric_by_one_rule(a, b, same):
    assert same_answer(a, b) is same
    assert same_answer(b, a) is same


@settings(max_examples=200, deadline=None)
@given(number=st.integers(-(10**12), 10**12), cents=st.integers(0, 99))
def test_every_way_of_writing_a_number_is_the_same_number(number, cents):
    value = Fraction(f"{number}.{cents:02d}")
    sign, digits = ("-" if number < 0 else ""), f"{abs(number)}.{cents:02d}"
    grouped = f"{abs(number):,}.{cents:02d}"
    for written in (
        digits,
        grouped,
        "$" + grouped,
        grouped.replace(",", "{,}"),
        digits + " km",
        digits + ".",
        digits + "%",
    ):
        for around in ("{}", "#### {}", "The answer is {}", "\\boxed{{{}}}", "so it is {}, all told", "({})"):
            assert extract_answer(around.format(sign + written)) == value, around.format(sign + written)


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="0123456789,.{}\\$%/-−# \nboxedfracanswer is:=Q()٣½", max_size=50))
def test_no_text_breaks_the_reader(text):
    answer = extract_answer(text)
    assert answer is None or isinstance(answer, Fraction)
    assert same_answer(text, text) is (answer is not None)
    assert text.startswith(cut_run_on(text))
    assert cut_run_on(cut_run_on(text)) == cut_run_on(text)
