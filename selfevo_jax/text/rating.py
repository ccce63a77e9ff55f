"""Reading a rating out of feedback: a number on a scale, from a whole clause of a written list."""

from __future__ import annotations

import re

from selfevo_jax.text.clauses import EMPHASIS, GAP, Plain

RATINGS = r"""The clauses that are read as a rating. Any other text is unparseable; none is searched for numbers.

1. Where. A clause begins as in VERDICTS; "overall score", "final rating" and the like may stand behind a comma too,
   below the good rating. The first clause that begins with a mark decides, whatever comes later.
2. Clause. One of
   [the, my, a, an] [final, overall, total] rating, score, grade or mark [(out of 10), (1-10)]; then ":", "=", "is",
   "of", a dash, an arrow or a new line; then the number, or the number on the scale;
   [so, thus, overall] I [would] give (rate, score, grade) it (this, the answer, ...) [a rating of] number on the
   scale;
   [[number]]; and, as a whole line or sentence, [so, thus, overall] number on the scale.
3. Number. Digits with "." (on the scale "," too), from 0 to the scale; "on the scale" is n/10, n out of 10, n of 10 for
   a scale of 10. A range, a percentage or another scale is unparseable.
4. End. The end of the line or sentence, or, below the good rating, a reason of any kind behind one of , ; : ( - (a
   reason with another number only behind "because", "since", "as" or ";"); from the good rating on, below the full
   mark, a reason without numbers and without words that could take it back (if, but, not, for, would, ...), and no
   second thought with a lower number ("Actually 3/10"). No other rating may follow in the part
   that is the feedback's own; behind a full mark only praise may follow (helpful, true, clear, complete, ...), since
   anything else could take it back.
5. What runs on, and what is only thought: as in VERDICTS.
"""

