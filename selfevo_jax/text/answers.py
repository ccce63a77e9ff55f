"""Numeric answers: taking them out of a text, and comparing them. The written rule is `RULES`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

RULES = r"""The rule for numeric answers, the same for gold and for the model's text.

1. Run-on. A text ends where it begins to invent a next question: after the line of its first "####"; before a line
   that opens with "Question:", "Q:", "Problem:", "Instruction:", "User:", "Human:" (or "### " and one of these), unless
   it is the first line; after a paragraph that ends with "The answer is n.", unless the next one begins with a
   correction ("Wait", "Actually", "Let me", "However", "But", "No,", "Hmm", "Check", "Therefore", "So", "Thus").
2. Where the answer stands: after the first "####"; else in the last \boxed{...}; else after the last "answer is" or
   "answer:" on the rest of that sentence; else it is the last number of the text. When a marker stands there and no
   number follows, there is no answer.
3. Behind a marker the first number counts; if the sentence goes on with "=", the first one after its last "=".
4. Numbers: an optional sign, digits with groups of three parted by "," or "{,}" or "\,", an optional decimal part.
   A sign touches its number or its currency, on either side of the currency; "-" behind a digit, a letter or ")" is a
   minus between two numbers, not a sign. Values are exact: 18, 18. and 18.0 are equal, and 0.1 is a tenth.
5. Currency ($ \$ £ € ¥ ₹ US$) is dropped.
6. Percent: the sign is dropped, so 25% equals 25, and does not equal 0.25.
7. Fractions: 3/4, \frac{3}{4}, \dfrac, \tfrac and 1 1/2 are their values; a zero below makes no number.
8. Units and other words behind the number are dropped: 12 km equals 12. Numbers in words are not read.
9. Two answers are the same when both have a number and the numbers are equal.
"""

MAX_DIGITS = 60
"""Longer runs of digits are no answers."""

_SPEAKER = r"(?:question|q|problem|instruction|user|human)"
_NEXT_QUESTION = re.compile(rf"\n[ \t]*(?:#+[ \t]*)?\**{_SPEAKER}\**[ \t]*\d*[ \t]*:", re.IGNORECASE)
_HASHES = re.compile(r"####[^\n]*")
_STATED = re.compile(r"\banswer\b[*_ ]*(?:is\b[ \t]*:?|:|=)[^\n]*\n[ \t\r]*\n\s*", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\W*(?:wait|actually|let me|let's|however|but|no\b|hmm|check|therefore|so\b|thus|hence|the (?:final )?answer"
    r"|answer|####|\\boxed)",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"\banswer\b[*_ ]*(?:\bis\b[*_ ]*:?|[:=])", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?;](?=\s|$)|\n")

_CURRENCY = r"(?:US)?\\?[$£€¥₹]"
_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|\\[dt]?frac\s*(\d)\s*(\d)")
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>(?<![\w)])[-−+])?(?:{_CURRENCY}\s?(?P<inner>[-−])?)?"
    rf"(?P<digits>{_DIGITS})(?:\s(?P<top>\d{{1,3}})\s?/\s?(?P<under>\d{{1,3}})(?![\d/])"
    rf"|\s?/\s?{_CURRENCY}?(?P<below>{_DIGITS})(?!\d*/))?",
    re.IGNORECASE,
)


def cut_run_on(text: str) -> str:
    """The text without the invented next question that may follow its answer (rule 1)."""
    ends = [len(text)]
    if (hashes := _HASHES.search(text)) is not None:
        ends.append(hashes.end())
    ends += [m.start() for m in _NEXT_QUESTION.finditer(text) if text[: m.start()].strip()][:1]
    for stated in _STATED.finditer(text):
        if next(_numbers(stated.group()), None) is not None and not _CORRECTION.match(text, stated.end()):
            ends.append(stated.end())
            break
    end = min(ends)
    return text if end == len(text) else text[:end].rstrip()


def extract_answer(text: str) -> Fraction | None:
    """The numeric answer of a text by RULES; None when there is none."""
    text = cut_run_on(text)
    if "####" in text:
        return _first(text.split("####", 1)[1])
    if (boxed := _boxed(text)) is not None:
        return _first(boxed)
    marks = list(_ANSWER.finditer(text))
    if marks:
        rest = text[marks[-1].end() :].lstrip()
        end = _SENTENCE.search(rest)
        return _first(rest if end is None else rest[: end.start()])
    return next(iter(deque(_numbers(text), maxlen=1)), None)


def same_answer(a: str, b: str) -> bool:
    """Whether two texts give the same number (rule 9); symmetric, so gold and answer may change places."""
    left, right = extract_answer(a), extract_answer(b)
    return left is not None and left == right


def _boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{...}, by its matching brace (or to the end of the text without one)."""
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    rest = text[start + len("\\boxed") :].lstrip()
    if not rest.startswith("{"):
        return rest[:1]
    depth = 0
    for i, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[1:i]
    return rest[1:]


def _first(text: str) -> Fraction | None:
    after = text.rsplit("=", 1)[1] if "=" in text else text
    found = next(_numbers(after), None)
    return next(_numbers(text), None) if found is None else found


def _value(digits: str) -> Fraction | None:
    plain = re.sub(r"[{},\\]", "", digits)
    return Fraction(plain) if plain.isascii() and len(plain) <= MAX_DIGITS else None


def _numbers(text: str) -> Iterator[Fraction]:
    """The numbers of a text in their order."""
    text = _FRACTION.sub(lambda m: f" {m[1] or m[3]}/{m[2] or m[4]} ", text)
    for match in _NUMBER.finditer(text):
        value = _value(match["digits"])
        if value is None:
            continue
        if match["below"] is not None or match["under"] is not None:
            below = _value(match["below"] or match["under"])
            if not below:
                continue
            value = value / below if match["below"] is not None else value + Fraction(match["top"]) / below
        minus = ((match["sign"] or "").strip() in ("-", "−")) != (match["inner"] is not None)
        yield -value if minus else value
