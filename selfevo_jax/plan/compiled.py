"""What the TPU compiler makes of a program: memory of a device, costs, and what to change where it does not fit."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from selfevo_jax.errors import SelfevoError
from selfevo_jax.plan.accounting import Totals, account
from selfevo_jax.plan.chips import Rates
from selfevo_jax.plan.groups import MeshAxes
from selfevo_jax.plan.hlo import parse
from selfevo_jax.plan.programs import Program
from selfevo_jax.plan.roofline import Roofline, Span, utilisation

Options = Mapping[str, str | bool | int]
"""Of the TPU compiler, such as `xla_jf_spmd_threshold_for_windowed_einsum_mib`."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one device; the parts add up to the total."""

    parts: Mapping[str, int]
    held: int
    """Beside the program: copies of the parameters that the run keeps."""
    host: int = 0
    """Of the host's memory, for what is offloaded."""

    @property
    def total(self) -> int:
        """Arguments, outputs that are no arguments' buffers, and temporaries."""
        return sum(self.parts.values())

    @property
    def needed(self) -> int:
        return self.total + self.held


def memory_of(program: Program, stats: Any) -> Memory:
    """Splits `compiled.memory_analysis()` into what the program is known to hold."""
    arguments, temporaries = stats.argument_size_in_bytes, stats.temp_size_in_bytes
    known = program.parameters + program.optimizer + program.cache
    gradients = min(program.gradients, temporaries)
    host = stats.host_argument_size_in_bytes + stats.host_temp_size_in_bytes + stats.host_output_size_in_bytes
    return Memory(
        {
            "parameters": program.parameters,
            "optimizer": program.optimizer,
            "gradients": gradients,
            "cache": program.cache,
            "batch": arguments - known,  # and what layouts pad
            "temporaries": temporaries - gradients,
            "outputs": stats.output_size_in_bytes - stats.alias_size_in_bytes,
        },
        program.held,
        host - stats.host_alias_size_in_bytes,
    )


@dataclass(frozen=True)
class Refusal:
    """Why a program cannot run on a device."""

    needed: int | None
    available: int
    why: str

    @property
    def over(self) -> int | None:
        return None if self.needed is None else self.needed - self.available


@dataclass(frozen=True)
class Compiled:
    """A program's figures: compiled, not run. Of a program that was refused, the reason."""

    program: Program
    seconds: float
    """Spent by the compiler."""
    memory: Memory | None = None
    totals: Totals | None = None
    roofline: Roofline | None = None
    refusal: Refusal | None = None

    @property
    def fits(self) -> bool:
        return self.refusal is None

    @property
    def time(self) -> Span | None:
        """Of one execution."""
        return None if self.roofline is None else self.roofline.seconds

    def tokens_per_second(self) -> Span | None:
        """Over all devices, from the slower to the faster end."""
        if self.time is None:
            return None
        return Span(self.program.tokens / self.time.high, self.program.tokens / self.time.low)

    def mfu(self, rates: Rates, devices: int) -> Span | None:
        if self.time is None:
            return None
        return utilisation(self.program.model_flops, self.time, rates, devices)


def compile_program(program: Program, rates: Rates, slices: int = 1, options: Options | None = None) -> Compiled:
    """Compiles a program and reads its costs. One that does not fit comes back with a refusal; others are raised."""
    begin = time.monotonic()
    lowered = program.lower()
    try:
        compiled = lowered.compile(compiler_options=dict(options) if options else None)
    except Exception as error:
        refusal = read_refusal(str(error), rates)
        if refusal is None:
            if options and "No such" in str(error):
                raise SelfevoError(f"compiler options {dict(options)}: {str(error).splitlines()[0]}") from error
            raise
        return Compiled(program, time.monotonic() - begin, refusal=refusal)
    memory = memory_of(program, compiled.memory_analysis())
    mesh = MeshAxes(dict(program.mesh.shape)).within_slice(slices)
    text, caveats = _text(lowered, compiled, options)
    totals = None if text is None else account(parse(text), mesh, program.kernel_cost, program.steps)
    if totals is not None:
        totals.caveats.update(caveats)
    refusal = None
    if memory.needed > rates.hbm:
        why = "beside the copies of the parameters that a run keeps" if memory.total <= rates.hbm else "in HBM"
        refusal = Refusal(memory.needed, int(rates.hbm), f"does not fit {why}")
    roofline = None if totals is None else Roofline.of(totals, rates)
    return Compiled(program, time.monotonic() - begin, memory, totals, roofline, refusal)


_ON_TENSOR_CORE = {"xla_tpu_offload_gather_to_sparsecore": "false"}


def _text(lowered: Any, compiled: Any, options: Options | None) -> tuple[str | None, set[str]]:
    """The optimized HLO, and what is to be said of it; None where it cannot be read back at all (a mixture's on v6e).

    jaxlib 0.10 cannot read programs whose gathers libtpu gives to the SparseCore (v6e); those are compiled once more
    without that, to be counted. Their memory is the same to within a few bytes.
    """
    try:
        return compiled.as_text(), set()
    except jax.errors.JaxRuntimeError:
        plain = lowered.compile(compiler_options={**(options or {}), **_ON_TENSOR_CORE})
    try:
        return plain.as_text(), {"gathers that the compiler gives to the SparseCore are counted as the TensorCore's"}
    except jax.errors.JaxRuntimeError:
        return None, set()


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)i?B?"
_REFUSALS = (
    # libtpu of 2025 and later: E1000
    re.compile(rf"total memory required for [^(]*\({_SIZE}\) exceeds available HBM \({_SIZE}\)"),
    # before
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm"),
)


def read_refusal(message: str, rates: Rates) -> Refusal | None:
    """Reads the TPU compiler's message that a program needs more HBM than there is; None for any other message."""
    for pattern in _REFUSALS:
        if (found := pattern.search(message)) is not None:
            needed, available = (int(float(found[n]) * _UNITS[found[n + 1]]) for n in (1, 3))
            return Refusal(needed, available, "the compiler refuses it: it does not fit in HBM")
    if "RESOURCE_EXHAUSTED" in message:
        return Refusal(None, int(rates.hbm), f"the compiler refuses it: {message.splitlines()[0]}")
    return None
