"""What makes a kind of instruction teachable by a program: arguments, evidence to quote, a repair, a near miss."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Arguments = Mapping[str, Any]
LONGEST_QUOTE = 40


@dataclass(frozen=True)
class Craft:
    """One kind. Texts come without white space at their ends; what they are made into is checked by the caller."""

    note: Callable[[str, Arguments, bool], str]
    """`note(text, arguments, met)`: what is needed, a quotation taken at the same place whether it is right or wrong
    (a critic that quotes by the verdict learns to guess the verdict first), and `ok` or `wrong`."""
    repair: Callable[[str, Arguments, random.Random], str]
    """A text that follows the instruction, made of one that does not."""
    spoil: Callable[[str, Arguments, random.Random], str]
    """A text that just fails it, made of one that follows it."""
    atoms: tuple[Any, ...] = ()
    """What arguments are made of: phrases, words or numbers, which splits set apart."""
    draw: Callable[[Sequence[Any], random.Random], tuple[dict[str, Any], tuple[Any, ...]]] = lambda atoms, rng: ({}, ())
    """Arguments from some of the atoms, and those that were taken."""
    slots: Callable[[Arguments], Arguments] = lambda arguments: arguments
    """What fills the slots of a wording."""


def one(name: str) -> Callable[[Sequence[Any], random.Random], tuple[dict[str, Any], tuple[Any, ...]]]:
    """Draws one atom as the argument of this name."""

    def draw(atoms: Sequence[Any], rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
        atom = rng.choice(atoms)
        return {name: atom}, (atom,)

    return draw


def said(met: bool) -> str:
    return "ok" if met else "wrong"


_MARKS = re.compile(r"[\"“”«»„`]|(?<!\w)['‘’]|['‘’](?!\w)")


def quoted(text: str) -> str:
    """A quotation on one line, without quotation marks of its own: what reads verdicts pairs them."""
    return f'"{_MARKS.sub("", " ".join(text.split()))[:LONGEST_QUOTE].strip()}"'


def sentence_added(text: str, sentence: str) -> str:
    """The text with one more sentence, within its closing quotation mark."""
    shut = '"' if len(text) > 1 and text[0] == text[-1] == '"' else ""
    body = (text[:-1] if shut else text).rstrip()
    return f"{body}{'' if not body or body[-1] in '.!?' else '.'} {sentence}{shut}".strip()
