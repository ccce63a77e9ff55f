"""Reading the verdict or the rating out of feedback. What cannot be read for certain is no verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from selfevo_jax.errors import ConfigError


@dataclass(frozen=True)
class Verdict:
    """What feedback says of an answer. `good` None: it cannot be parsed, which is never a score."""

    good: bool | None
    rating: float | None
    end: int | None = None
    """Characters of the text that are the model's own feedback, where something runs on behind it (a revision, a next
    question, a second feedback); None where nothing runs on."""


@dataclass(frozen=True)
class VerdictRule:
    """verdict: the last "Verdict: ..." counts. rating: the last rating counts, and is good from `good_rating` on."""

    kind: Literal["verdict", "rating"] = "verdict"
    good_rating: float = 10.0
    scale: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in ("verdict", "rating"):
            raise ConfigError(f"judge.kind: found '{self.kind}', expected verdict or rating")
        if not 0 < self.good_rating <= self.scale:
            raise ConfigError(f"judge.good_rating: found {self.good_rating:g}, expected above 0 up to {self.scale:g}")


UNPARSEABLE = Verdict(None, None)

_MARK = re.compile(r"\b(?:final\s+)?(?:verdict|judge?ment|conclusion)\b[*_`\"' ]*(?:is\b|[:=])", re.IGNORECASE)
_CLAUSE = re.compile(r"[.!;,\n(?]|\s[-–—]\s|\b(?:because|since|as)\b", re.IGNORECASE)
_WORD = re.compile(
    r"(?P<no>\b(?:not|never|isn't|isn’t|hardly|no)\s+(?:at\s+all\s+|quite\s+|entirely\s+|fully\s+|a\s+|the\s+)?)?"
    r"\b(?P<word>correct|right|true|incorrect|wrong|false)\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:partial(?:ly)?|partly|mostly|almost|nearly|half|somewhat|cannot|can't|can’t|unsure|unclear|uncertain|unknown|"
    r"whether|if|maybe|perhaps|possibly|or|but|except|although|though|however)\b",
    re.IGNORECASE,
)
_TURN = re.compile(r"^\s*(?:but|except|although|though|however|or|if)\b", re.IGNORECASE)
_GOOD = {"correct", "right", "true"}

_NUMBER = r"(?P<{0}>[-−]?\d+(?:\.\d+)?)"
_END = r"(?![\d%]|\.\d|\s*(?:-|–|to)\s*\d)"
_RATING = re.compile(
    r"\[\[\s*" + _NUMBER.format("boxed") + r"\s*\]\]"
    r"|\b(?:rating|score|grade|mark)\b[*_`\"' ]*(?:(?:is|of|[:=])[*_`\"' ]*){1,2}"
    + _NUMBER.format("named")
    + r"(?:\s*(?:/|out\s+of)\s*(?P<of>\d+(?:\.\d+)?))?"
    + _END
    + r"|(?<![\d/.\-−])"
    + _NUMBER.format("part")
    + r"\s*(?:/|\bout\s+of\b)\s*(?P<whole>\d+(?:\.\d+)?)"
    + _END,
    re.IGNORECASE,
)
_SILENT = re.compile(
    r"\b(?:rating|score|grade)\b[*_`\"' ]*(?::|=|\bis\b)[*_`\"' ]*(?=[^\W\d]|[-–?]?\s*$)", re.IGNORECASE | re.MULTILINE
)


def parse_verdict(text: str, rule: VerdictRule) -> Verdict:
    """Reads feedback by a rule.

    verdict: what follows the last "Verdict:" (or judgement, conclusion), up to the end of its clause, must say correct,
    right or true, or incorrect, wrong or false; "not" turns it round; two that contradict each other, or a hedge
    ("partially", "cannot", "or"), cannot be parsed. Words like "correct" elsewhere never count.

    rating: the last of "rating: 8", "score is 8/10", "[[8]]", "8/10" or "8 out of 10". A number outside 0 to the
    scale, a range, a percentage, another denominator, or a later "score: none" cannot be parsed.
    """
    return _verdict(text) if rule.kind == "verdict" else _rating(text, rule)


def _verdict(text: str) -> Verdict:
    marks = list(_MARK.finditer(text))
    if not marks:
        return UNPARSEABLE
    rest = text[marks[-1].end() :].lstrip(" *_`\"'\t\r\n")
    clause = _CLAUSE.search(rest)
    said, after = (rest, "") if clause is None else (rest[: clause.start()], rest[clause.end() :])
    turned = clause is not None and clause.group() in ",;" and _TURN.match(after)
    votes = {(m["word"].lower() in _GOOD) != bool(m["no"]) for m in _WORD.finditer(said)}
    if len(votes) != 1 or _HEDGE.search(said) or turned or (clause is not None and clause.group() == "?"):
        return UNPARSEABLE
    return Verdict(votes.pop(), None)


def _rating(text: str, rule: VerdictRule) -> Verdict:
    # A bare "3/4" is a rating only with the scale below: it may count anything.
    found = [m for m in _RATING.finditer(text) if m["whole"] is None or float(m["whole"]) == rule.scale]
    last = found[-1] if found else None
    if last is None or _SILENT.search(text, last.end()):
        return UNPARSEABLE
    if last["of"] is not None and float(last["of"]) != rule.scale:
        return UNPARSEABLE
    rating = float((last["boxed"] or last["named"] or last["part"]).replace("−", "-"))
    if not 0 <= rating <= rule.scale:
        return UNPARSEABLE
    return Verdict(rating >= rule.good_rating, rating)
