"""Answers that are one of several choices, A to E."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Hashable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from selfevo_jax.errors import shown
from selfevo_jax.scorers.base import NO_ANSWER, Fault, Grade, ScoredRow, ScorerSection
from selfevo_jax.text import before_next_question, boxed, normal

_LABEL = r"[(\[]?(?P<letter>[A-Z])(?![\w'])(?P<close>[)\].:]*)"
_ALONE = re.compile(rf"(?:option|choice|answer)?[ \t]*{_LABEL}", re.IGNORECASE)
_WITH_TEXT = re.compile(r"[(\[]?(?P<letter>[A-Z])[)\].:]+[ \t]+(?P<said>\S[^\n]*)")
_STATED = re.compile(
    r"\b(?:answer|choice|option)[ \t]*(?:\bis\b[ \t]*:?|[:=]|(?<=answer)>)\s*(?:(?:option|choice|letter)\b[ \t]*)?",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\s*(?:\Z|\n|[.,;!\-–—](?:\s|\Z)|\((?!or\b)|</?|\b(?:because|since|as|for|which|so)\b)", re.IGNORECASE
)
_MORE = re.compile(rf"\s*(?:,|/|&|\bor\b|\band\b)\s*(?:(?:or|and)\b\s*)?{_LABEL}")
_OPEN = re.compile(
    r"\b(?:if|whether|not|never|unless|suppose|assume|doubt|neither|nor|could|might|cannot)\b|n['’]t\b", re.IGNORECASE
)
_CLAUSE = re.compile(r"[.\n!?;]|\b(?:but|so|therefore|thus|hence)\b", re.IGNORECASE)
_NEAR = 1000
"""Characters before and behind "the answer is" that are looked at."""
_MARKS = str.maketrans("", "", "*_`$")


class Choice(ScorerSection):
    r"""Right is a text that gives the letter, or the text, of the right choice, and no other.

    Read are: a text, or a line, that is a label alone ("B", "(B)", "B.", "Option B"); a text that begins with a label
    and a sign ("B) Paris"); "the answer is B", "Answer: (B)"; \boxed{B}; where the row has `choices`, the text of one
    in place of its letter. \boxed goes first, then what is stated, then labels. Two answers that differ, "A or B", a
    label in front of another choice's text, and a sentence with "not" or "if" are no answer. What comes behind a next
    question, or is only thought before the answer or behind it (<think>...</think>), is not read.

    Columns: `answer` is a letter, or the index of the right choice, from 0, as a number. `choices`, where it is there,
    is a list of texts, or {"label": ["A", ...], "text": [...]}.
    """

    kind: Literal["choice"] = "choice"
    last: Annotated[str, Field(pattern=r"^[B-Z]\z")] = "E"
    """The last letter of rows without `choices`."""

    def told(self, row: ScoredRow) -> dict[str, Any]:
        return {**row.columns, self.column("answer"): self._gold(row)}

    def fault(self, row: ScoredRow) -> Fault | None:
        if (missing := self.missing(row, "answer")) is not None:
            return missing
        try:
            texts = _texts(self.value(row, "choices"))
        except ValueError as error:
            return Fault(self.column("choices"), str(error))
        found = self.value(row, "answer")
        if (self._gold(row) or " ") in self._letters(texts):
            return None
        return Fault(
            self.column("answer"),
            f"found {shown(found)}, expected a letter, {self._letters(texts)[0]} to {self._letters(texts)[-1]}, or the "
            "index of the right choice, from 0, as a number",
        )

    def grade(self, row: ScoredRow, text: str) -> Grade:
        given = self._read(row, text)
        return NO_ANSWER if given is None else Grade(float(given == self._gold(row)))

    def key(self, row: ScoredRow, text: str) -> Hashable | None:
        return self._read(row, text)

    def spoil(self, row: ScoredRow, text: str, rng: random.Random) -> str | None:
        given, texts = self._read(row, text), _texts(self.value(row, "choices"))
        if given is None:
            return None
        letters = self._letters(texts)
        other = rng.choice([letter for letter in letters if letter != given])
        wrong = re.sub(rf"(?<![\w'])(?:{given}|{given.lower()}(?=[)\].:]))(?![\w'])", other, text)
        if texts:
            wrong = wrong.replace(texts[letters.index(given)], texts[letters.index(other)])
        return wrong if self._read(row, wrong) == other else None

    def _letters(self, texts: Sequence[str]) -> str:
        all = string.ascii_uppercase
        return all[: len(texts)] if texts else all[: all.index(self.last) + 1]

    def _gold(self, row: ScoredRow) -> str | None:
        found = self.value(row, "answer")
        if isinstance(found, str):
            alone = _ALONE.fullmatch(found.strip())
            return alone["letter"].upper() if alone else None
        whole = isinstance(found, int | float) and not isinstance(found, bool) and found == int(found)
        return string.ascii_uppercase[int(found)] if whole and 0 <= found < len(string.ascii_uppercase) else None

    def _read(self, row: ScoredRow, text: str) -> str | None:
        """The one letter that a text gives."""
        texts = _texts(self.value(row, "choices"))
        letters = self._letters(texts)
        named: dict[str, str | None] = {}
        for letter, words in zip(letters, map(_words, texts), strict=False):
            if words:
                named[words] = None if words in named else letter  # equal choices cannot be told apart
        text = before_next_question(text)
        framed = boxed(text)
        text = text.translate(_MARKS)
        found = (
            [_in_frame(framed.translate(_MARKS), named)]
            if framed is not None
            else _stated(text, named) or _labels(text, named)
        )
        given = set(found)
        one = given.pop() if len(given) == 1 else None
        return one if one is not None and one in letters else None


def _texts(choices: Any) -> list[str]:
    """The texts of a row's choices, in the order of the letters. Raises ValueError where they have another form."""
    if choices is None:
        return []
    if isinstance(choices, dict):
        labels, choices = choices.get("label"), choices.get("text")
        if not isinstance(labels, list) or labels != list(string.ascii_uppercase[: len(labels)]):
            raise ValueError(f"found the labels {shown(labels)}, expected A, B and so on; write them so")
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise ValueError(f"found {shown(choices)}, expected a list of 2 to 26 texts")
    if not all(isinstance(choice, str | int | float) for choice in choices):
        raise ValueError(f"found {shown(choices)}, expected a list of texts")
    return [str(choice) for choice in choices]


