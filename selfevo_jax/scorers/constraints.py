"""The scorer `constraints`: whether a text does what verifiable instructions say, strictly or loosely (IFEval).

A row holds `instruction_id_list` and `kwargs`, one object of arguments for each, as IFEval's own file does. A text is
right when it meets all; `Grade.parts` holds each, so that accuracy by prompt and by instruction follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import model_validator

from selfevo_jax.scorers.base import Fault, Grade, ScoredRow, ScorerSection
from selfevo_jax.scorers.checks import KINDS, used

IDS, ARGUMENTS = "instruction_id_list", "kwargs"
"""Columns."""


def loose_forms(text: str) -> list[str]:
    """The text; without its first line, its last, and both (an introduction, a closing remark); and each of these
    without '*' (Markdown's emphasis)."""
    lines = text.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return [form for whole in (text, *cut) for form in (whole, whole.replace("*", ""))]


def follows(text: str, kind: str, arguments: Mapping[str, Any], loose: bool = False) -> bool | None:
    """Whether a text does as one instruction says. An empty text never does; loosely, one form of the text that does is
    enough. None: not scored, for want of what the check needs or because it cannot tell."""
    what = KINDS[kind]
    if what.missing() is not None:
        return None
    forms = loose_forms(text) if loose else [text]
    found = {what.check(form, **used(arguments)) for form in forms if form.strip()}
    return True if True in found else None if None in found else False


class Constraints(ScorerSection):
    """Grades 1 where all instructions of a row are followed, else 0, and None where one of them cannot be scored. No
    answer votes: those to one prompt differ in their words, whatever they follow."""

    kind: Literal["constraints"] = "constraints"
    loose: bool = False
    """Whether a text passes in one of its loose forms (an introduction, a closing line and '*' are forgiven)."""

    @model_validator(mode="before")
    @classmethod
    def _loosely(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and tree.get("loose") is True:
            return {"name": "constraints, loose", **tree}
        return tree

    def fault(self, row: ScoredRow) -> Fault | None:
        for column in (IDS, ARGUMENTS):
            if (missing := self.missing(row, column)) is not None:
                return missing
        ids, arguments = self.value(row, IDS), self.value(row, ARGUMENTS)
        if not isinstance(ids, list | tuple) or not ids:
            return Fault(self.column(IDS), f"found {_shown(ids)}, expected a list such as ['punctuation:no_comma']")
        if not isinstance(arguments, list | tuple) or len(arguments) != len(ids):
            found = f"{len(arguments)} of them" if isinstance(arguments, list | tuple) else _shown(arguments)
            expected = f"expected a list of {len(ids)}, one object for each of {self.column(IDS)}"
            return Fault(self.column(ARGUMENTS), f"found {found}, {expected}")
        for kind, given in zip(ids, arguments, strict=True):
            if not isinstance(kind, str) or kind not in KINDS:
                return Fault(self.column(IDS), f"found {_shown(kind)}, expected one of {', '.join(KINDS)}")
            if not isinstance(given, Mapping):
                found = f"found {_shown(given)} for '{kind}'"
                return Fault(self.column(ARGUMENTS), f"{found}, expected an object of arguments ({{}} for none)")
            if (fault := KINDS[kind].fault_of(given)) is not None:
                return Fault(self.column(ARGUMENTS), f"of '{kind}', {fault}")
        return None

    def notice(self, rows: Sequence[ScoredRow]) -> str | None:
        ids = Counter(kind for row in rows for kind in self.value(row, IDS))
        lacking = [(kind, why) for kind in sorted(ids) if (why := KINDS[kind].missing()) is not None]
        if not lacking:
            return None
        kinds = "; ".join(f"{ids[kind]} of {kind}, which needs {why}" for kind, why in lacking)
        return f"{sum(ids[kind] for kind, _ in lacking)} of {ids.total()} instructions are not scored: {kinds}"

    def grade(self, row: ScoredRow, text: str) -> Grade:
        parts: dict[str, bool | None] = {}
        seen: Counter[str] = Counter()
        for kind, arguments in zip(self.value(row, IDS), self.value(row, ARGUMENTS), strict=True):
            seen[kind] += 1
            name = kind if seen[kind] == 1 else f"{kind}#{seen[kind]}"
            parts[name] = follows(text, kind, arguments, self.loose)
        value = None if None in parts.values() else float(all(parts.values()))
        return Grade(value, bool(text.strip()), parts)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
