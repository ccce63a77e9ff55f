"""The written rule for numeric answers (selfevo_jax.text.RULES), line by line."""

import itertools
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.data import read_qa
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
        ("5-3", None),
        ("10 - 4", None),
        ("5)-3", None),
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
    ("text", "answer"),
    [
        # fractions with their signs
        (r"\boxed{-\frac{3}{4}}", Fraction(-3, 4)),
        (r"\frac1{2}", Fraction(1, 2)),
        (r"\frac{18}{-2}", -9),
        (r"-\dfrac34", Fraction(-3, 4)),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        ("½", Fraction(1, 2)),
        ("3½", Fraction(7, 2)),
        ("3 1/2", Fraction(7, 2)),
        (r"5 - \frac{1}{2}", None),
        ("1/2/3", None),
        ("1/2 of 18", None),
        # powers, roots, scales
        ("1e3", 1000),
        ("1.5e-2", Fraction(3, 200)),
        ("5 million", 5000000),
        ("$1.5 billion a year", 1500000000),
        ("10^6", None),
        (r"\boxed{10^{6}}", None),
        ("10⁶", None),
        ("10**6", None),
        (r"3.2 \times 10^5", None),
        ("√2", None),
        (r"\sqrt{2}", None),
        (r"2\sqrt{3}", None),
        ("2π", None),
        ("5!", None),
        ("$5m", None),
        ("5k", None),
        ("2x", None),
        ("x^2", None),
        ("0x1F", None),
        ("-(18)", None),
        ("18⋅2", None),
        ("∛8", None),
        ("log 18", None),
        ("0.333...", None),
        (r"\boxed{18_{10}}", None),
        ("10⁻³", None),
        ("5 hundred and 3", None),
        ("2(3)", None),
        ("18 and a half", None),
        # separators and signs
        ("1.234,50", None),
        ("1,5", None),
        ("12,34", None),
        ("1 000", None),
        ("1\u202f000", 1000),
        ("1.2.3", None),
        ("–5", -5),
        ("- 5", -5),
        ("minus 5", -5),
        ("#### - 5", -5),
        ("+5", 5),
        ("±5", None),
        ("x - 5", None),
        ("10 minus 5", None),
        # ranges, ratios, times, dates, pairs
        ("10-12", None),
        ("10–12", None),
        ("3:4", None),
        ("at 3:30", None),
        ("2020-01-05", None),
        ("5/6/2020", None),
        ("3 to 4", None),
        ("(3, 4)", None),
        ("x=2,y=3", None),
        ("5 feet 3 inches", None),
        ("The answer is 3 and 4", None),
        ("The answer is 3 or 4", None),
        ("The answer is 3 apples and 4 pears", None),
        ("The answer is 5 hours and 30 minutes", None),
        ("x > 5", None),
        ("The answer is not 5", None),
        ("half of 18", None),
        # equations, units, marks
        ("= 6 * 3 = 18", 18),
        ("The answer is 18 = 6 * 3", None),
        ("The answer is 5 + 3", None),
        ("The answer is 5 apples + 3 apples = 8 apples.", 8),
        ("16-3=<<16-3=13>>13", 13),
        ("12 km/h", 12),
        ("The answer is 18 m^2.", 18),
        ("The answer is 6 x 3 = 18.", 18),
        (r"\boxed 18", 18),
        ("a total (18)", 18),
        ("$18 per hour", 18),
        ("the first 5-year plan", 5),
        (r"\boxed{18^\circ}", 18),
        (r"\boxed{\text{18 dollars}}", 18),
        (r"\(18\)", 18),
        ("$18$", 18),
        ("so 9 is in step 2", 9),  # the number of a step is a name
        # where the answer stands
        ("**Answer:**\n18", 18),
        ("The answer is:\n\\[\n18\n\\]", 18),
        ("The answer is 14 because x = 3", 14),
        ("The answer is 18, not 16.", 18),
        ("Answer: Janet has 16 eggs.\n\nShe sells 9 of them for $2, which makes $18.", 18),
        ("#### Step 1\n5 + 3 = 8\n#### Step 2\n8 + 1 = 9\n#### 9", 9),
        ("#### The total is 18", 18),
        ("16 - 3 = 13\n#### unknown", None),
        ("####\n18", 18),
        ("At 2 points/answer = 4 points.", 4),
        # behind a blank line, in tags and boxes, below a heading
        ("The answer is:\n\n18", 18),
        ("So it is 9.\n\nThe final answer is:\n\n$$\n18\n$$\n\nDone.", 18),
        ("**Final Answer:**\n\n**18** dollars a day", 18),
        ("The answer is:\n\n- 18", None),  # negative, or an item of a list
        ("#### Final Answer\n\n18", 18),
        ("#### \\boxed{18}", 18),
        ("I think 5.\n<answer>18</answer>\nI used 3 steps.", 18),
        ("The answer is <b>18</b>.", 18),
        # a worked solution in one line
        ("Answer: She has 16-7 = 9 eggs. She makes 9*2 = 18 dollars.", 18),
        ("Answer: 16 - 7 = 9. 9 * 2 = 18.", 18),
        ("Answer: 18 dollars. She sold 9 eggs.", 18),
        # other letters for the same signs
        *((f"The answer is {sign}5", -5) for sign in "‐‑﹣－−–"),
        ("The answer is １８．５", Fraction(37, 2)),
        ("The answer is 1，250", 1250),
        # further parts of something larger
        ("The answer is |-5|", None),
        ("The answer is ⌊5.5⌋", None),
        ("The answer is 0.333...", None),
        ("The answer is 10; 12", None),
        ("The answer is 16 - 7 = 9; 9 * 2 = 18", 18),
        ("The answer is 1h30", None),
        ("The answer is 5 millions", None),
        ("The answer is 5 hundred thousands", None),
        ("The answer is 5-million", None),
        ("The answer is 5 crore", None),
        ("The answer is up to 5", None),
        ("The answer is under 5", None),
        ("The answer is 5 or more", None),
        ("The answer is 5 (mod 7)", None),
        ("The answer is 12 (base 3)", None),
        ("The answer is 5 with a remainder of 2", None),
        ("The answer is (2)(3)", None),
    ],
)
def test_an_answer_is_the_whole_number_or_nothing(text, answer):
    assert extract_answer(text) == answer


