"""Numeric answers: taking them out of a text, and comparing them. The written rule is `RULES`."""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction

from selfevo_jax.text.numbers import Number, numbers, plain_numbers
from selfevo_jax.text.thinking import own_part

RULES = r"""The rule for numeric answers, the same for gold and for the model's text.

1. Final answers. A line of "####" that does not open a heading (a heading begins with a word or with a numbering and a
   word, and has text below it); a sentence "answer is ...", "answer: ...", "answer = ..." or "<answer>..." that gives a
   number; \boxed{...}. "Answer:" at the very beginning of a text is one only where a number alone follows (in a text of
   one line: a sentence that begins with the number): else it stands in front of a worked solution.
2. Run-on. A text ends where it begins to invent a next question, and only behind a final answer: after the first final
   line of "####"; before a line that opens with "Question:", "Q:", "Problem:", "Instruction:", "User:", "Human:" (or
   "### " and one of these); after a paragraph that ends with such a sentence, unless a final line of "####" follows or
   the next paragraph begins with a correction ("Wait", "Actually", "Let me", "However", "But", "No,", "Hmm", "Sorry",
   "Oops", "Hold on", "Check", "Verify", "Correction", "Alternatively", "Therefore", "So", "Thus", "Final answer").
   Where nothing of all this stands, a last sentence "It is n." in front of a next question counts too.
3. Where the answer stands: in the first final line of "####"; else in the last \boxed{...}; else behind the last
   "answer is" or "answer:" on the rest of that sentence (or in the next line, where nothing follows in its own);
   else it is the last number of the text. When a marker stands there and no number follows, there is no answer.
4. Behind a marker the first number counts; if it is part of an equation, the number alone behind the last "=". Where
   another number is joined to it ("3 and 4", "5 feet 3 inches", "10-12"), there is no answer; what follows behind
   "because", "since", "for", "(" and the like is not joined.
5. Numbers: an optional sign, digits with groups of three parted by "," or "{,}" or "\," or a narrow blank, an optional
   decimal part behind "."; 1e3; 3/4, \frac{3}{4}, \dfrac, \tfrac, 1 1/2, 1½; with hundred, thousand, million, billion,
   trillion behind it. "- 5" and "minus 5" are -5 where nothing stands before them. Values are exact: 18, 18. and 18.0
   are equal, and 0.1 is a tenth.
6. The number or nothing. A number that is part of something larger is none: of a sum, product, power, root, range,
   ratio, time, date, function, factorial, with a variable or a letter (2x, x2), with a decimal comma (1.234,50), of
   "and a half". Where the answer would be such a part, there is no answer; a zero below makes no number.
7. Currency ($ \$ £ € ¥ ₹ US$) and percent signs are dropped, so 25% equals 25, and does not equal 0.25. Units and other
   words behind the number are dropped: 12 km and 12 km/h equal 12. Numbers in words are not read.
8. The number of a step ("step 2") and digits within a word (H2O) are not looked at.
9. Two answers are the same when both have a number and the numbers are equal.
10. In the model's text what it only thinks before its answer (<think>...</think>), or behind all of it, is not read,
   and thinking that does not end has no answer. Gold is read whole.
"""

_LONGEST = 1000
"""Characters of a sentence that are read."""

