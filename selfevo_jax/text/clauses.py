"""Feedback as clauses: plain letters with their places, where a clause begins, what is quoted, where a text runs on."""

from __future__ import annotations

import re
import unicodedata

from selfevo_jax.text.thinking import behind_thinking

EMPHASIS = r"[ *_`]*"
"""What may stand between the words of a clause without a meaning of its own."""
GAP = r"[ *_`]+"
"""At least one of them: what parts two words."""

_LINE_ENDS = "\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_OPEN_QUOTES, _CLOSE_QUOTES = "“„«‹「『", "”»›」』"
_VARIATION = "\ufe0e\ufe0f"

_SPEAKERS = (
    "revision|revised answer|refinement|refined answer|improved answer|feedback|question|user|human|assistant|system"
)
_LABEL = (
    r"(?:[#>\-*_ `]*(?:new |next )?(?:{0})[ *_`]*\d*[ *_`]*:|#+[ *_`]*(?:new |next )?(?:{0})[ *_`\d]*(?=\n|$)"
    r"|(?:user|assistant) *(?=\n|$)|<\||\[/?inst\]|<(?:user|assistant|human)>)"
)
_ORDER = r"(?:(?:now|please),? )*(?:(?:re-?)?write the answer again|check the answer above|say what is good)\b"
_NEXT_TEXT = re.compile(rf"\n\s*(?={_LABEL.format(_SPEAKERS + '|q|prompt|instructions?')}|{_ORDER})", re.IGNORECASE)
_OTHER_TEXT = re.compile(
    rf"\n\s*(?={_LABEL.format(_SPEAKERS + '|critique|q|problem|prompt|instructions?')})", re.IGNORECASE
)
_REWRITTEN = re.compile(
    r"(?:^|\n)[#>\-*_ ]*(?:(?:here is|here's|this is) )?(?:(?:the|my|an?) )?"
    r"(?:new|corrected|improved|updated|rewritten|fixed|better)[ *_]+(?:answer|solution|version|response|calculation)\b"
    r"(?:[^\n.]*:|[ *_]*\n)",
    re.IGNORECASE,
)
_LEAD = re.compile(r"(?:^|\n|(?<=[.!?]) |(?<=[.!?][)\"'\]]) )[ ]*(?:#+ |[-+*•] |\d{1,2}[.)] )?[ *_`]*\Z")
_SUBORDINATE = re.compile(r"(?:if|when|unless|suppose|assuming|provided|had|were|should|whether)\b", re.IGNORECASE)
_UNFINISHED = re.compile(
    r"\b(?:say|says|said|saying|write|writes|wrote|written|claims?|claimed|reads?|that|as|be|is|are|was|not|no|if|and|or|but"
    r"|the|a|an|of|to|than|for|with)\Z",
    re.IGNORECASE,
)


_BARE_RUN = re.compile(r"[\s*_`#>-]{65,}")
_BARE_KEPT = 32
"""Letters at each end of a long run without a word that stay: what searches for clauses takes a time that grows with
the square of such a run, and a model that has lost itself writes nothing else."""