NUMBER = st.builds(
    "{}{}".format, st.sampled_from(("", "-", "$", "-$")), st.sampled_from(("5", "18", "1,250", "3.5", "3/4"))
)
LARGER = (
    "{0} + {1}|{0}-{1}|{0} - {1}|{0}–{1}|{0} * {1}|{0}×{1}|{0} x {1}|{0} / {1} / 2|{0}^{1}|"
    "{0}^{{{1}}}|{0}:{1}|{0} to {1}|{0} or {1}|{0} and {1}|{0}, {1}|{0} plus {1}|{0} minus {1}|"
    "{0} divided by {1}|{0}²|√{0}|\\sqrt{{{0}}}|{0}\\pi|{0} \\times {1}|{0} \\cdot {1}|{0}x|{0}!|"
    "±{0}|{0},5|{0}.5.1|{0} and a half|f({0})|{0}({1})|{0} < {1}|x - {0}|x > {0}|{0} squared|"
    "{0} hundredths|{0} = {1} + 1|x = {0}, y = {1}|log {0} + 1|2^{0}|{0} of {1}|not {0}|twice {0}|"
    "\\binom{{{0}}}{{{1}}}"
)


@settings(max_examples=300)
@given(
    form=st.sampled_from(LARGER.split("|")),
    one=NUMBER,
    two=st.sampled_from(("2", "7")),
    frame=st.sampled_from(
        ("#### {}", "The answer is {}.", "Answer: {}", "\\boxed{{{}}}", "**Answer:** {}", "#### ${}$")
    ),
)
def test_no_part_of_something_larger_is_an_answer(form, one, two, frame):
    text = frame.format(form.format(one, two))
    assert extract_answer("8 * 2 = 16\n\n" + text) is None, text


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
        ("Answer: 7\n\nTom has 90 pens.\n\nAnswer: 99", "Answer: 7"),
        (r"\boxed{7}" + "\n\nQuestion: How many? 99", r"\boxed{7}"),
        ("#### 7 apples\n\nQuestion: How many?\n#### 99", "#### 7 apples"),
        ("####\n7\n\nQuestion: How many?\n#### 99", "####\n7"),
    ],
)
def test_run_on_is_cut(text, kept):
    assert cut_run_on(text) == kept
    assert cut_run_on(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "Answer: Janet's ducks lay 16 eggs a day.\n\nShe sells 9 of them for $2.\n\n#### 18",
        "Answer: 16 eggs a day.\n\nShe sells 9 of them for $2.\n\n#### 18",
        "**Answer:**\n\n16 - 7 = 9 eggs.\n\n9 * 2 = 18\n\n#### 18",
        "#### Step 1\n16 - 7 = 9\n\n#### Step 2\n9 * 2 = 18\n\n#### 18",
        "#### 1. Count\n16 - 7 = 9\n#### 2. Sell\n9 * 2 = 18",
        "First the eggs.\nQuestion: how many are sold?\n16 - 7 = 9, and 9 * 2 = 18.\n#### 18",
        "It is 9.\nProblem: what do they bring?\n9 * 2 = 18\n#### 18",
        "The first answer is 9 eggs.\n\nShe sells them for $2.\n\n#### 18",
        "The answer is 9.\n\nWait, she sells them: 18.\n\nThe answer is 18.",
        "The answer is 9.\n\nOops, I forgot the price. The answer is 18.",
        "The answer is 9.\n\n**Final Answer:** 18",
    ],
)
def test_only_what_follows_a_final_answer_is_cut(text):
    assert cut_run_on(text) == text
    assert extract_answer(text) == 18


