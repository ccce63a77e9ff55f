"""Worked solutions in GSM8K's format: one step a line with at most one `<<expr=value>>` mark, then `#### answer`.

Arithmetic is exact (`Fraction`), by a small parser of its own: the text of a data row is never executed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

NUMBER = re.compile(r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)(?:\.\d+)?|(?<![\d.,])\.\d+")
"""An unsigned number in running text: 72, 1,000, 2.50, .5. Group 0 is the number alone."""
_MARK = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
_TOKEN = re.compile(r"\s*(\d+(?:\.\d*)?%?|\.\d+%?|[-+*/()])")
_DEEPEST = 50
OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_WORD_VALUES = {word: (Fraction(i),) for i, word in enumerate(_WORDS.split())} | {
    "thirty": (Fraction(30),),
    "forty": (Fraction(40),),
    "fifty": (Fraction(50),),
    "sixty": (Fraction(60),),
    "hundred": (Fraction(100),),
    "thousand": (Fraction(1000),),
    "once": (Fraction(1),),
    "twice": (Fraction(2),),
    "double": (Fraction(2),),
    "thrice": (Fraction(3),),
    "triple": (Fraction(3),),
    "half": (Fraction(1, 2), Fraction(2)),
    "third": (Fraction(1, 3), Fraction(3)),
    "quarter": (Fraction(1, 4), Fraction(4)),
    "fourth": (Fraction(1, 4), Fraction(4)),
    "fifth": (Fraction(1, 5), Fraction(5)),
    "dozen": (Fraction(12),),
}


@dataclass(frozen=True)
class Step:
    """One line of a solution: `before <<expr=value>>shown after`. Without a mark all its text is `before`."""

    before: str
    expr: str | None = None
    value: Fraction = Fraction(0)
    value_text: str = ""
    shown: str = ""
    after: str = ""

    def text(self, marks: bool = False) -> str:
        """The line as written, with or without its calculator mark."""
        mark = f"<<{self.expr}={self.value_text}>>" if marks and self.expr is not None else ""
        return self.before + mark + self.shown + self.after


@dataclass(frozen=True)
class Solution:
    """Steps and the answer; the last marked step has the answer as its value."""

    steps: tuple[Step, ...]
    answer: Fraction
    answer_text: str

    def text(self, marks: bool = False) -> str:
        """The whole solution, ending in `#### answer`."""
        return "\n".join([*(step.text(marks) for step in self.steps), f"#### {self.answer_text}"])


@dataclass(frozen=True)
class Sum:
    """One operation of an expression: `8 - 3 = 5`."""

    left: Fraction
    sign: str
    right: Fraction
    value: Fraction

    def __str__(self) -> str:
        left, right, value = map(format_number, (self.left, self.right, self.value))
        return f"{left} {self.sign} {right} = {value}"


def evaluate(expr: str) -> Fraction:
    """The exact value of an expression of numbers, `+ - * /`, brackets and percent (`20%` is 20/100).

    Raises:
      ValueError: it is no such expression, or it divides by zero.
    """
    return work_out(expr)[0]


def work_out(expr: str) -> tuple[Fraction, list[Sum]]:
    """The value of an expression, and its operations in the order in which they are worked out. Errors: `evaluate`."""
    tokens: list[str] = []
    at = 0
    while at < len(expr.rstrip()):
        match = _TOKEN.match(expr, at)
        if match is None:
            raise ValueError(f"'{expr}' has a sign that is no arithmetic at column {at + 1}")
        tokens.append(match[1])
        at = match.end()
    done: list[Sum] = []
    value, rest = _sum(tokens, 0, 0, done)
    if rest != len(tokens):
        raise ValueError(f"'{expr}' goes on after a complete expression, at '{tokens[rest]}'")
    return value, done


def _applied(left: Fraction, sign: str, right: Fraction, done: list[Sum]) -> Fraction:
    if sign == "/" and right == 0:
        raise ValueError("division by zero")
    value = OPERATIONS[sign](left, right)
    done.append(Sum(left, sign, right, value))
    return value


def _sum(tokens: Sequence[str], at: int, depth: int, done: list[Sum]) -> tuple[Fraction, int]:
    value, at = _product(tokens, at, depth, done)
    while at < len(tokens) and tokens[at] in "+-":
        sign = tokens[at]
        term, at = _product(tokens, at + 1, depth, done)
        value = _applied(value, sign, term, done)
    return value, at


def _product(tokens: Sequence[str], at: int, depth: int, done: list[Sum]) -> tuple[Fraction, int]:
    value, at = _atom(tokens, at, depth, done)
    while at < len(tokens) and tokens[at] in "*/":
        sign = tokens[at]
        factor, at = _atom(tokens, at + 1, depth, done)
        value = _applied(value, sign, factor, done)
    return value, at


def _atom(tokens: Sequence[str], at: int, depth: int, done: list[Sum]) -> tuple[Fraction, int]:
    if at >= len(tokens):
        raise ValueError("the expression ends where a number is expected")
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} brackets or signs within each other")
    token = tokens[at]
    if token in "+-":
        value, at = _atom(tokens, at + 1, depth + 1, done)
        return (value if token == "+" else -value), at
    if token == "(":
        value, at = _sum(tokens, at + 1, depth + 1, done)
        if at >= len(tokens) or tokens[at] != ")":
            raise ValueError("a bracket is not closed")
        return value, at + 1
    if token in "*/)":
        raise ValueError(f"'{token}' where a number is expected")
    return (Fraction(token[:-1]) / 100 if token.endswith("%") else Fraction(token)), at + 1


def parse_solution(text: str) -> Solution:
    """Reads a worked solution.

    Every mark must hold exactly, its value must be the number that follows it, and the last one must be the answer.

    Raises:
      ValueError: the text is no such solution; the message says why.
    """
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    if not lines or not lines[-1].startswith("####"):
        raise ValueError("no last line '#### answer'")
    answer_text = lines[-1].removeprefix("####").strip()
    answer = _value_of(answer_text)
    steps = tuple(_step(line) for line in lines[:-1])
    marked = [step for step in steps if step.expr is not None]
    if not marked:
        raise ValueError("no step has a <<expr=value>> mark")
    if marked[-1].value != answer:
        raise ValueError("the last marked step is not the answer")
    return Solution(steps, answer, answer_text)


def _value_of(text: str) -> Fraction:
    plain = text.replace(",", "").replace("$", "").strip()
    try:
        value = evaluate(plain)
    except ValueError:
        raise ValueError(f"'{text}' is no number") from None
    if value < 0:
        raise ValueError("a negative value")
    return value


def _step(line: str) -> Step:
    marks = list(_MARK.finditer(line))
    if len(marks) > 1 or line.count("<<") != len(marks) or line.count(">>") != len(marks):
        raise ValueError("a line has several marks or a broken one")
    if not marks:
        return Step(line)
    mark = marks[0]
    value = _value_of(mark[2])
    if evaluate(mark[1]) != value:
        raise ValueError("a mark does not hold exactly")
    shown = NUMBER.match(line, mark.end())
    if shown is None or parse_number(shown[0]) != value:
        raise ValueError("the number after a mark is not its value")
    after = line[mark.end() + len(shown[0]) :]
    if re.match(r"[/.,]?\d|st\b|nd\b|rd\b|th\b", after):
        raise ValueError("the number after a mark goes on as a fraction or an ordinal")
    return Step(line[: mark.start()], mark[1].strip(), value, mark[2].strip(), shown[0], after)


def parse_number(text: str) -> Fraction:
    """The value of a match of `NUMBER`."""
    return Fraction(text.replace(",", ""))


def numbers(text: str) -> list[Fraction]:
    """The numbers of a text written in digits, in order."""
    return [parse_number(match[0]) for match in NUMBER.finditer(text)]


def stated_numbers(question: str) -> frozenset[Fraction]:
    """Every number that a question states: in digits, as a percentage (also over 100) or in words."""
    found = set(numbers(question))
    found |= {parse_number(m[0]) / 100 for m in NUMBER.finditer(question) if question[m.end() :].startswith("%")}
    for word in re.findall(r"[a-z]+", question.lower()):
        found.update(_WORD_VALUES.get(word, _WORD_VALUES.get(word.removesuffix("s"), ())))
    return frozenset(found)


def replace_numbers(text: str, new: Callable[[Fraction], Fraction | None]) -> str:
    """Rewrites the numbers of a text in the style of the old ones; `new` gives None for one that stays."""

    def one(match: re.Match[str]) -> str:
        value = new(parse_number(match[0]))
        return match[0] if value is None else format_like(match[0], value)

    return NUMBER.sub(one, text)


def format_number(value: Fraction) -> str:
    """72, 0.5, 12.75; a value without a finite decimal is a fraction, 1/3."""
    denominator, places = value.denominator, 0
    while denominator % 10 == 0:
        denominator, places = denominator // 10, places + 1
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator, places = denominator // prime, places + 1
    if denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    text = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    whole, decimals = (text[:-places], text[-places:].rstrip("0")) if places else (text, "")
    return ("-" if value < 0 else "") + whole + ("." + decimals if decimals else "")


def format_like(old: str, value: Fraction) -> str:
    """A number in the style of `old`: its thousands commas, and its two places of a price."""
    whole, _, decimals = format_number(value).partition(".")
    if "," in old and "/" not in whole:
        whole = f"{int(whole):,}"
    if re.search(r"\.\d\d$", old) and len(decimals) < 2 and "/" not in whole:
        decimals = decimals.ljust(2, "0")
    return whole + ("." + decimals if decimals else "")
