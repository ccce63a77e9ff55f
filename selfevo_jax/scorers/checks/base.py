"""What a kind of verifiable instruction is: its id, its arguments with their forms, and its checker."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[..., bool | None]
"""`check(text, **arguments)`: whether the text does as the instruction says; None where that cannot be told."""


@dataclass(frozen=True)
class Argument:
    """The form of an argument."""

    form: str
    """In words, with an example where it helps."""
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Kind:
    """A kind of verifiable instruction."""

    id: str
    """As in IFEval's `instruction_id_list`, such as `keywords:existence`."""
    check: Check
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    official: bool = True
    """Whether it is one of IFEval's 25."""
    missing: Callable[[], str | None] = lambda: None
    """What the check needs and this machine lacks, in words; None where it can be done."""
    fault: Callable[[Mapping[str, Any]], str | None] = lambda arguments: None
    """What is wrong with arguments that fit their forms one by one: 'NAME: found ..., expected ...'."""

    def fault_of(self, arguments: Mapping[str, Any]) -> str | None:
        """Why these arguments cannot be used; None where they can. Those that are None count as absent.

        IFEval's own code draws an absent argument at random; here nothing is drawn.
        """
        given = used(arguments)
        for name, argument in self.arguments.items():
            if name not in given:
                return f"{name}: missing; expected {argument.form}"
            if not argument.fits(given[name]):
                return f"{name}: found {_short(given[name])}, expected {argument.form}"
        unknown = sorted(given.keys() - self.arguments.keys())
        if unknown:
            known = ", ".join(self.arguments) or "none"
            return f"{unknown[0]}: no argument of '{self.id}'; it has {known}"
        return self.fault(given)


def used(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without those that are None (tables hold every argument of every kind)."""
    return {name: value for name, value in arguments.items() if value is not None}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value.strip()))
    except (re.error, RecursionError, OverflowError):
        return False


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_pattern, value))


COUNT = Argument(
    "a whole number from 0", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0
)
RELATION = Argument("'less than' or 'at least'", lambda value: value in ("less than", "at least"))
TEXT = Argument("a text", lambda value: isinstance(value, str) and bool(value.strip()))
PATTERN = Argument(
    "a text that is a regular expression (write '+' as '\\+')", lambda value: _is_pattern(value) and bool(value.strip())
)
PATTERNS = Argument("a list of texts that are regular expressions (write '+' as '\\+')", _is_list)
CHARACTER = Argument("one character", lambda value: isinstance(value, str) and len(value) == 1)


def holds(relation: str, found: int, wanted: int) -> bool:
    """Whether a count stands in the relation 'less than' or 'at least' to the one that is wanted."""
    return found < wanted if relation == "less than" else found >= wanted
