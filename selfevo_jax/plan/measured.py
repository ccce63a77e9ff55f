"""A round on this machine: programs that are not compiled, at rates that were measured here in a second or two.

What runs really take is a multiple of such a floor. The shares below are those that README's benchmarks have found: on
a CPU decoding reaches 29 % of its floor and training 61 % of the products' rate, on one H100 94 % and 41 % of its
published peak. Other accelerators were not measured, and are taken to be like it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from selfevo_jax.config import Config
from selfevo_jax.model import ModelConfig, abstract_params
from selfevo_jax.plan.estimate import Phases, estimate_round
from selfevo_jax.plan.lengths import Lengths
from selfevo_jax.plan.programs import DECODE, EXTEND, TRAIN
from selfevo_jax.plan.roofline import Span, forward_flops, train_flops
from selfevo_jax.sample import SamplerMemory
from selfevo_jax.sample.floor import MachineRates, measure_rates, step_cost
from selfevo_jax.sample.memory import tree_bytes
from selfevo_jax.train import TrainSection


@dataclass(frozen=True)
class Shares:
    """Of the measured rates that programs reach, and the least seconds of a call."""

    decode: float
    extend: float
    train: float
    call: float


_CPU, _ACCELERATOR = Shares(0.29, 0.5, 0.6, 1e-3), Shares(0.8, 0.25, 0.5, 3e-4)
ASSUMED = "checkpoints, open-ended sets and servers are not counted"


@dataclass(frozen=True)
class Call:
    """One execution of a program (see plan.programs.Program)."""

    kind: str
    rows: int
    length: int

    @property
    def steps(self) -> int:
        return self.length if self.kind == DECODE else 1


@dataclass(frozen=True)
class Guessed:
    """A call and its time."""

    program: Call
    seconds: float

    @property
    def time(self) -> Span:
        return Span(self.seconds, self.seconds)

    @property
    def fits(self) -> bool:
        return True


@dataclass(frozen=True)
class Machine:
    """What is known of the devices that a run would have."""

    rates: MachineRates
    """Of all of them together, in the dtype of sampling."""
    train_rates: MachineRates
    shares: Shares
    devices: int

    @classmethod
    def measure(cls, config: Config, devices: Sequence[jax.Device]) -> Machine:
        """Takes a second or two."""
        cpu = devices[0].platform == "cpu"
        n = 1 if cpu else len(devices)  # virtual devices share the cores

        def rates(dtype: str) -> MachineRates:
            one = measure_rates(jax.local_devices()[0], dtype)
            return MachineRates(n * one.flops_per_second, n * one.bytes_per_second)

        return cls(rates(config.sampling.dtype), rates(config.learn.compute_dtype), _CPU if cpu else _ACCELERATOR, n)

    def __str__(self) -> str:
        r = self.rates
        return f"{r.flops_per_second / 1e9:,.0f} GFLOP/s, {r.bytes_per_second / 1e9:,.1f} GB/s"


def guess_round(
    config: Config,
    lengths: Lengths,
    memory: SamplerMemory,
    slots: int,
    machine: Machine,
    steps: tuple[int | None, int | None],
    evaluated: Mapping[int, int],
) -> Phases | None:
    """The time of a round.

    Args:
      lengths: of its texts.
      steps: of meta-skill learning and of a round's fine-tuning; None: not known, and then there is no estimate.
      evaluated: of a checkpoint's evaluation (see `estimate_round`).
    """
    if None in steps:
        return None
    meta, learn = (
        section.model_copy(update={"steps": n, "epochs": None})
        for section, n in zip((config.meta, config.learn), steps, strict=True)
    )
    counted = config.model_copy(update={"meta": meta, "learn": learn})
    model = memory.config
    programs = [
        *(_train(section, model, machine) for section in (meta, learn)),
        _extend(model, lengths, machine),
        _decode(memory, lengths, slots, machine),
    ]
    return estimate_round(counted, lengths, programs, slots, machine.devices, evaluated)


def _train(section: TrainSection, model: ModelConfig, machine: Machine) -> Guessed:
    tokens = section.batch_rows * section.length
    flops = train_flops(model, tokens, section.length, frozen=section.lora is not None)
    again = 4 / 3 if section.remat in ("full", "offload") else 1.0
    seconds = again * flops / (machine.shares.train * machine.train_rates.flops_per_second)
    return Guessed(Call(TRAIN, section.batch_rows, section.length), machine.shares.call + seconds)


def _extend(model: ModelConfig, lengths: Lengths, machine: Machine) -> Guessed:
    """Of one prompt."""
    tokens = max(1, lengths.prompt)
    flops = forward_flops(model, tokens, tokens / 2, predicted=1)
    seconds = flops / (machine.shares.extend * machine.rates.flops_per_second)
    return Guessed(Call(EXTEND, 1, tokens), machine.shares.call + seconds)


def _decode(memory: SamplerMemory, lengths: Lengths, slots: int, machine: Machine) -> Guessed:
    """Of one step of all slots."""
    position = memory.slot / memory.cache_length * memory.mesh.shape["tensor"]
    copies = 1 if machine.devices == 1 else machine.devices // memory.mesh.shape["tensor"]
    weights = tree_bytes(abstract_params(memory.config, memory.param_dtype))
    cost = step_cost(memory.config, slots, lengths.mean_context, weights, position, copies)
    floor = max(cost.flops / machine.rates.flops_per_second, cost.bytes / machine.rates.bytes_per_second)
    return Guessed(Call(DECODE, slots, 1), machine.shares.call + floor / machine.shares.decode)