class Plain:
    """A text in plain letters: compatibility forms, dashes, quotes and blanks made alike, invisible signs left out, and
    of long runs without a word their middle, but for an empty line or a line end. What is only thought before the
    answer is no part of it.

    `text` is what is searched; `origin[i]` is the place in the given text of its letter i, with one more for the end.
    """

    def __init__(self, given: str) -> None:
        letters: list[str] = []
        origin: list[int] = []
        begin = behind_thinking(given)
        for at in range(len(given) if begin is None else begin, len(given)):
            letter = given[at]
            for plain in _plain(letter, given[at + 1 : at + 2]):
                letters.append(plain)
                origin.append(at)
        text = "".join(letters)
        for run in reversed(list(_BARE_RUN.finditer(text))):
            begin, end = run.start() + _BARE_KEPT, run.end() - _BARE_KEPT
            middle, beside = text[begin:end], (text[begin - 1], text[end])
            end += beside == ("\n", "\n") and "\n\n" not in middle  # no empty line is made where there was none
            kept = "\n\n" if "\n\n" in middle else "\n" if "\n" in middle and "\n" not in beside else ""
            at = begin + middle.index(kept)
            text = text[:begin] + kept + text[end:]
            origin[begin:end] = origin[at : at + len(kept)]
        self.text = text
        self.origin = [*origin, len(given)]

    def begins_clause(self, at: int) -> bool:
        """Whether a clause that stands for itself may begin here: at a line or behind a sentence, outside quotes.

        A line that leads over from an unfinished one ("The student wrote:") does not stand for itself.
        """
        return bool(_LEAD.search(self.text[max(0, at - 40) : at])) and not self._quoted(at) and not self._led_to(at)

    def opens_text(self, at: int) -> bool:
        """Whether nothing is said before this place."""
        return not self.text[:at].strip(" \n*_`#-")

    def other_text(self) -> int | None:
        """The end of the line behind which something else than feedback opens ("Revision:", "Problem:", a speaker).

        The first line of the whole text is never one, since feedback may open with a heading.
        """
        first = re.search(r"\S", self.text)
        found = None if first is None else _OTHER_TEXT.search(self.text, first.start())
        return None if found is None else found.start()

    def rewrites(self, at: int) -> bool:
        """Whether a corrected answer is written before this place: praise behind it is for that one."""
        return _REWRITTEN.search(self.text, 0, at) is not None

    def next_text(self, start: int) -> int:
        """The same behind a verdict: what can only be a next text, or the end of the whole text.

        "Problem:" may take a verdict back, so it is none of these; a repeated instruction is.
        """
        found = _NEXT_TEXT.search(self.text, start)
        return len(self.text) if found is None else found.start()

    def own_end(self, verdict_end: int, first: bool) -> int:
        """Where feedback ends: with the line of its verdict, or, where the verdict came `first`, at the next text."""
        end = self.next_text(verdict_end)
        line = self.text.find("\n", verdict_end)
        return end if first or line < 0 else min(end, line)

    def cut(self, end: int) -> int | None:
        """The place in the given text where the part that ends here ends; None where nothing stands behind it."""
        if not self.text[end:].strip(" \n*_`"):
            return None
        kept = self.text[:end].rstrip(" \n")
        return self.origin[len(kept) - 1] + 1 if kept else 0

    def _quoted(self, at: int) -> bool:
        """Whether a quotation that was opened in this paragraph is still open."""
        before = self.text[self.text.rfind("\n\n", 0, at) + 1 : at]
        depth = sum((c in _OPEN_QUOTES) - (c in _CLOSE_QUOTES) for c in before)
        single = len(re.findall(r"(?<!\w)'(?=\w)", before)) - len(re.findall(r"(?<=[\w.!?,])'(?!\w)", before))
        return depth > 0 or before.count('"') % 2 == 1 or single > 0 or before.count("```") % 2 == 1

    def _led_to(self, at: int) -> bool:
        before = self.text[:at].rstrip(" \n*_`#-+•")
        if not before or before[-1] in ".!?":
            return False
        line = before[before.rfind("\n") + 1 :].lstrip(" *_`#-")
        said = re.split(r"[.!?] ", line)[-1]
        return before[-1] in ":,;([" or bool(_SUBORDINATE.match(said) or _UNFINISHED.search(said))


def _plain(letter: str, after: str) -> str:
    if letter.isascii():
        return "" if letter == "\r" and after == "\n" else "\n" if letter in "\r\n\v\f\x1c\x1d\x1e" else _blank(letter)
    if letter in _LINE_ENDS:
        return "\n"
    if letter in _VARIATION or unicodedata.category(letter) == "Cf":
        return ""
    if letter in _OPEN_QUOTES or letter in _CLOSE_QUOTES:
        return letter
    if letter in "‘’‚‛ʼ＇":
        return "'"
    if letter in "–—―":
        return " - "
    if unicodedata.category(letter) == "Pd" or letter == "−":
        return "-"
    if letter in "⇒➔➡→":
        return ":"
    if letter in "⁄∕":
        return "/"
    if unicodedata.category(letter) == "No":
        return letter  # a power, a footnote or a fraction is no digit
    return unicodedata.normalize("NFKC", letter)


def _blank(letter: str) -> str:
    return " " if letter == "\t" else letter