def test_labelled_solutions_stay_right_however_they_are_laid_out():
    rows = read_qa("builtin:gsm8k/train")
    for row, other in itertools.pairwise(rows):
        gold = extract_answer(row.answer)
        assert gold is not None
        solution = re.sub("<<[^<>]*>>", "", row.answer)
        steps, last = solution.split("\n")[:-1], solution.split("\n")[-1]
        number = last.removeprefix("####").strip()
        laid_out = (
            "Answer: " + solution.replace("\n", "\n\n"),
            "**Answer:**\n" + solution,
            "\n\n".join(f"#### Step {i}\n{step}" for i, step in enumerate(steps, 1)) + "\n\n" + last,
            f"Let me see.\nQuestion: {row.prompt}\n\n" + "\n\n".join(steps) + f"\n\nThe answer is {number}.",
            "Answer: " + "\n\n".join(steps) + f"\n\n\\boxed{{{number}}}",
        )
        for text in laid_out:
            assert cut_run_on(text) == text
            assert extract_answer(text) == gold, text
        assert cut_run_on(f"{solution}\n\n{other.prompt}\n{other.answer}") == solution


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


@settings(max_examples=200)
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


@settings(max_examples=300)
@given(text=st.text(alphabet="0123456789,.{}\\$%/-−–# \nboxedfracanswer is:=Q()*_^٣½√§", max_size=50))
def test_no_text_breaks_the_reader(text):
    answer = extract_answer(text)
    assert answer is None or isinstance(answer, Fraction)
    assert same_answer(text, text) is (answer is not None)
    assert text.startswith(cut_run_on(text))
    assert cut_run_on(cut_run_on(text)) == cut_run_on(text)


def test_long_texts_are_read_in_no_time():
    for piece in (
        "The answer is ",
        "1 + ",
        "#### ",
        "\\frac{",
        "answer: 7\n\n",
        "1,",
        "x = 2, ",
        "Question: ",
        "- ",
        "It is 7. ",
    ):
        extract_answer(piece * 2000)
