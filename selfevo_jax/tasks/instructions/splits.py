"""Which base instructions, wordings and arguments D_meta, the rounds and the evaluation have: what is set apart."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfevo_jax.data import PromptRow
from selfevo_jax.data.instructions_section import InstructionsSection
from selfevo_jax.errors import ConfigError
from selfevo_jax.tasks.instructions.crafts import CRAFTS
from selfevo_jax.tasks.instructions.wordings import BRIEF, WORDINGS

KEY = "data.instructions"
"""Of the section, for errors."""


@dataclass(frozen=True)
class Part:
    """What prompts are made of."""

    base: tuple[str, ...]
    """Base instructions."""
    wordings: Mapping[str, tuple[str, ...]]
    """Kind -> wordings."""
    atoms: Mapping[str, tuple[Any, ...]]
    """Kind -> what arguments are made of; empty for a kind without."""
    brief: tuple[str, ...]
    """Wordings of "be short"; empty where that is not asked."""


@dataclass(frozen=True)
class Parts:
    meta: Part
    prompts: Part
    evaluation: Part
    seen: Part
    """The evaluation's base instructions with the rounds' wordings and arguments."""


def split(rows: Sequence[PromptRow], section: InstructionsSection) -> Parts:
    """Shuffles by the section's seed, then divides.

    Raises ConfigError, with the key, where there is too little of something.
    """
    kept = section.evaluation.base if "base" in section.apart else 0
    base = _base(rows, section, kept)
    meta_base, rest = base[: section.meta.base], base[section.meta.base : len(base) - kept]
    evaluation_base = base[len(base) - kept :] if kept else rest
    wordings = {kind: _wordings(kind, WORDINGS[kind], section) for kind in section.kinds}
    brief = _wordings("brief", BRIEF, section) if section.brief else ((), (), ())
    atoms = {kind: _atoms(kind, section) for kind in section.kinds}

    def part(base: Sequence[str], place: int) -> Part:
        return Part(
            tuple(base),
            {kind: found[place] for kind, found in wordings.items()},
            {kind: found[place] for kind, found in atoms.items()},
            brief[place],
        )

    return Parts(part(meta_base, 0), part(rest, 1), part(evaluation_base, 2), part(evaluation_base, 1))


def _base(rows: Sequence[PromptRow], section: InstructionsSection, kept: int) -> list[str]:
    """The base instructions, each once, shuffled; `kept` of them are for the evaluation alone."""
    base = list({plain(row.prompt): row.prompt.strip() for row in rows}.values())
    wanted = section.meta.base + kept + 1
    if len(base) < wanted:
        raise ConfigError(
            f"{KEY}.source: {section.source.source} has {len(base)} different base instructions, but meta.base "
            f"{section.meta.base}, {kept} for the evaluation alone and at least one for the rounds are {wanted}; lower "
            "meta.base or evaluation.base, or add base instructions"
        )
    random.Random(f"instructions/base/{section.seed}").shuffle(base)
    return base


def plain(text: str) -> str:
    """A text by which copies are found: in small letters, with single spaces."""
    return " ".join(text.lower().split())


Three = tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]


def _wordings(kind: str, known: Sequence[str], section: InstructionsSection) -> Three:
    """Those of D_meta, of the rounds (D_meta's among them), and of the evaluation. The few of "be short" are shared
    out in proportion, and D_meta has all of the rounds': they are no demand that is checked, and a critic that knows
    one of them alone takes the others for demands."""
    order = random.Random(f"instructions/wordings/{kind}/{section.seed}").sample(list(known), len(known))
    apart = "wordings" in section.apart
    meta, prompts, evaluation = section.meta.wordings, section.prompts.wordings, section.evaluation.wordings
    wanted = prompts + (evaluation if apart else 0)
    if kind == "brief":
        scale = min(1.0, len(known) / wanted)
        prompts, evaluation = (max(1, math.floor(scale * n)) for n in (prompts, evaluation))
        meta = prompts
    elif wanted > len(known):
        raise ConfigError(
            f"{KEY}.prompts.wordings: '{kind}' has {len(known)} wordings, but meta.wordings {meta} (among "
            f"prompts.wordings {prompts}) and evaluation.wordings {evaluation} take {wanted}; lower one of them"
        )
    used = tuple(order[:prompts])
    return tuple(order[:meta]), used, tuple(order[len(used) :][:evaluation]) if apart else used


def _atoms(kind: str, section: InstructionsSection) -> Three:
    """As `_wordings`, by shares."""
    known = CRAFTS[kind].atoms
    if not known:
        return (), (), ()
    order = random.Random(f"instructions/arguments/{kind}/{section.seed}").sample(list(known), len(known))
    apart = "arguments" in section.apart
    shares = section.meta.arguments, section.prompts.arguments, section.evaluation.arguments
    if apart and shares[1] + shares[2] > 1 + 1e-9:
        raise ConfigError(
            f"{KEY}.evaluation.arguments: {shares[2]:g}, and prompts.arguments {shares[1]:g}, are more than 1; lower "
            "one of them, or take 'arguments' out of apart"
        )
    meta, used, evaluation = (max(2, math.floor(share * len(known))) for share in shares)
    return tuple(order[:meta]), tuple(order[:used]), tuple(order[-evaluation:]) if apart else tuple(order[:used])


def check_apart(
    used: Collection[Any], evaluation: Collection[Any], apart: Collection[str], name: str = "evaluation"
) -> None:
    """Holds the rows themselves to what is set apart. Prompts are always apart.

    Args:
      used: rows of D_meta and of the rounds.
      evaluation: rows of the set called `name`.

    Raises:
      ConfigError: with the count and an example.
    """
    seen = _traits(used)
    found = _traits(evaluation)
    for trait in ("prompts", *apart):
        if shared := seen[trait] & found[trait]:
            raise ConfigError(
                f"{KEY}.{name}: {len(shared)} of its {len(found[trait])} {_WORDS[trait]} are also in D_meta or the "
                f"rounds (such as {str(min(shared, key=str))[:80]!r}); remove copies from {KEY}.source, or take "
                f"'{trait}' out of {KEY}.apart"
            )


_WORDS = {"prompts": "prompts", "base": "base instructions", "wordings": "wordings", "arguments": "arguments"}


def _traits(rows: Collection[Any]) -> dict[str, set[Any]]:
    return {
        "prompts": {plain(row.prompt) for row in rows},
        "base": {plain(row.base) for row in rows},
        "wordings": {demand.wording for row in rows for demand in row.demands},
        "arguments": {(demand.kind, atom) for row in rows for demand in row.demands for atom in demand.atoms},
    }
