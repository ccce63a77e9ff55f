"""The parser of worked solutions: exact arithmetic against Python's own, and nothing accepted that does not hold."""

import ast
import contextlib
import operator
import string
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.data.sources import read_qa
from selfevo_jax.tasks.solutions.worked import (
    evaluate,
    format_like,
    format_number,
    numbers,
    parse_solution,
    replace_numbers,
    stated_numbers,
)

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def by_python(expr):
    """The value by Python's own grammar, with every literal read as an exact fraction."""

    def value(node):
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand) if isinstance(node.op, ast.USub) else value(node.operand)
        return Fraction(ast.get_source_segment(expr, node))

    return value(ast.parse(expr, mode="eval").body)


_literals = st.one_of(
    st.integers(0, 10**6).map(str),
    st.tuples(st.integers(0, 999), st.integers(0, 99)).map(lambda ab: f"{ab[0]}.{ab[1]:02d}"),
    st.integers(0, 99).map(lambda n: f".{n:02d}"),
)
_expressions = st.recursive(
    _literals,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", " - ", " / "]), inner).map("".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(_expressions)
def test_values_equal_those_of_pythons_grammar(expr):
    try:
        expected = by_python(expr)
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="division by zero"):
            evaluate(expr)
    else:
        assert evaluate(expr) == expected


@settings(max_examples=300)
@given(st.text(alphabet=string.digits + "+-*/().% ea_x", max_size=12))
def test_any_text_has_a_value_or_is_refused_with_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(evaluate(text), Fraction)


@pytest.mark.parametrize("expr", ["", "1+", "(1", "1)", "1 2", "2**3", "7//2", "a", "__import__('os')", "(" * 9999])
def test_what_is_no_expression_is_refused(expr):
    with pytest.raises(ValueError):
        evaluate(expr)


def test_a_percentage_is_a_hundredth():
    assert evaluate("20%*50") == 10


@settings(max_examples=200)
@given(st.fractions(max_denominator=400))
def test_a_written_number_reads_back(value):
    assert Fraction(format_number(value)) == value
    if "/" not in format_number(value) and value >= 0:
        assert numbers(f"about ${format_like('1,000', value)}.") == [value]


def test_numbers_are_rewritten_in_the_style_of_the_old_ones():
    new = {Fraction(1000): Fraction(12000), Fraction(5, 2): Fraction(7), Fraction(3): Fraction(4)}
    text = "He paid $1,000, then 1000 and $2.50 (3 times), not 13 or 3.5."
    expected = "He paid $12,000, then 12000 and $7.00 (4 times), not 13 or 3.5."
    assert replace_numbers(text, new.get) == expected


def test_stated_numbers_are_found_in_digits_percent_and_words():
    stated = stated_numbers("Half of her twelve friends, two dozens, paid $1,250.50 at 20% off; one third left.")
    assert {Fraction(1, 2), 2, 12, Fraction("1250.5"), 20, Fraction(1, 5), 1, 3, Fraction(1, 3)} <= stated


def test_every_shipped_solution_reads_and_is_written_back_unchanged():
    for row in read_qa("builtin:gsm8k/train"):
        solution = parse_solution(row.answer)
        assert solution.text(marks=True) == row.answer
        assert "<<" not in solution.text()
        assert solution.answer == Fraction(row.answer.rsplit("#### ")[1].replace(",", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1+1=<<1+1=2>>2", "no last line"),
        ("", "no last line"),
        ("It is two.\n#### 2", "no step has"),
        ("1+1=<<1+1=3>>3\n#### 3", "does not hold"),
        ("100/3=<<100/3=33.33>>33.33\n#### 33.33", "does not hold"),
        ("1+1=<<1+1=2>>4\n#### 2", "not its value"),
        ("1+1=<<1+1=2>>2\n#### 5", "not the answer"),
        ("1+1=<<1+1=2>>2\n#### two", "is no number"),
        ("<<1+1=2>>2 and <<2+2=4>>4\n#### 4", "several marks"),
        ("1+1=<<1+1=2>2\n#### 2", "broken"),
        ("1-3=<<1-3=-2>>-2\n#### -2", "negative"),
        ("1+5=<<1+5=6>>6th\n#### 6", "ordinal"),
        ("1/0=<<1/0=0>>0\n#### 0", "division by zero"),
    ],
)
def test_a_solution_that_does_not_hold_is_refused_with_its_reason(text, message):
    with pytest.raises(ValueError, match=message):
        parse_solution(text)