_NUMBER = r"(?P<{0}>-?(?<!\d)\d++(?:[.,]\d++)?)"  # a long run of digits is read once, not from each of them
_TARGET = rf"(?:it|this|that|(?:the|this|that|your){GAP}(?:answer|response|solution|text))"
_ON = rf"(?:{GAP}points?)?{EMPHASIS}\(?(?:/|out of\b|of\b){EMPHASIS}"
_RANGE = r"(?:[01] ?(?:-|to) ?)?(?P<top>\d+)"
_SCALE = (
    rf"(?:{EMPHASIS}\(?(?:out of|(?:on )?a scale (?:of|from)|from) {_RANGE}\)?"
    rf"|{EMPHASIS}\([01] ?(?:-|to) ?(?P<high>\d+)\))?"
)
_OPEN = r"(?:[(\"'\[$⭐🌟 ]|\\(?:boxed|text|textbf)\{)*"
_SHUT = r"[ *_`\"')\]}$⭐🌟✅💯👍🎉]*"
_NAME = r"(?:rating|score|grade|mark)"
_CLAUSE = re.compile(
    rf"\[\[ *{_NUMBER.format('boxed')} *\]\]"
    rf"|(?<![^\W_])(?P<name>(?:(?:so|thus),? )?(?:(?:the|my|an?) )?(?P<whole>(?:final|overall|total) )?"
    rf"{_NAME}(?![^\W_]){_SCALE}"
    rf"(?:{EMPHASIS}[:=]+>?[ *_`\n]*|{GAP}(?:is|of)\b(?:{EMPHASIS}:|{GAP}of\b)?{GAP}|{EMPHASIS} -+>? *{EMPHASIS}"
    rf"|{EMPHASIS}\n[ *_`\n]*)){_OPEN}(?:{_NUMBER.format('named')}(?:{_ON}(?P<of>\d+(?:\.\d+)?))?)?"
    rf"|\b(?:(?:so|thus|therefore|hence|overall),? )?I(?:'d| would| will)? (?:give|rate|score|grade) {_TARGET} "
    rf"(?:with )?(?:an? )?(?:{_NAME} of )?{EMPHASIS}{_NUMBER.format('given')}{_ON}(?P<scale>\d+(?:\.\d+)?)"
    rf"|(?:\b(?:so|thus|overall)[:,]?{GAP})?{_NUMBER.format('part')}{_ON}(?P<under>\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_STOP = re.compile(rf"{_SHUT}(?:points?\b)?{_SHUT}(?:[.!](?!\d)(?!\.)|$|\n)")
_REASON = re.compile(
    rf"{_SHUT}(?:(?P<free>;|\.\.+|,? (?:because|since|as)\b)|(?:[,:(]| -+ )(?P<said>[^.!?;\n]*))", re.IGNORECASE
)
_TAKES_BACK = re.compile(
    r"\d|\b(?:about|almost|although|assuming|at|but|could|except|for|however|if|in|less|maybe|minus|no|nor|not|only|or"
    r"|perhaps|provided|should|though|to|unless|until|was|were|when|without|would|yet)\b|n't\b",
    re.IGNORECASE,
)
_SECOND_THOUGHT = re.compile(
    r"(?:^|[.!?\n])[ *_\n]*(?:-\d|[^.!?\n]{0,300}\b(?:actually|but|deduct\w*|final(?:ly)?|however|instead|lower\w*"
    r"|makes|minus|no|overall|rather|reflection|reduc\w+|second thought|so|subtract\w*|total|wait)\b"
    r"[^.!?\n]{0,300}?(?<![\d.])(?P<new>\d+(?:\.\d+)?)(?=[ *_]*(?:/|[.!,;\n]|$|(?:out|is|for)\b)))",
    re.IGNORECASE,
)
_PRAISE = re.compile(
    r"(?:[ \n.!,]|\b(?:it|the answer|this answer|is|very|fully|and|well done|great|excellent|perfect|helpful|true|clear"
    r"|complete|correct|accurate|concise)\b)*",
    re.IGNORECASE,
)


def read_rating(plain: Plain, scale: float, good_rating: float) -> tuple[float | None, int | None]:
    """The first rating of feedback (None: unparseable), and where the feedback ends if something runs on."""
    other = plain.other_text()
    limit = len(plain.text) if other is None else other
    none = None, None if other is None else plain.cut(other)
    for clause in _CLAUSE.finditer(plain.text, 0, limit):
        loose = bool(clause["whole"]) and plain.text[: clause.start()].endswith(", ")
        if not (loose or plain.begins_clause(clause.start())):
            continue
        rating = _value(clause, scale)
        if clause["part"] is not None and (rating is None or not _STOP.match(plain.text, clause.end())):
            continue  # a share of something, within a sentence
        if rating is None or not _ends(plain.text, clause, rating < good_rating):
            return none
        if rating >= good_rating and plain.rewrites(clause.start()):
            return none
        first = plain.opens_text(clause.start())
        end = plain.own_end(clause.end(), first)
        behind = plain.text[clause.end() : end if rating < good_rating else plain.next_text(clause.end())]
        if (loose and rating >= good_rating) or not _stands(behind, rating, scale, good_rating):
            return none
        return rating, plain.cut(end)
    return none


def _value(clause: re.Match[str], scale: float) -> float | None:
    digits = clause["boxed"] or clause["named"] or clause["given"] or clause["part"]
    of = clause["of"] or clause["scale"] or clause["under"]
    if digits is None or ("," in digits and of is None):
        return None
    if any(float(top) != scale for top in (of, clause["top"], clause["high"]) if top is not None):
        return None
    rating = float(digits.replace(",", "."))
    return rating if 0 <= rating <= scale else None


def _ends(text: str, clause: re.Match[str], below: bool) -> bool:
    """Whether the clause of a rating ends here, as rule 4 has it."""
    at = clause.end()
    if clause["named"] and not clause["of"] and "\n" in clause["name"] and re.match(r"[.)] *[^\W\d]", text[at:]):
        return False  # the number of an item of a list
    if _STOP.match(text, at):
        return True
    reason = _REASON.match(text, at)
    if reason is None:
        return False
    if below:
        return reason["free"] is not None or not re.search(r"\d", reason["said"])
    said = text[reason.end() :].partition("\n")[0].partition(". ")[0] if reason["said"] is None else reason["said"]
    return "." not in (reason["free"] or "") and _TAKES_BACK.search(said) is None


def _stands(behind: str, rating: float, scale: float, good_rating: float) -> bool:
    """Whether what is said behind a rating leaves it as it is."""
    if rating == scale:
        stop = _STOP.match(behind)
        return stop is not None and _PRAISE.fullmatch(behind, stop.end()) is not None
    if rating >= good_rating:
        second = (clause["new"] for clause in _SECOND_THOUGHT.finditer(behind))
        if any(new is None or float(new) < rating for new in second):
            return False
    plain = Plain(behind)
    named = (c for c in _CLAUSE.finditer(behind) if c["part"] is None)
    others = (c for c in named if re.search("[:=]", c["name"] or "") or plain.begins_clause(c.start()))
    return all(_value(other, scale) == rating for other in others)
