r"""Numbers in a text, each with whether it stands alone or is a part of something larger (an expression, a range)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 60
"""Longer runs of digits are no answers."""

UNREAD = "§"
"""Stands for what is mathematics and no number: a root, a power, a command of LaTeX."""

_SAME = {ord(letter): "-" for letter in "‐‑﹣－"} | {code + 0xFEE0: code for code in map(ord, "0123456789.,%$+/=:()")}
"""Letters of full width, and hyphens that stand for a minus."""
_TEX = (
    (r"</?[A-Za-z]\w*\s*/?>", " "),
    (r"\\\\|\\(?:begin|end|tag|label)\{[^{}]*\}|(?m:^\s*[*•]\s)", " "),
    (r"<<[^<>\n]*>>", ""),  # the calculator's marks of GSM8K
    (r"\\(?:left|right|displaystyle|tfrac(?![\s{\d])|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])", ""),
    (r"(?<=\d)(?:\{,\}|\\,|,?\\!)(?=\d{3})", ","),
    (r"\\[,;:!> ]|~", " "),
    (r"\\[()\[\]]", " "),
    (r"\\([%$#&])", r"\1"),
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname|boxed|fbox)\s*\{([^{}]*)\}", r" \1 "),
    (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree\b", "°"),
    (r"\\(?:times|cdot|ast)(?![A-Za-z])", "*"),
    (r"\\div(?![A-Za-z])", "÷"),
    (r"\\pm(?![A-Za-z])", "±"),
    (r"\\(?:approx|equiv)(?![A-Za-z])", "="),
    (r"\\(?:quad|qquad)(?![A-Za-z])", " "),
    (r"\\(?:neq?|leq?|geq?|lt|gt)(?![A-Za-z])", "<"),
    (r"(?<=\d)\*\*(?=\d)", "^"),
    (r"(?<![\w)])(?:\*\*|__|\*(?=\S)|_(?=\S))|(?:\*\*|__|(?<=\S)\*|(?<=\S)_)(?![\w(*{])|`", ""),
    (r"(?<=\d)\s*[xX]\s*(?=[$£€]?\d)", " × "),
    (r"[∙⋅•]", "·"),
    (r"∗", "*"),
    (r"∕", "/"),
    (
        r"\b([mckd]?m|km|ft|in|yd|mi|feet|foot|inch(?:es)?|yards?|miles?|(?:centi|kilo)?met(?:er|re)s?|units?)\s?\^\s?"
        r"(?:\{[23]\}|[23](?!\d))",
        r"\1²",
    ),
)
_TEX_RULES = tuple((re.compile(pattern), plain) for pattern, plain in _TEX)
_FRACTION = re.compile(
    r"(?P<sign>[-−]\s*)?\\[cdt]?frac\s*(?:\{\s*(?P<a>[-−]?\s*\d+)\s*\}|(?P<a1>\d))\s*"
    r"(?:\{\s*(?P<b>[-−]?\s*\d+)\s*\}|(?P<b1>\d))"
)
_COMMAND = re.compile(r"\\[A-Za-z]+\s*(?:\[[^\[\]]*\])?(?:\s*\{[^{}]*\})*|[\^_]\s*\{[^{}]*\}")

_CURRENCY = r"(?:[A-Z]{1,2})?[$£€¥₹]"
_GROUPED = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[\u00a0\u2009\u202f]\d{3})+(?!\d)|\d+)(?:\.\d+)?"
_VULGAR = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_NUMBER = re.compile(
    rf"(?P<sign>[-−–]\s?|\+|(?:\b(?:minus|negative)\s))?(?:(?P<money>{_CURRENCY})\s?(?P<inner>[-−–])?)?"
    rf"(?P<digits>{_GROUPED}|\.\d+|(?=[{_VULGAR}]))"
    rf"(?:(?P<e>[eE][-+]?\d+)(?!\w|\.\d)|\s?(?P<vulgar>[{_VULGAR}])"
    rf"|\s(?P<top>\d{{1,3}})\s?[/⁄]\s?(?P<under>\d{{1,3}})(?![\d/])"
    rf"|\s?[/⁄]\s?{_CURRENCY}?(?P<below>-?{_GROUPED}))?"
    r"(?P<scale>(?:\s(?:hundred|thousand|million|billion|trillion)\b)*)"
    rf"|[{UNREAD}√∛∜π∞]",
    re.IGNORECASE,
)
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_LABEL = re.compile(r"\b(?:step|part|case|question|problem|equation|figure)s?\s*#?\Z", re.IGNORECASE)
_LARGE = (
    r"(?:feet|foot|ft|yards?|met(?:er|re)s?|hours?|hrs?|h|minutes?|mins?|dollars?|pounds?|lbs?|years?|weeks?|days?|kg)"
)
_SMALL = r"(?:inch(?:es)?|in|feet|cm|minutes?|mins?|seconds?|secs?|cents?|pence|ounces?|oz|months?|days?|hours?|grams?)"
_VARIABLE = r"(?<![A-Za-z])(?!(?-i:[aAI]))[A-Za-z]"
_WORDS_BEFORE = (
    r"(?:\b(?:plus|minus|times|over|divided by|multiplied by|modulo|half|half of|twice|double|triple|not|never"
    r"|under|below|above|up to|between|than"
    r"|at least|at most|root of|power of|(?:third|quarter|fifth|sixth|tenth)s? of|percent of)\s|% of |/\d+ of "
    r"|\d\s(?:to|through|until)\s|\b(?:hundred|thousand|million|billion) and\s|\b(?:log|ln|sin|cos|tan|exp|sqrt)\s)"
)
_JOINED_BEFORE = re.compile(
    rf"(?:[\w.\\⌊⌈{UNREAD}√∛∜π∞]|\d +|\d,|\d:|\d'|[+*/×÷·^±≤≥≠]=?\s*|!=\s*|(?<![-=])[<>]=?\s*|[-−–—]\s*"
    r"|[-−–—+*/×÷·^]\s?\(|[\w)\].]\("
    rf"|\(\s*-?[\d.]+\s*,\s*|{_VARIABLE}\s|\d\s?x\s?|\d\s?{_LARGE}(?:,? and)?\s"
    r"|(?<!\w)(?P<one>[A-Za-z])\s*=\s*[^\s,;=]+(?:\s*[,;]|\s+(?:and|or))\s*"
    r"(?!(?P=one))[A-Za-z]\s*=\s*"
    rf"|{_WORDS_BEFORE})\Z",
    re.IGNORECASE,
)
_MINUS_BETWEEN = re.compile(
    rf"(?:[\w)\]]\(|[\d)\]%√π∞{UNREAD}]\s*|\w|{_VARIABLE}\s|[-−–—+*/×÷·^±<>≤≥≠]\s*|{_WORDS_BEFORE})\Z", re.IGNORECASE
)
_NOTHING_BEFORE = re.compile(r"(?:^|[=:(]|\b(?:is|of))\s*\Z", re.IGNORECASE)
_UNIT_LETTER = r"(?-i:[gmshlpdL](?![A-Za-z]|\d\d))"
_JOINED_BEHIND = re.compile(
    rf"(?:[,.:']?\d| +\d|_|[\\{UNREAD}√π∞⁰¹²³⁴-⁹⁺⁻₀-₉\u0300-\u036f!‰]|\.?\(|\s?x\s?\d|x[0-9a-f]"
    rf"|\s*[)\]]*\s*(?:=(?!\s*[A-Za-z]\s*(?:[.,;\n]|\Z))|[+×÷·^±√{UNREAD}]|[*<>≤≥](?!\s*[A-Za-z]{{2}})|/(?!\s?[A-Za-z]{{2}}|\s?{_UNIT_LETTER}))"
    rf"|[)\]]*\s*[-−–—]\s*[\d$£€(.\\{UNREAD}]|\s?[-−–]\s?[A-Za-z](?![A-Za-z])"
    rf"|(?!{_UNIT_LETTER})[A-Za-z](?![A-Za-z])|[xyz]{{2,}}(?![A-Za-z])|\s(?-i:[kKMBxyz])\b|\s?(?:bn|mn|mio|mil|lakhs?|crores?)\b"
    r"|[\s-]?(?:(?:hundred|thousand|million|billion|trillion)s?|quadrillions?)\b|\sor (?:more|fewer|less|greater)\b"
    r"|\s\(?(?:in )?(?:mod|base)\b|\s(?:with )?(?:a )?remainder\b|\sr\s?\d|[)\]]\s*[(\[]\s*-?\d|[⌋⌉]"
    r"|\s?(?:pi|sqrt|sin|cos|tan|log|ln|exp)\b|\s(?:plus|minus|divided|multiplied|squared|cubed|factorial|mod)\b"
    r"|\s(?:times|over)\s(?:\d|x\b)|\s(?:ten|hundred|thousand|million)ths?\b|\spoint\s"
    rf"|(?:\s[A-Za-z]+)?\sand (?:a |one |two |three )?(?:half|thirds?|quarters?)\b"
    rf"|\s(?:to|through|until)\s[$£€]?\d|\s?{_LARGE}(?:,? and)?\s\d+\s?{_SMALL}\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Number:
    """A number (or something like one) in a plain text, from `start` to `end`.

    `value` is None where it is a part of something larger, or cannot be read: it is then no answer.
    """

    start: int
    end: int
    value: Fraction | None


def plain_numbers(text: str) -> str:
    """The text without emphasis and with LaTeX written plainly; what is mathematics and no number becomes UNREAD."""
    text = _FRACTION.sub(_fraction, text.translate(_SAME))
    for pattern, plain in _TEX_RULES:
        text = pattern.sub(plain, text)
    while (shorter := _COMMAND.sub(UNREAD, text)) != text:
        text = shorter
    return re.sub(r"\{([^{}]*)\}", r"\1", text)


def numbers(text: str) -> Iterator[Number]:
    """The numbers of a plain text in their order, those that are parts of expressions too."""
    for found in _NUMBER.finditer(text):
        before = text[max(0, found.start() - 40) : found.start()]
        if _LABEL.search(before) or (found["digits"] and not found["sign"] and re.search(r"[A-Za-z_]\Z", before)):
            continue  # the 2 of "step 2" and of "H2O" is no number
        value = _value(found)
        if value is not None and not _alone(text, before, found):
            value = None
        yield Number(found.start(), found.end(), value)


def _fraction(found: re.Match[str]) -> str:
    top, below = (re.sub(r"\s", "", found[k] or found[k + "1"]).replace("−", "-") for k in ("a", "b"))
    minus = (found["sign"] is not None) + (top[0] == "-") + (below[0] == "-")
    before = found.string[: found.start()]
    sign = "" if minus % 2 == 0 else "-"
    if re.search(r"[\w)\]}]\s*\Z", before) and found["sign"] is not None:
        return f" - {top}/{below}"  # a difference, not a sign
    apart = " " if re.search(r"\d\Z", before) else ""
    return f"{apart}{sign}{top.lstrip('-')}/{below.lstrip('-')}"


def _alone(text: str, before: str, found: re.Match[str]) -> bool:
    """Whether a number is no part of something that stands before or behind it."""
    behind = _JOINED_BEHIND.match(text, found.end())
    if "." in found["digits"] and text.startswith(("...", "…"), found.end()):
        return False  # the digits go on
    if found["scale"] and re.match(r"\sand\s\d", text[found.end() : found.end() + 8]):
        return False
    if behind or (found["money"] and text[found.end() : found.end() + 1] in ("m", "M")):
        return False
    sign = found["sign"] or ""
    if text[found.start() - 1 : found.start()] == "|" == text[found.end() : found.end() + 1] and sign not in ("", "+"):
        return False  # an absolute value
    if sign == "":
        return not _JOINED_BEFORE.search(before)
    if len(sign) == 1:
        # a sign touches its number; behind a number, a bracket or a letter alone it is a minus between two
        return not _MINUS_BETWEEN.search(before)
    # "- 5" and "minus 5" are negative only where nothing stands before that they could be taken from
    return bool(_NOTHING_BEFORE.search(before))


def _value(found: re.Match[str]) -> Fraction | None:
    digits, vulgar = found["digits"], found["vulgar"]
    if digits is None:
        return None
    value = _plain_value(digits) if digits else Fraction(0)
    if value is None:
        return None
    if found["e"] is not None:
        power = int(found["e"][1:])
        if abs(power) > MAX_DIGITS:
            return None
        value *= Fraction(10) ** power
    elif vulgar is not None:
        # the letters of common fractions: "½" is "1⁄2"
        top, below = unicodedata.normalize("NFKC", vulgar).split("⁄")
        value += Fraction(int(top), int(below))
    elif found["below"] is not None or found["under"] is not None:
        under = _plain_value(found["below"] or found["under"])
        if not under:
            return None
        value = value / under if found["below"] is not None else value + Fraction(found["top"]) / under
    for word in found["scale"].lower().split():
        value *= _SCALES[word]
    sign = (found["sign"] or "").strip().lower()
    return -value if (sign not in ("", "+")) != (found["inner"] is not None) else value


def _plain_value(digits: str) -> Fraction | None:
    plain = re.sub(r"[,\s]", "", digits)
    if len(plain) > MAX_DIGITS or not plain.isascii():
        return None
    return Fraction(plain)
