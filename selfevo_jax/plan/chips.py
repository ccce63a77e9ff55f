"""TPU chips as they are published, and topologies of them that the TPU compiler knows without a chip.

Nothing here imports jax before it is asked for devices: `prepare_compiler` has to be called first.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.lazy import install

if TYPE_CHECKING:
    import jax

_GIB = 2**30

SETTINGS: Mapping[str, str] = {
    "JAX_PLATFORMS": "cpu",  # nothing runs on an accelerator, and one that is busy elsewhere is not waited for
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile at a time
}
"""What the TPU compiler has to be told on a machine without a TPU."""


def prepare_compiler() -> None:
    """Sets the environment of the TPU compiler, before jax starts, and for this process alone.

    Raises SelfevoError when libtpu, the compiler, is not installed or jax has already been imported.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise SelfevoError(
            f"the TPU compiler (libtpu) is not installed; pip install libtpu, or {install('tpu')}. It needs no TPU"
        )
    if "jax" in sys.modules and os.environ.get("JAX_PLATFORMS") != "cpu":
        raise SelfevoError("jax has already started in this process; a plan needs a process of its own")
    os.environ.update(SETTINGS)


@dataclass(frozen=True)
class Chip:
    """Published figures of one chip."""

    name: str
    flops: float
    """bfloat16 products, FLOP/s at peak."""
    hbm: float
    """Bytes that a program can use."""
    hbm_bytes: float
    """Bytes a second."""
    link_bytes: float
    """Bytes a second that one ICI link carries in one direction."""
    links: int
    dcn_bytes: float
    """Bytes a second of a chip to other slices, over the data-centre network."""
    source: str


# Google Cloud documentation, https://docs.cloud.google.com/tpu/docs/ (v4, v5e, v5p, v6e, tpu7x). ICI is given there as
# GB/s of a chip over all its links in both directions, so a link in one direction has that / links / 2; DCN as Gbit/s a
# chip (v5e: 6.4 Tbit/s a pod of 256). v4's links: 50 GB/s, Jouppi et al., arXiv 2304.01433; its DCN is not given, and
# taken as v5p's. Usable HBM of v5e and v6e is what the compiler refuses programs above; the others are nominal.
CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * _GIB, 1200e9, 50e9, 6, 6.25e9, "tpu/docs/v4; arXiv 2304.01433"),
        Chip("v5e", 197e12, 15.75 * _GIB, 819e9, 400e9 / 8, 4, 3.125e9, "tpu/docs/v5e"),
        Chip("v5p", 459e12, 95 * _GIB, 2765e9, 1200e9 / 12, 6, 6.25e9, "tpu/docs/v5p"),
        Chip("v6e", 918e12, 31.24 * _GIB, 1638e9, 800e9 / 8, 4, 12.5e9, "tpu/docs/v6e"),
        Chip("tpu7x", 2307e12, 192 * _GIB, 7380e9, 1200e9 / 12, 6, 12.5e9, "tpu/docs/tpu7x"),
    )
}


@dataclass(frozen=True)
class Topology:
    """Slices of chips that are not here."""

    name: str
    """As it was asked for, such as `v5e:4x4` or `v5e:4x4*2`."""
    chip: Chip
    shape: tuple[int, ...]
    """Chips of a slice along each axis of the torus."""
    slices: int
    devices: tuple[Any, ...]
    """jax devices, slice after slice."""

    @property
    def chips(self) -> int:
        return math.prod(self.shape) * self.slices

    @property
    def per_chip(self) -> int:
        """Devices of a chip: 2 where its cores are programmed apart (v4 here, tpu7x), else 1."""
        return len(self.devices) // self.chips

    @property
    def rates(self) -> Rates:
        """Of one device."""
        c, n = self.chip, self.per_chip
        # a ring over one axis of the torus sends in both directions, over two links
        return Rates(c.flops / n, c.hbm / n, c.hbm_bytes / n, 2 * c.link_bytes / n, c.dcn_bytes / n)


@dataclass(frozen=True)
class Rates:
    """Peaks of one device: FLOP/s, bytes of HBM, and bytes a second of HBM, ICI and DCN."""

    flops: float
    hbm: float
    hbm_bytes: float
    ici_bytes: float
    dcn_bytes: float


_NAME = re.compile(r"([a-z0-9]+):(\d+(?:x\d+){1,2})(?:\*(\d+))?")


def find_topology(name: str) -> Topology:
    """The devices of `CHIP:AxB[xC][*SLICES]`, such as `v5e:4x4`, `v5p:2x2x4` or `v6e:16x16*2`.

    Raises ConfigError for a chip or shape that the compiler does not know.
    """
    found = _NAME.fullmatch(name.strip().lower())
    if found is None or found[1] not in CHIPS:
        raise ConfigError(
            f"--topology {name}: expected CHIP:AxB (v5e, v6e) or CHIP:AxBxC (v4, v5p, tpu7x) with *N for N slices, "
            f"such as v5e:4x4, v5p:2x2x4 or v6e:16x16*2; chips: {', '.join(CHIPS)}"
        )
    shape = tuple(int(n) for n in found[2].split("x"))
    slices = int(found[3] or 1)
    return Topology(name, CHIPS[found[1]], shape, slices, _devices(name, found[1], found[2], shape, slices))


def _devices(name: str, chip: str, layout: str, shape: tuple[int, ...], slices: int) -> tuple[jax.Device, ...]:
    from jax.experimental import topologies

    options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
    if math.prod(shape) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=f"{chip}:{layout}", **options).devices
    except Exception as error:
        raise ConfigError(
            f"--topology {name}: the TPU compiler does not know it ({str(error).splitlines()[0]}). Known are, among "
            "others, v5e and v6e: 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16; v4, v5p and tpu7x: 2x2x1, 2x2x2, 2x2x4, "
            "2x4x4, 4x4x4"
        ) from error
    return tuple(sorted(devices, key=lambda d: (getattr(d, "slice_index", 0) or 0, d.id)))
