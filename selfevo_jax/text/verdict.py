"""Reading the verdict or the rating out of feedback. What cannot be read for certain is no verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from selfevo_jax.errors import ConfigError
from selfevo_jax.text.clauses import EMPHASIS, GAP, Plain
from selfevo_jax.text.rating import read_rating

VERDICTS = r"""The clauses that are read as a verdict. Any other text is unparseable; none is searched for words.

1. Where. A clause begins at the start of a line (behind a bullet, a number or "#") or behind the end of a sentence, and
   not inside quotation marks, a quoted or fenced line, or behind a line that leads over to it (one that ends in ":" or
   ",", or opens with "if"). The first one that begins with a mark decides, whatever comes later; one that begins with
   "conclusion" decides only when it is in this list.
2. Mark. [emoji] [so, thus, hence, therefore, finally, overall, in conclusion, in summary] [the, my, our] [final,
   overall] verdict, judgement, judgment or
   conclusion; then ":", "=", "is", "is that", a dash, an arrow, or a new line.
3. Clause. [emoji] [yes or no] [subject is] [completely, entirely, fully, absolutely, perfectly, totally, indeed,
   definitely, clearly, certainly, 100%] word, where yes, no and emoji must agree with the word; or the emoji alone. The
   subject is it, this, that, everything, or [the, your, this, their] [given, provided, final, proposed, student's,
   model's] answer, solution or response [above, provided] [of n].
   good: correct [answer], right [answer], true, not wrong.
   bad: incorrect [answer], inaccurate, wrong [answer], false, untrue, not [quite, entirely, fully, completely, 100%]
   correct (right, true), isn't correct (right, true); the answer was one of these.
   Emphasis, brackets, \boxed{} or quotation marks may stand around mark, word or clause.
4. End of a bad clause: the end of the line or sentence, or a reason of any kind behind one of , ; : ( - or because,
   since, as, at, in, due to.
5. End of a good clause: the end of the line or sentence. Whatever else the feedback says behind it must be in this
   list too, since it could take the verdict back: the answer (solution, ...) is n; the answer is correct; n is n; an
   equation in numbers; all (both, the) steps (numbers, answers, reasoning, ...) are correct, right, fine, sound, valid,
   clear, equal, the same, agree or match; [there are] no mistakes (errors) [found]; no changes needed; well done, good
   job, excellent, perfect; the same verdict again; each alone or behind because, since, as; only behind these three:
   the right (correct) answer (sum, ...) is n. No corrected answer ("New answer:") may stand before a good verdict.
6. What runs on. The feedback ends with the line of its verdict; where nothing stood before the verdict, it goes on to
   what opens another text: "Revision:", "Feedback:", "Question:", a speaker, an instruction to write again. Where such
   a text opens before any verdict, there is none.
7. What is only thought before the answer (<think>...</think>) is not read; thinking that does not end has no verdict.
"""


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
    """verdict: read by VERDICTS. rating: read by RATINGS, and good from `good_rating` on."""

    kind: Literal["verdict", "rating"] = "verdict"
    good_rating: float = 10.0
    scale: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in ("verdict", "rating"):
            raise ConfigError(f"judge.kind: found '{self.kind}', expected verdict or rating")
        if not 0 < self.good_rating <= self.scale:
            raise ConfigError(f"judge.good_rating: found {self.good_rating:g}, expected above 0 up to {self.scale:g}")


_YES_SIGNS, _NO_SIGNS = "✅✔☑✓👍🎉👏🙌💯🟢✨", "❌✗✘✖👎🚫⛔🔴🛑"
_SEPARATOR = (
    rf"(?:{EMPHASIS}(?:[:=]+>?|-+>?)[ *_`\n]*|{GAP}is\b(?:{EMPHASIS}:|{GAP}that\b)?{GAP}|{EMPHASIS}\n[ *_`\n]*)"
)
_MARK = (
    r"(?<![^\W_])(?:(?:so|thus|hence|therefore|finally|overall|in conclusion|in summary),? )?(?:(?:the|my|our) )?"
    r"(?:final |overall )?(?:verdict|judge?ment|conclusion)(?![^\W_])"
)
_MARKS = re.compile(
    rf"(?:(?P<lead>[{_YES_SIGNS}{_NO_SIGNS}]+){EMPHASIS})?(?P<mark>{_MARK}){_SEPARATOR}(?P<again>{_MARK}{_SEPARATOR})?",
    re.IGNORECASE,
)
_N = r"[-+]?[$€£]?\d[\d,]*(?:\.\d+)?%?"
_SUBJECT = (
    rf"(?:it|this|that|everything|(?:(?:the|this|that|your|their)(?:{GAP}(?:given|provided|final|proposed"
    rf"|(?:student|model|assistant|response|user)'s))*{GAP})?"
    rf"(?:answer|solution|response)(?:{GAP}(?:above|given|provided))?(?:{GAP}(?:of{GAP})?[($\\]*{_N}[)$]*)?)"
)
_IS = rf"(?:{_SUBJECT}{GAP}is{GAP}|it's{GAP}|that's{GAP})"
_HOW = rf"(?:(?:completely|entirely|fully|absolutely|perfectly|totally|indeed|definitely|clearly|certainly|100%){GAP})?"
_OPEN = r"(?P<open>(?:[ *_`\"'“„«({\[$]|\\(?:boxed|text|textbf|mathrm)(?={))*)"
_ALONE = r"(?=[ *_`.!]*(?:\n|\Z))"
_RIGHT = r"(?:correct|right|true)"
_GOOD = (
    rf"(?P<sign>[{_YES_SIGNS}]*)(?:{EMPHASIS}(?:yes\b[ ,.!-]*)?"
    rf"{_IS}?{_HOW}(?:(?:correct|right)(?: (?:answer|solution))?|true|not{GAP}wrong)(?![^\W_])"
    rf"|(?<=[{_YES_SIGNS}]){_ALONE})"
)
_BAD = (
    rf"(?P<sign>[{_NO_SIGNS}]*)(?:{EMPHASIS}(?:no\b[ ,.!-]*)?"
    rf"(?:(?:{_IS}|{_SUBJECT}{GAP}was{GAP})?{_HOW}(?:(?:incorrect|inaccurate|wrong)(?: (?:answer|solution|result))?"
    rf"|false|untrue|not{GAP}(?:(?:quite|entirely|fully|completely|100%){GAP})?{_RIGHT})"
    rf"|(?:{_SUBJECT}{GAP})?isn't{GAP}{_RIGHT})(?![^\W_])|(?<=[{_NO_SIGNS}]){_ALONE})"
)
_CLAUSES = {good: re.compile(_OPEN + words, re.IGNORECASE) for good, words in ((True, _GOOD), (False, _BAD))}
_AROUND = " *_`\"'”“»)}$\\]"
_TAIL = re.compile(
    rf"(?P<shut>[{_AROUND}]*)(?P<stop>(?:\.(?!\.)|!+)?)(?P<more>[{_AROUND}{_YES_SIGNS}{_NO_SIGNS}]*(?:\.(?!\.))?)"
)
_REASON = re.compile(r"[,;:(]| *-+ |(?<=\s)(?:because|since|as|at|in|due to)\b", re.IGNORECASE)

_EQUATION = rf"{_N}(?: *[-+*/x×÷] *{_N})* *= *{_N}"
_PARTS = (
    r"(?:steps?|calculations?|computations?|sums?|results?|numbers?|answers?|equations?|reasoning|logic|method|approach"
    r"|work|arithmetic|maths?|explanation)"
)
_RIGHT_NUMBER = rf"the (?:right|correct) (?:answer|sum|total|result|difference|product) is {_N}"
_APPROVAL = (
    rf"{_SUBJECT} is (?:indeed )?{_HOW}(?:correct|right|true|{_N})|{_N} is {_N}|{_EQUATION}"
    rf"|(?:all|every|each|both|the)(?: of)?(?: the)?(?: two)? {_PARTS} "
    r"(?:(?:is|are) (?:all |also )?(?:correct|right|fine|sound|valid|clear|equal|the same)|agree|match)"
    r"|(?:there (?:is|are|were) )?no (?:mistakes?|errors?|issues)(?: (?:(?:was|were) )?found)?"
    r"|no (?:further )?(?:changes?|corrections?|revisions?|refinements?) (?:(?:is|are) )?(?:needed|required|necessary)"
    r"|well done|excellent|perfect|(?:good|great|nice|excellent) (?:job|work)"
    rf"|{_MARK}{_SEPARATOR}(?:correct|right|true)"
)
_APPROVALS = re.compile(
    rf"[ \n.!,;:(*_`)-]*(?:(?:because|since|as) (?:{_APPROVAL}|{_RIGHT_NUMBER})|(?:and )?(?:{_APPROVAL}))"
    r"(?=[ *_`)]*(?:[.!,;\n]|$| and ))",
    re.IGNORECASE,
)
_TEX = ((re.compile(r"\\(?:times|cdot)\b"), "×"), (re.compile(r"\\[()\[\]$]|\$|\\boxed(?={)|[{}]"), ""))
_GIVEN = re.compile(rf"\b(?:answer|solution|response) is ({_N})", re.IGNORECASE)
_NOTHING = re.compile(r"[ \n.!*_`)-]*")
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "“": "”", "„": "“", "«": "»"}


def parse_verdict(text: str, rule: VerdictRule) -> Verdict:
    """Reads feedback by a rule: a verdict by the written list VERDICTS, a rating by RATINGS (see `rating`)."""
    plain = Plain(text)
    if rule.kind == "verdict":
        good, end = _verdict(plain)
        return Verdict(good, None, end)
    rating, end = read_rating(plain, rule.scale, rule.good_rating)
    return Verdict(None if rating is None else rating >= rule.good_rating, rating, end)


def _verdict(plain: Plain) -> tuple[bool | None, int | None]:
    """What the first verdict says, and where the feedback ends if something runs on."""
    other = plain.other_text()
    none = None, None if other is None else plain.cut(other)
    for mark in _MARKS.finditer(plain.text, 0, len(plain.text) if other is None else other):
        if not plain.begins_clause(mark.start()):
            continue
        good, end = _clause(plain.text, mark.end(), mark["lead"] or "")
        if good is None and (mark["again"] or mark["mark"]).lower().startswith("conclusion"):
            continue
        if good is None:
            return none
        if good and (plain.rewrites(mark.start()) or not _stands(plain.text[end : plain.next_text(end)])):
            return None, plain.cut(plain.next_text(end))
        return good, plain.cut(plain.own_end(end, plain.opens_text(mark.start())))
    return none


def _clause(text: str, start: int, lead: str) -> tuple[bool | None, int]:
    """The verdict of the clause that begins here, and where its last word ends; None where the list has it not."""
    for good, pattern in _CLAUSES.items():
        clause = pattern.match(text, start)
        if clause is None:
            continue
        tail = _TAIL.match(text, clause.end())
        assert tail is not None
        said = lead + clause["sign"] + tail["more"]
        if any(sign in (_NO_SIGNS if good else _YES_SIGNS) for sign in said):
            continue
        if good and not _paired(clause["open"], tail["shut"] + tail["more"]):
            continue
        if tail["stop"] or text[tail.end() : tail.end() + 1] in ("", "\n") or _REASON.match(text, tail.end()):
            return good, tail.end()
    return None, start


def _paired(opened: str, shut: str) -> bool:
    """Whether the brackets and quotation marks around a clause belong to each other."""
    wanted = [_PAIRS[sign] for sign in reversed(opened) if sign in _PAIRS]
    return wanted == [sign for sign in shut if sign in _PAIRS.values()]


def _stands(behind: str) -> bool:
    """Whether all that is said behind a good verdict agrees with it."""
    for pattern, plain in _TEX:
        behind = pattern.sub(plain, behind)
    if len(set(_GIVEN.findall(behind))) > 1:
        return False
    at = 0
    while (approval := _APPROVALS.match(behind, at)) is not None:
        at = approval.end()
    nothing = _NOTHING.match(behind, at)
    return nothing is not None and nothing.end() == len(behind)
