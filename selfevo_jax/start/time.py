"""How long a round will take on this machine: from rates measured in a second or two, and the lengths of its texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfevo_jax.config import RoundsSection
from selfevo_jax.data import Batches, Example, Unit
from selfevo_jax.methods.mixture import SELF, mixture
from selfevo_jax.plan.estimate import Phases
from selfevo_jax.plan.lengths import Lengths
from selfevo_jax.plan.measured import ASSUMED, Machine, guess_round
from selfevo_jax.progress import duration
from selfevo_jax.rounds.survey import evaluation_phases
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.sample import sampler_memory
from selfevo_jax.sample.compiling import Compiling, estimate
from selfevo_jax.start.texts import Texts
from selfevo_jax.tasks import Task
from selfevo_jax.train import TrainSection

_KEPT = 0.5
"""Share of a round's chains that is kept, where as many are as is usual."""


@dataclass(frozen=True)
class TimeOfRound:
    """Seconds: where texts are as long as is usual, and where all are as long as they may be."""

    usual: Phases
    most: Phases
    machine: str
    compiling: Compiling

    def lines(self) -> list[str]:
        """For people."""
        u, m = self.usual, self.most

        def both(name: str) -> str:
            low, high = getattr(u, name).low, getattr(m, name).high
            return _between(low, high)

        parts = ", ".join(
            f"{told} {both(name)}"
            for told, name in (("sampling", "sampling"), ("fine-tuning", "learn"), ("evaluation", "evaluating"))
            if getattr(m, name).high
        )
        return [
            f"a round: {both('round')} ({parts}); meta-skill learning: {both('meta')}; all of it: {both('run')}",
            f"compiling, the first time: {duration(self.compiling.seconds)} ({self.compiling})",
            f"  an estimate, from rates of this machine measured now ({self.machine}). The lower figures are for texts "
            "as long as D_meta's (without D_meta, half their limits), the higher ones for texts at their limits; "
            f"{ASSUMED}",
        ]


def _between(low: float, high: float) -> str:
    first, last = duration(low), duration(high)
    return first if first == last else f"{first} to {last}"


def time_of_round(
    bench: Workbench, task: Task, texts: Texts | None, taught: Mapping[str, Sequence[Unit]]
) -> TimeOfRound | None:
    """`taught`: the examples of meta-skill learning, as far as they are known. None where too little is known, such as
    steps that follow from rows that the run is yet to make."""
    config = bench.config
    if texts is None:
        return None
    machine = Machine.measure(config, bench.mesh.devices.flatten().tolist())
    memory = sampler_memory(config.sampling, bench.model, bench.mesh)
    evaluated = Counter[int]()
    for of in task.evaluation().values():
        for phase in evaluation_phases(bench, of.rows, 1, votes=of.votes):
            evaluated[(phase.turns or 0) if phase.judge else 0] += phase.chains

    def guess(lengths: Lengths, kept: float, rounds: int) -> Phases | None:
        steps = _meta_steps(config.meta, taught, config.seed), _learn_steps(bench, lengths, taught, kept, rounds)
        return guess_round(config, lengths, memory, bench.slots.slots, machine, steps, evaluated)

    usual = guess(texts.expected(config), _KEPT, 1)
    most = guess(texts.at_most(config), 1.0, _rounds_learnt(config.rounds))
    if usual is None or most is None:
        return None
    return TimeOfRound(usual, most, str(machine), _compiling(bench))


def _compiling(bench: Workbench) -> Compiling:
    """Of the sampler and the fine-tunings of a whole run."""
    config, sampler = bench.config, bench.engine.n_programs
    shapes = {
        repr((s.batch_rows, s.length, s.accumulate, s.lora, s.remat, s.compute_dtype)) for s in config.trained.values()
    }
    at_once = bench.compiled_at_once(sampler)
    return estimate(bench.mesh.devices.flat[0], bench.engine.compiled_layers, sampler + len(shapes), at_once)


def _meta_steps(section: TrainSection, taught: Mapping[str, Sequence[Unit]], seed: int) -> int | None:
    if section.epochs is None:
        return section.steps
    return _steps(section, taught, seed) if taught else None


def _rounds_learnt(rounds: RoundsSection) -> int:
    """Of how many rounds the last one learns the rows."""
    return max(1, rounds.number) if rounds.pools_all else 1


def _learn_steps(
    bench: Workbench, lengths: Lengths, taught: Mapping[str, Sequence[Unit]], kept: float, rounds: int
) -> int | None:
    """Of a round whose chains are kept to this share, as far as the config keeps so many of a prompt, and which learns
    from those of so many rounds."""
    section, data = bench.config.learn, bench.config.data
    if section.epochs is None:
        return section.steps
    of_prompt = bench.config.rounds.most_of_prompt(data.samples_per_prompt)
    own = max(1, round(min(kept * data.samples_per_prompt, of_prompt) * rounds * data.prompts_per_round))
    length = min(section.length, lengths.prompt + lengths.answer)
    tokens = np.zeros(length, np.int32)
    weights = np.r_[np.zeros(1), np.ones(length - 1)].astype(np.float32)
    groups = {SELF: [Example(str(n), "self", tokens, weights) for n in range(own)]}
    fits = {name: [e for e in examples if len(e) <= section.length] for name, examples in taught.items()}
    replayed = {} if bench.config.rounds.variant == "continual_self_only" else fits
    return _steps(section, {**replayed, **groups}, bench.config.seed)


def _steps(section: TrainSection, groups: Mapping[str, Sequence[Unit]], seed: int) -> int:
    pools = mixture({name: examples for name, examples in groups.items() if examples}, section)
    assert section.epochs is not None
    return Batches(pools, section.batch_rows, section.length, seed, section.packing).steps_in(section.epochs)
