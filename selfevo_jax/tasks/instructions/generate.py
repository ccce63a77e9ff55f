"""Prompts: a base instruction, perhaps "be short", and one or two verifiable instructions in words."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfevo_jax.data import PromptRow, stable_id
from selfevo_jax.data.instructions_section import InstructionsSection
from selfevo_jax.errors import ConfigError
from selfevo_jax.scorers.constraints import ARGUMENTS, IDS
from selfevo_jax.tasks.instructions.crafts import CLASHES, CRAFTS, Demand
from selfevo_jax.tasks.instructions.splits import KEY, Part

_TRIES = 1000


@dataclass(frozen=True)
class InstructionRow:
    """A prompt with what it asks."""

    id: str
    prompt: str
    base: str
    """The base instruction."""
    demands: tuple[Demand, ...]

    @property
    def columns(self) -> Mapping[str, Any]:
        """What the scorer `constraints` reads, as IFEval's file has it."""
        return {IDS: [d.kind for d in self.demands], ARGUMENTS: [dict(d.arguments) for d in self.demands]}


def draw_demands(part: Part, section: InstructionsSection, rng: random.Random) -> tuple[Demand, ...]:
    """One demand, or two or three of kinds that go together."""
    pairs, threes = (_together(section.kinds, number) for number in (2, 3))
    at = rng.random() if pairs else 1.0
    if at < section.two_share:
        chosen = rng.choice(pairs)
    elif threes and at < section.two_share + section.three_share:
        chosen = rng.choice(threes)
    else:
        chosen = (rng.choice(section.kinds),)
    return tuple(_demand(part, kind, rng) for kind in rng.sample(chosen, len(chosen)))


@functools.cache
def _together(kinds: tuple[str, ...], number: int) -> list[tuple[str, ...]]:
    return [
        of
        for of in itertools.combinations(kinds, number)
        if not any(frozenset(pair) in CLASHES for pair in itertools.combinations(of, 2))
    ]


def _demand(part: Part, kind: str, rng: random.Random) -> Demand:
    arguments, atoms = CRAFTS[kind].draw(part.atoms[kind], rng)
    return Demand(kind, arguments, rng.choice(part.wordings[kind]), atoms)


def prompt_text(base: str, demands: Sequence[Demand], part: Part, rng: random.Random) -> str:
    brief = [rng.choice(part.brief)] if part.brief else []
    return " ".join([base, *brief, *(demand.text for demand in demands)])


def make_rows(part: Part, section: InstructionsSection, seed: str, tag: str) -> Iterator[InstructionRow]:
    """Endless rows, no prompt twice: each base instruction in its turn, all else drawn by the seed.

    Raises ConfigError where no new prompt is found.
    """
    rng = random.Random(f"instructions/prompts/{seed}")
    seen: set[str] = set()
    tries = 0
    for turn in itertools.count():
        base = part.base[turn % len(part.base)]
        demands = draw_demands(part, section, rng)
        prompt = prompt_text(base, demands, part, rng)
        tries += 1
        if prompt in seen:
            if tries > _TRIES:
                raise ConfigError(
                    f"{KEY}: only {len(seen)} different prompts were found for '{tag}'; ask for fewer, or give it more "
                    "kinds, wordings or arguments"
                )
            continue
        tries = 0
        seen.add(prompt)
        yield InstructionRow(stable_id(prompt), prompt, base, demands)


def without_demands(part: Part, number: int, seed: str) -> list[PromptRow]:
    """So many prompts that ask for nothing but a short answer; fewer where there are fewer."""
    rng = random.Random(f"instructions/plain/{seed}")
    texts = [" ".join(filter(None, pair)) for pair in itertools.product(part.base, part.brief or ("",))]
    return [PromptRow(stable_id(text), text) for text in rng.sample(texts, min(number, len(texts)))]