_SPEAKER = r"(?:question|q|problem|instruction|user|human)"
_NEXT_QUESTION = re.compile(rf"\n[ \t]*(?:#+[ \t]*)?\**{_SPEAKER}\**[ \t]*\d*[ \t]*:", re.IGNORECASE)
_ANSWER_LABEL = r"(?:the )?(?:final |correct )?answer(?: is)?\b[ \t]*[:=]?"
_HASHES = re.compile(
    rf"####(?!#)[ \t]*(?:(?:[*_]*{_ANSWER_LABEL})?[*_ \t\r]*\n\s*(?P<below>[^\n]+)|(?P<line>[^\n]*))", re.IGNORECASE
)
_HEADING = re.compile(
    rf"[*_ \t]*(?!{_ANSWER_LABEL})(?:\(?\w{{1,3}}[.):][ \t]*)?[*_ \t]*(?!US\$)[A-Za-z]{{2}}", re.IGNORECASE
)
_CORRECTION = re.compile(
    r"\W*(?:wait|actually|let me|let's|however|but|no\b|hmm|hold on|sorry|oops|(?:re-?|double[- ])?check|verif"
    r"|correction|alternatively|on second thought"
    r"|i made|therefore|so\b|thus|hence|(?:the )?(?:final )?answer|####|\\boxed)",
    re.IGNORECASE,
)
_ANSWER = re.compile(
    r"(?<![\w/-])answer\b(?P<sign>[*_ \t]*(?:\bis\b[*_ \t]*[:：]?|[:=：])|(?<=<answer)>)[*_ \t]*", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?:(?<!\.)\.(?!\.)|\?|;(?!\s*[-−–+$€£(]*\d))(?=[*_\"')\]]*(?:\s|$))|!(?=\s*\n|\s+[A-Z])|\n|</")
_PARAGRAPH = re.compile(r"[^\n]*\n[ \t\r]*\n\s*")
_OPENING = re.compile(r"[\s#*_]*(?:the |final |my )*\Z", re.IGNORECASE)
_IT_IS = re.compile(
    r"(?:^|[.!?\n]\s*)(?:so,? |thus,? )?(?:it|that|this|they|the \w+) (?:is|are|makes?|equals?) [^.!?\n]*[.!]?\s*\Z",
    re.IGNORECASE,
)
_BLANK = re.compile(r"(?:[\s*_]|\\\[|\\\(|\$\$)*")
_BULLET = re.compile(r"[-−–]\s+\d")
_LINE = re.compile(r"\s*([^\n]*)")
_REASON = re.compile(r"\b(?:because|since|where|if|when)\b", re.IGNORECASE)
_APART = re.compile(
    r"[(\n]|[.!?]\s|\b(?:because|since|as|after|before|for|when|where|which|so|per|each|every|on|at|if|with|that|not"
    r"|while|and then)\b",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])|,.*=|=.*,")


def cut_run_on(text: str) -> str:
    """A model's text without the invented next question that may follow its final answer (rule 2); nothing is cut in
    what it only thinks before that."""
    own = own_answer(text)
    return text[: own.start] + _cut(text[own]) + text[own.stop :]


def extract_answer(text: str) -> Fraction | None:
    """The numeric answer of a text by RULES; None when there is none."""
    text = _cut(text)
    if (marked := _marked(text)) is not None:
        return _stated(marked)
    last = next(iter(deque(numbers(plain_numbers(text)), maxlen=1)), None)
    return None if last is None else last.value


def own_answer(text: str) -> slice:
    """Where a model's text is its numeric answer, and not what it only thinks (see `own_part`)."""
    return own_part(text, lambda before: _run_on(before) < len(before))


def before_next_question(text: str) -> str:
    """A model's text, without what it only thinks (see `own_part`), up to the first line that opens as a next question
    does (rule 2), for answers of any kind."""
    text = text[own_part(text, lambda before: _NEXT_QUESTION.search(before) is not None)]
    head = _NEXT_QUESTION.search(text)
    return text if head is None else text[: head.start()]


def is_scorable(gold: str) -> bool:
    """Whether a gold answer can be scored by RULES: it gives a number, and as a single line no more than that one."""
    answer = extract_answer(gold)
    return answer is not None and ("\n" in gold.strip() or _marked(gold) is not None or _stated(gold) == answer)


def without_working(gold: str) -> str:
    """What a worked solution that ends in "#### 18" ends in; any other text as it is."""
    return gold.rpartition("####")[2].strip()


def same_answer(a: str, b: str) -> bool:
    """Whether two texts give the same number (rule 9); symmetric, so gold and answer may change places."""
    left, right = extract_answer(a), extract_answer(b)
    return left is not None and left == right


def _cut(text: str) -> str:
    end = _run_on(text)
    return text if end >= len(text) else text[:end].rstrip()


def _marked(text: str) -> str | None:
    """What stands where a marker says that the answer stands; None without a marker (rule 3)."""
    if (hashes := _final_hashes(text)) is not None:
        return hashes["below"] or hashes["line"] or ""
    if (framed := boxed(text)) is not None:
        return framed
    marks = [mark for mark in _ANSWER.finditer(text) if not _opens_solution(text, mark)]
    return _behind(text, marks[-1]) if marks else None


def _run_on(text: str) -> int:
    """Where the invented next question begins, or the length of the text."""
    hashes = _final_hashes(text)
    end = len(text) if hashes is None else hashes.end()
    framed = text.find("\\boxed", 0, end)
    stated = next((mark for mark in _ANSWER.finditer(text, 0, end) if _is_final(text, mark)), None)
    finals = [at for at in (framed, -1 if stated is None else stated.end(), -1 if hashes is None else end) if at >= 0]
    for head in _NEXT_QUESTION.finditer(text, 0, end):
        if min(finals) <= head.start() if finals else _says_it_is(text[: head.start()]):
            end = head.start()
            break
    if stated is None or hashes is not None:
        return end
    for mark in _ANSWER.finditer(text, stated.start(), end):
        paragraph = _PARAGRAPH.match(text, _said_at(text, mark), end)
        if paragraph is not None and not _CORRECTION.match(text, paragraph.end()) and _is_final(text, mark):
            return paragraph.end()
    return end


def _is_final(text: str, mark: re.Match[str]) -> bool:
    return not _opens_solution(text, mark) and _stated(_behind(text, mark)) is not None


def _final_hashes(text: str) -> re.Match[str] | None:
    """The first "####" that gives the answer, and is no heading."""
    for found in _HASHES.finditer(text):
        below = bool(text[found.end() :].strip())
        said = found["below"] if found["below"] is not None else found["line"]
        if found["below"] is not None and _stated(said) is None:
            continue  # a rule between two parts
        if not (below and _HEADING.match(said)):
            return found
    return None


def _opens_solution(text: str, mark: re.Match[str]) -> bool:
    """Whether this is an "Answer:" in front of a worked solution, and no final answer."""
    if "is" in mark["sign"].lower() or not _OPENING.match(text, 0, mark.start()):
        return False
    line = _LINE.match(text, mark.end())
    assert line is not None
    sentence = _SENTENCE.search(line[1])
    if sentence is not None and line[1][sentence.end() :].strip() and not text[line.end() :].strip():
        return re.match(r"[^\w=]*\d[^=]*\Z", plain_numbers(line[1][: sentence.start()])) is None
    plain = plain_numbers(line[1])
    alone = next(numbers(plain), None)
    pure = (
        alone is not None
        and alone.value is not None
        and not re.search(r"\w", plain[: alone.start] + plain[alone.end :])
    )
    return not pure and bool(text[line.end() :].strip())


def _says_it_is(text: str) -> bool:
    found = _IT_IS.search(text[-_LONGEST:])
    return found is not None and _stated(found.group()) is not None


def _behind(text: str, mark: re.Match[str]) -> str:
    """The rest of the sentence behind a marker; the next line that says something, where its own says nothing."""
    at = _said_at(text, mark)
    rest = text[at:][:_LONGEST]
    if "\n" in text[mark.end() : at] and _BULLET.match(rest):
        return ""  # a negative number, or an item of a list
    end = _SENTENCE.search(rest)
    return rest if end is None else rest[: end.start()]


def _said_at(text: str, mark: re.Match[str]) -> int:
    """Where something is said behind a marker, past white space and signs of LaTeX."""
    blank = _BLANK.match(text, mark.end())
    assert blank is not None
    return blank.end()


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{...}, by its matching brace (or to the end of the text without one)."""
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    rest = text[start + len("\\boxed") :].lstrip()
    if not rest.startswith("{"):
        return rest.split(maxsplit=1)[0] if rest else ""
    depth = 0
    for i, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[1:i]
    return rest[1:]


def _stated(text: str) -> Fraction | None:
    """The number that a sentence, a line or a box gives as the answer (rule 4)."""
    plain = plain_numbers(text)
    if (reason := _REASON.search(plain)) is not None:
        plain = plain[: reason.start()]
    joined = _joined(plain)
    if len(joined) < 2:
        return joined[0].value if joined else None
    between = plain[joined[0].end : joined[-1].start]
    equals = plain.rfind("=", 0, joined[-1].start)
    # "5 + 3 = 8", but neither "x = 2, y = 3" nor "3 and 4"
    if equals < joined[0].end or _VARIABLE.search(between) or plain[equals + 1 : joined[-1].start].strip(" ("):
        return None
    return joined[-1].value


def _joined(plain: str) -> list[Number]:
    """The first number and those that belong to it: what stands between them does not part them."""
    group: list[Number] = []
    for number in numbers(plain):
        if group:
            between = plain[group[-1].end : number.start]
            if _APART.search(between) or (len(re.findall(r"[A-Za-z]+", between)) > 3 and "=" not in between):
                break
        group.append(number)
    return group