def _words(text: str) -> str:
    return normal(text).strip(" .\"'")


def _in_frame(text: str, named: dict[str, str | None]) -> str | None:
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}", r"\1", text)
    return _label(text, named)


def _label(line: str, named: dict[str, str | None]) -> str | None:
    """The letter of a line that is a label, a label with a choice, or a choice; None where it may be two."""
    line, found = line.strip(), set[str | None]()
    if (words := _words(line)) in named:
        found.add(named[words])
    if (alone := _ALONE.fullmatch(line)) is not None:
        found.add(alone["letter"].upper())
    if (both := _WITH_TEXT.fullmatch(line)) is not None:
        found |= {both["letter"], named.get(_words(both["said"]), both["letter"])}
    return found.pop() if len(found) == 1 else None


def _stated(text: str, named: dict[str, str | None]) -> list[str | None]:
    """What each sentence "the answer is ..." gives; None for one that gives no single choice."""
    found: list[str | None] = []
    for mark in _STATED.finditer(text):
        if _OPEN.search(_CLAUSE.split(text[max(0, mark.start() - _NEAR) : mark.start()])[-1]):
            found.append(None)
            continue
        rest = text[mark.end() : mark.end() + _NEAR].partition("\n")[0]
        words = _words(re.split(r"[.;!](?:\s|\Z)", rest)[0])
        label = re.compile(_LABEL).match(rest)
        if words in named:
            found.append(named[words])
        elif label is None:
            continue  # it states something else, or nothing: what follows may be the label
        elif _MORE.match(rest, label.end()):
            found.append(None)
        elif label["close"] or _GOES_ON.match(rest, label.end()):
            found.append(_label(rest, named) if _WITH_TEXT.fullmatch(rest.strip()) else label["letter"])
    return found


def _labels(text: str, named: dict[str, str | None]) -> list[str | None]:
    """The label that a text begins with, and those of the lines that are nothing else."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [_label(line, named) for line in lines if _ALONE.fullmatch(line) or _WITH_TEXT.fullmatch(line)]
    return marked or [_label(line, named) for line in lines if len(lines) == 1]
