"""All kinds that can be taught by a program, and what is done with several of them at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfevo_jax.scorers.constraints import follows
from selfevo_jax.tasks.instructions import content, layout, phrases
from selfevo_jax.tasks.instructions.craft import Arguments, Craft

CRAFTS: dict[str, Craft] = {**content.CRAFTS, **layout.CRAFTS, **phrases.CRAFTS}
"""Kind -> its craft, in the order of repair: what adds words comes before what changes every letter."""
_APART: dict[str, tuple[str, ...]] = {
    "change_case:uppercase": ("change_case:lowercase",),
    "startend:end_checker": (
        "detectable_content:postscript",
        "detectable_content:number_placeholders",
        "length_constraints:number_words",
    ),
    "startend:start_phrase": (
        "detectable_format:title",
        "detectable_format:number_bullet_lists",
        "startend:quotation",
    ),
    "startend:quotation": ("detectable_format:number_bullet_lists",),
    "detectable_format:number_bullet_lists": (
        "detectable_format:number_highlighted_sections",
        "detectable_format:title",
        "detectable_content:postscript",
    ),
    "length_constraints:number_words": tuple(kind for kind in CRAFTS if kind.split(":")[0] != "change_case"),
    "detectable_format:json_format": tuple(kind for kind in CRAFTS if kind != "keywords:existence"),
}
CLASHES = frozenset(frozenset((kind, other)) for kind, others in _APART.items() for other in others if kind != other)
"""Pairs of kinds that are not asked for together: both cannot be met, or the repair of one undoes the other's."""
_PASSES = 3


@dataclass(frozen=True)
class Demand:
    """One verifiable instruction of a prompt."""

    kind: str
    arguments: Arguments
    wording: str
    """With its slots."""
    atoms: tuple[Any, ...] = ()
    """What the arguments are made of."""

    @property
    def text(self) -> str:
        return self.wording.format(**CRAFTS[self.kind].slots(self.arguments))

    def met(self, text: str) -> bool:
        return bool(follows(text, self.kind, self.arguments))


def unmet(demands: Sequence[Demand], text: str) -> list[Demand]:
    return [demand for demand in demands if not demand.met(text)]


def feedback(demands: Sequence[Demand], text: str, quote: bool = False) -> tuple[str, bool]:
    """What a critic says of a text: a note on each demand, then the verdict; and whether all are met.

    With `quote` each note follows the demand's number and its own words: a critic that copies them leaves none out, and
    has before it what it holds the text against."""
    text = text.strip()
    met = [demand.met(text) for demand in demands]
    notes = [CRAFTS[d.kind].note(text, d.arguments, yes) for d, yes in zip(demands, met, strict=True)]
    if quote:
        notes = [f"{n}. {demand.text} {note}" for n, (demand, note) in enumerate(zip(demands, notes, strict=True), 1)]
    return " ".join([*notes, "Verdict: correct" if all(met) else "Verdict: incorrect"]), all(met)


def repaired(demands: Sequence[Demand], text: str, rng: random.Random) -> str | None:
    """The text with all that is not met put right; None where a program cannot."""
    order = list(CRAFTS)
    text = text.strip()
    for _ in range(_PASSES):
        for demand in sorted(demands, key=lambda demand: order.index(demand.kind)):
            if not demand.met(text):
                text = CRAFTS[demand.kind].repair(text, demand.arguments, rng).strip()
        if not unmet(demands, text):
            return text
    return None


def near_miss(demands: Sequence[Demand], text: str, rng: random.Random) -> str | None:
    """A text that meets all demands but one, made of one that meets all; None where that does not succeed."""
    demand = rng.choice(list(demands))
    text = text.strip()
    spoilt = CRAFTS[demand.kind].spoil(text, demand.arguments, rng).strip()
    return spoilt if spoilt and unmet(demands, spoilt) == [demand] else None


def missed(demands: Sequence[Demand], text: str, rng: random.Random) -> str | None:
    """A text that fails one of the demands at least, made of one that is thought to meet them; None where that does not
    succeed with any."""
    for demand in rng.sample(list(demands), len(demands)):
        spoilt = CRAFTS[demand.kind].spoil(text.strip(), demand.arguments, rng).strip()
        if spoilt and not demand.met(spoilt):
            return spoilt
    return None
