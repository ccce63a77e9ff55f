"""Tries mesh shapes, rows and recomputation for the training step, and orders what fits by tokens a second."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import jax

from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.model import Remat
from selfevo_jax.plan.chips import Topology
from selfevo_jax.plan.compiled import Compiled, Options, compile_program
from selfevo_jax.plan.planner import Setting, open_setting
from selfevo_jax.plan.programs import TRAIN, train_program
from selfevo_jax.train import train_settings

MOST_COMPILES = 12
_REMAT = ("none", "minimal", "full")


@dataclass(frozen=True)
class Candidate:
    """A mesh and a way to train on it."""

    mesh: tuple[int, int, int]
    """data, fsdp, tensor."""
    batch_rows: int
    remat: str

    def needs_more_than(self, other: Candidate) -> bool:
        """Whether it needs at least the memory of the other, as can be told without compiling."""
        policies = get_args(Remat)
        keeps_more = policies.index(self.remat) <= policies.index(other.remat)
        return self.mesh == other.mesh and self.batch_rows >= other.batch_rows and keeps_more

    def overrides(self) -> dict[str, int | str]:
        """Of the config, as `key=value`."""
        data, fsdp, tensor = self.mesh
        found: dict[str, int | str] = {"mesh.data": data, "mesh.fsdp": fsdp, "mesh.tensor": tensor}
        return found | {"learn.batch_rows": self.batch_rows, "learn.remat": self.remat}


@dataclass(frozen=True)
class Tried:
    """A candidate and what the compiler made of it."""

    candidate: Candidate
    compiled: Compiled | None
    fault: str | None = None
    """Why it could not be compiled at all."""

    @property
    def fits(self) -> bool:
        return self.compiled is not None and self.compiled.fits

    @property
    def tokens_per_second(self) -> float:
        """Over all devices, in the middle of the range (its geometric mean); 0 where it does not fit."""
        span = self.compiled.tokens_per_second() if self.compiled is not None and self.fits else None
        return 0.0 if span is None else (span.low * span.high) ** 0.5


def candidates(config: Config, devices: int, remats: Sequence[str] = _REMAT, slices: int = 1) -> list[Candidate]:
    """Meshes (fsdp first, then with some tensor or data parallelism), rows (as set, times 2, 4 and 1/2) and remats.

    In the order to try them in: few changes to the config first. `devices` are those of each of so many slices.
    """
    section = config.learn
    policies = [section.remat, *(r for r in remats if r != section.remat)]
    found: dict[Candidate, int] = {}
    for (m, mesh), (r, rows), (p, remat) in itertools.product(
        enumerate(_meshes(config, devices)), enumerate(_rows(section.batch_rows)), enumerate(policies)
    ):
        shards = slices * mesh[0] * mesh[1]
        if rows % (shards * section.accumulate) == 0:
            found.setdefault(Candidate(mesh, rows, remat), m + r + p)
    return sorted(found, key=lambda candidate: found[candidate])


def _rows(rows: int) -> Iterator[int]:
    yield rows
    yield rows * 2
    yield rows * 4
    if rows % 2 == 0:
        yield rows // 2


def _meshes(config: Config, devices: int) -> list[tuple[int, int, int]]:
    """The config's own mesh, all fsdp, and halves of it given to tensor or data."""
    m = config.mesh
    sizes = {"data": m.data, "fsdp": m.fsdp, "tensor": m.tensor}
    fixed = 1
    for size in sizes.values():
        fixed *= size if size > 0 else 1
    own = tuple(size if size > 0 else devices // fixed for size in sizes.values())
    found = [own, (1, devices, 1)]
    for ways in (2, 4, 8):
        if devices % ways == 0:
            found += [(1, devices // ways, ways), (ways, devices // ways, 1)]
    found.append((devices, 1, 1))
    return [mesh for mesh in dict.fromkeys(found) if mesh[0] * mesh[1] * mesh[2] == devices]  # type: ignore[misc]


def search(
    config: Config,
    topology: Topology,
    most: int = MOST_COMPILES,
    options: Options | None = None,
    on_compile: Callable[[int, int, Candidate], None] = lambda *_: None,
) -> list[Tried]:
    """Compiles the training step of up to `most` candidates; those that fit first, the fastest first of all.

    One that needs more than another that did not fit is passed over.
    `on_compile(done, total, candidate)` is called before each. Ctrl-C ends it with what it has by then, if anything.
    """
    chosen = candidates(config, len(topology.devices) // topology.slices, slices=topology.slices)
    total = min(most, len(chosen))
    tried: list[Tried] = []
    try:
        for candidate in chosen:
            if len(tried) == total:
                break
            too_large = [t.candidate for t in tried if t.compiled is not None and not t.fits]
            if any(map(candidate.needs_more_than, too_large)):
                continue
            on_compile(len(tried), total, candidate)
            tried.append(_try(config, topology, candidate, options))
    except KeyboardInterrupt:
        if not tried:
            raise
    return sorted(tried, key=lambda t: (not t.fits, -t.tokens_per_second))


def _try(config: Config, topology: Topology, candidate: Candidate, options: Options | None) -> Tried:
    data, fsdp, tensor = candidate.mesh
    changed = config.model_copy(
        update={"mesh": config.mesh.model_copy(update={"data": data, "fsdp": fsdp, "tensor": tensor})}
    )
    changes: dict[str, Any] = {"batch_rows": candidate.batch_rows, "remat": candidate.remat}
    try:
        settings = dataclasses.replace(train_settings(config.learn, config.seed), **changes)
        setting: Setting = open_setting(changed, topology)
        program = train_program(TRAIN, changed, setting.model, settings, setting.mesh)
        return Tried(candidate, compile_program(program, topology.rates, topology.slices, options))
    except ConfigError as error:
        return Tried(candidate, None, str(error))
    except jax.errors.JaxRuntimeError as error:  # the others are still worth trying
        return Tried(candidate, None, str(error).splitlines()[0])
