"""A config on a topology: its programs compiled, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jax.sharding import Mesh

from selfevo_jax.checkpoint import open_weights
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import ModelConfig, preset_shape
from selfevo_jax.plan.chips import Topology, find_topology
from selfevo_jax.plan.compiled import Compiled, Options, compile_program
from selfevo_jax.plan.estimate import Phases, estimate_round
from selfevo_jax.plan.lengths import Lengths
from selfevo_jax.plan.programs import (
    DECODE,
    EXTEND,
    TRAIN,
    Program,
    Sampler,
    open_sampler,
    sampler_programs,
    train_programs,
)
from selfevo_jax.plan.remedies import remedies
from selfevo_jax.sharding import make_mesh, sizes_of

NOTE = "compiled, not run"
PROGRAMS = (TRAIN, EXTEND, DECODE)

OnProgram = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Setting:
    """A config and a topology, ready to be compiled for."""

    config: Config
    model: ModelConfig
    topology: Topology
    mesh: Mesh


@dataclass(frozen=True)
class Plan:
    """What became of a config on a topology."""

    setting: Setting
    lengths: Lengths
    programs: tuple[Compiled, ...]
    sampler: Sampler | None
    """None where the slots asked for do not fit."""
    faults: tuple[str, ...] = ()
    """What could not even be compiled, one line each."""
    remedies: dict[str, list[str]] = field(default_factory=dict)
    """What to change, by the name of each program that does not fit."""

    @property
    def fits(self) -> bool:
        return not self.faults and all(p.fits for p in self.programs)

    def round(self) -> Phases | None:
        if self.sampler is None or self.faults:
            return None
        slots, chips = self.sampler.slots.slots, self.setting.topology.chips
        return estimate_round(self.setting.config, self.lengths, self.programs, slots, chips)


def read_shape(config: Config) -> ModelConfig:
    """The shape of `model.preset`, else that in the files of `model.source`; never weights, and no tokenizer."""
    preset = config.model.preset
    return open_weights(config.model.source)[0] if preset is None else preset_shape(preset)


def open_setting(config: Config, topology: str | Topology) -> Setting:
    """Reads the model's shape and lays the mesh over the topology.

    Raises ConfigError for an unknown topology or a mesh that does not divide it, ModelError for the model.
    """
    model = read_shape(config)
    found = find_topology(topology) if isinstance(topology, str) else topology
    m = config.mesh
    try:
        mesh = make_mesh(m.data, m.fsdp, m.tensor, devices=found.devices, groups=config.sampling.tensor)
    except ConfigError as error:
        raise ConfigError(f"{found.name}: {error}") from error
    if mesh.size != len(found.devices):
        raise ConfigError(
            f"{found.name}: mesh {sizes_of(mesh)} takes {mesh.size} of {len(found.devices)} devices; set one of "
            "mesh.data, mesh.fsdp and mesh.tensor to -1"
        )
    return Setting(config, model, found, mesh)


def plan(
    setting: Setting,
    programs: Sequence[str] = PROGRAMS,
    prompt: int | None = None,
    options: Options | None = None,
    on_program: OnProgram = lambda *_: None,
) -> Plan:
    """Compiles the programs of a setting, those of the kinds asked for.

    Args:
      programs: of PROGRAMS.
      prompt: tokens of a prompt; None assumes some (`Lengths.of`).
      options: of the TPU compiler.
      on_program: is called with (number done, of how many, name) before each program is compiled.
    """
    config, model, mesh = setting.config, setting.model, setting.mesh
    rates, lengths = setting.topology.rates, Lengths.of(config, prompt)
    todo: list[Program] = []
    faults: list[str] = []
    sampler: Sampler | None = None
    if TRAIN in programs:
        todo += train_programs(config, model, mesh)
    if EXTEND in programs or DECODE in programs:
        try:
            sampler = open_sampler(config, model, mesh, rates.hbm)
            todo += [p for p in sampler_programs(sampler, model, lengths) if p.kind in programs]
        except ConfigError as error:
            faults.append(str(error))
    done, help = [], {}
    for number, program in enumerate(todo):
        on_program(number, len(todo), program.name)
        found = compile_program(program, rates, setting.topology.slices, options)
        done.append(found)
        if not found.fits:
            help[program.name] = remedies(program, config)
    return Plan(setting, lengths, tuple(done), sampler, tuple(faults), help)
