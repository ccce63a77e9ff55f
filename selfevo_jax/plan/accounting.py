"""What one execution of a compiled program computes, moves and sends on one device, loops counted by their trips.

Counted: FLOPs of matrix products (other arithmetic is not), bytes that operations read from and write to HBM, bytes
that a device sends in collectives (ring algorithms), and calls of kernels, whose cost the caller knows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from selfevo_jax.plan.groups import Groups, MeshAxes, device_groups, permute_pairs, transfer_between_slices
from selfevo_jax.plan.hlo import (
    Array,
    Computation,
    Instruction,
    Module,
    Scope,
    body_scope,
    no_values,
    scalar,
    trip_count,
)
from selfevo_jax.plan.products import product_flops
from selfevo_jax.plan.traffic import hbm_bytes

COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_REDUCTIONS = ("reduce-scatter", "all-reduce", "all-to-all")
KERNEL = "tpu_custom_call"
_HOST = 5
_WITHOUT_COST = (
    "AllocateBuffer",
    "ZeroCrop",
    "AssumeGatherIndicesInBound",
    "AsyncCollectiveStart",
    "AsyncCollectiveDone",
    "Sharding",
    "SPMDFullToShardShape",
    "SPMDShardToFullShape",
    "LayoutConstraint",
    "MoveToHost",
    "MoveToDevice",
)


_AT_MOST = re.compile(r"at_most_(\d+)_trips")
"""The name scope of a loop whose trips depend on the data, with their limit."""


@dataclass(frozen=True)
class Collective:
    """A kind of collective over some mesh axes."""

    kind: str
    axes: str
    dcn: bool
    """Whether it goes from slice to slice, over the data-centre network."""
    part: str
    """`backward` for what the gradient asks for, else `forward`."""


@dataclass(frozen=True)
class Kernel:
    """A call of a Pallas kernel (or another custom call), with the shapes on one device."""

    name: str
    operands: tuple[Array, ...]
    results: tuple[Array, ...]


@dataclass(frozen=True)
class KernelCost:
    """Of one call on one device."""

    flops: float
    hbm_bytes: float


KernelRule = Callable[[Kernel], KernelCost | None]


@dataclass
class Totals:
    """Of one execution, on one device."""

    flops: float = 0.0
    """Of matrix products, those of kernels included."""
    kernel_flops: float = 0.0
    """Those of kernels alone."""
    hbm_bytes: float = 0.0
    collectives: Counter[Collective] = field(default_factory=Counter)
    """How often each is called."""
    sent: Counter[Collective] = field(default_factory=Counter)
    """Bytes that a device sends."""
    kernels: Counter[str] = field(default_factory=Counter)
    """Calls by name."""
    uncosted: Counter[str] = field(default_factory=Counter)
    """Calls of kernels and other custom calls whose FLOPs nobody knows; their operands and results are counted."""
    caveats: set[str] = field(default_factory=set)

    def add(self, other: Totals, times: float = 1.0) -> None:
        self.flops += times * other.flops
        self.kernel_flops += times * other.kernel_flops
        self.hbm_bytes += times * other.hbm_bytes
        for name in ("collectives", "sent", "kernels", "uncosted"):
            mine = getattr(self, name)
            for key, n in getattr(other, name).items():
                mine[key] += times * n
        self.caveats |= other.caveats

    def sent_by_kind(self) -> dict[str, float]:
        return _summed((c.kind, n) for c, n in self.sent.items())

    def sent_by_axes(self) -> dict[str, float]:
        return _summed((f"{c.kind} over {c.axes}", n) for c, n in self.sent.items())

    def calls_by_kind(self) -> dict[str, float]:
        return _summed((c.kind, n) for c, n in self.collectives.items())

    def gradient_reduction(self) -> dict[str, float]:
        """Bytes sent by sums over data, fsdp and slices in the backward pass, by kind: how gradients are reduced."""
        return _summed(
            (f"{c.kind} over slices" if c.dcn else c.kind, n)
            for c, n in self.sent.items()
            if c.kind in _REDUCTIONS and (c.dcn or (c.part == "backward" and {"data", "fsdp"} & set(c.axes.split("+"))))
        )

    @property
    def ici_bytes(self) -> float:
        return sum(n for c, n in self.sent.items() if not c.dcn)

    @property
    def dcn_bytes(self) -> float:
        return sum(n for c, n in self.sent.items() if c.dcn)


def _summed(pairs: object) -> dict[str, float]:
    found: Counter[str] = Counter()
    for key, n in pairs:  # type: ignore[attr-defined]
        found[key] += n
    return dict(sorted(found.items()))


def ring_bytes(kind: str, full: float, group: int) -> float:
    """Bytes that one device sends in a ring of `group` devices; `full` is the whole array (of a permute: what moves).

    All-gather, reduce-scatter and all-to-all: (n-1)/n of it; all-reduce, the two after each other: twice that.
    """
    if kind == "collective-permute":
        return full
    return full * (group - 1) / group * (2 if kind == "all-reduce" else 1)


@dataclass
class Accountant:
    """Adds up a module.

    Args:
      module: the parsed program of one device.
      mesh: its mesh, which names the collectives' axes.
      kernel_cost: cost of a kernel call, or None where it is not known.
      open_trips: trips of an outermost loop whose count is not known at compile time; inner ones count once.
    """

    module: Module
    mesh: MeshAxes
    kernel_cost: KernelRule = lambda _: None
    open_trips: int = 1

    def __post_init__(self) -> None:
        self._flops: dict[str, int] = {}
        # a collective that is begun in one fusion is named again in the fusions that overlap and that end it
        self._started = {
            _channel(i)
            for computation in self.module.computations.values()
            if _starts(computation)
            for i in computation.instructions.values()
            if _kind(i.opcode)
        }

    def totals(self) -> Totals:
        total = self._computation(self.module.computations[self.module.entry], no_values, open=False)
        if any(a.space == _HOST for a in self._arrays()):
            total.caveats.add("transfers to and from the host's memory take no time here")
        return total

    def _arrays(self) -> Iterator[Array]:
        for computation in self.module.computations.values():
            for i in computation.instructions.values():
                yield from i.arrays

    def _computation(self, computation: Computation, scope: Scope, open: bool) -> Totals:
        total = Totals()
        for i in computation.instructions.values():
            self._instruction(computation, i, scope, open, total)
        return total

    def _instruction(self, c: Computation, i: Instruction, scope: Scope, open: bool, total: Totals) -> None:
        module = self.module
        if i.opcode == "while":
            trips = trip_count(module, c, i, scope)
            inside_open = open
            if trips is None and (told := _AT_MOST.search(i.op_name)):
                trips = int(told[1])
                total.caveats.add(f"a loop ({i.op_name}) is counted {trips} times, the most that its data can ask for")
            elif trips is None:
                trips = 1 if open else self.open_trips
                inside_open = True
                total.caveats.add(
                    f"a loop ({i.op_name or i.name}) of unknown trip count is counted {trips} time{'s' * (trips != 1)}"
                )
            known = body_scope(module, c, i, scope)
            for name in i.called("body", "condition"):
                total.add(self._computation(module.computations[name], known, inside_open), trips)
        elif i.opcode == "conditional":
            names = i.called("branch_computations", "true_computation", "false_computation")
            branches = [self._computation(module.computations[name], no_values, open) for name in names]
            total.add(max(branches, key=lambda t: (t.flops, t.hbm_bytes)))
            total.caveats.add("a conditional counts as its costliest branch")
        elif i.opcode in ("call", "async-start"):
            for name in i.called("to_apply", "calls", "called_computation"):
                inner = module.computations[name]

                def passed(n: int, part: int | None) -> int | None:
                    return scalar(module, c, i.operands[n], scope, part) if n < len(i.operands) else None

                total.add(self._computation(inner, passed, open))
        else:
            self._leaf(c, i, total)

    def _leaf(self, c: Computation, i: Instruction, total: Totals) -> None:
        if i.opcode == "custom-call":
            self._custom_call(c, i, total)
            return
        total.hbm_bytes += hbm_bytes(self.module, c, i)
        if i.opcode == "fusion":
            for name in i.called("calls"):
                total.flops += self._fused_flops(name)
                self._fused_collectives(self.module.computations[name], i, total)
        else:
            total.flops += product_flops(c, i)
            if (kind := _kind(i.opcode)) is not None:
                self._collective(c, i, kind, i.op_name, total)
            elif (transfer := transfer_between_slices(i)) is not None:
                self._between_slices(c, i, *transfer, total)

    def _fused_flops(self, name: str) -> int:
        """Of a fused computation, with the fusions inside it."""
        if name not in self._flops:
            inner, found = self.module.computations[name], 0
            for i in inner.instructions.values():
                found += product_flops(inner, i)
                for called in i.called("calls") if i.opcode == "fusion" else ():
                    found += self._fused_flops(called)
            self._flops[name] = found
        return self._flops[name]

    def _fused_collectives(self, inner: Computation, fusion: Instruction, total: Totals) -> None:
        for i in inner.instructions.values():
            kind = _kind(i.opcode)
            if kind is None or (_channel(i) in self._started and not _starts(inner)):
                continue
            if kind == "all-reduce" and _sliced_at_once(inner, i):
                kind = "reduce-scatter"  # a sum of which each device keeps its own part: one fused operation on TPU
            self._collective(inner, i, kind, i.op_name or fusion.op_name, total)

    def _collective(self, c: Computation, i: Instruction, kind: str, origin: str, total: Totals) -> None:
        operands = sum(a.bytes for name in i.operands for a in c[name].arrays)
        if kind == "collective-permute":
            groups: Groups = _joined(permute_pairs(i))
            size, full = 2, operands
        else:
            groups = device_groups(i, self.module.devices)
            size = max(len(group) for group in groups)
            full = operands * (size if kind == "all-gather" else 1)
        if size < 2:
            return
        key = Collective(kind, self.mesh.name(groups), False, _part(origin))
        total.collectives[key] += 1
        total.sent[key] += ring_bytes(kind, full, size)  # type: ignore[assignment]

    def _between_slices(self, c: Computation, i: Instruction, kind: str, slices: int, total: Totals) -> None:
        held = sum(a.bytes for a in c[i.operands[0]].arrays)
        key = Collective(kind, "slices", True, _part(i.op_name))
        total.collectives[key] += 1
        full = held * (slices if kind == "all-gather" else 1)
        total.sent[key] += ring_bytes(kind if kind in COLLECTIVES else "collective-permute", full, slices)  # type: ignore[assignment]

    def _custom_call(self, c: Computation, i: Instruction, total: Totals) -> None:
        target = (i.attribute("custom_call_target") or "").strip('"')
        if target in _WITHOUT_COST:
            return
        told = re.search(r"kernel_name\W+(\w+)", i.attributes)
        name = target if target != KERNEL else told[1] if told else re.sub(r"[.\d]+$", "", i.name)
        kernel = Kernel(name, tuple(a for n in i.operands for a in c[n].arrays), i.arrays)
        cost = self.kernel_cost(kernel)
        total.kernels[name] += 1
        if cost is None:
            total.uncosted[name] += 1
            cost = KernelCost(0.0, sum(a.hbm for a in kernel.operands + kernel.results))
        total.flops += cost.flops
        total.kernel_flops += cost.flops
        total.hbm_bytes += cost.hbm_bytes


def account(module: Module, mesh: MeshAxes, kernel_cost: KernelRule | None = None, open_trips: int = 1) -> Totals:
    """Totals of one execution (see `Accountant`)."""
    return Accountant(module, mesh, kernel_cost or (lambda _: None), open_trips).totals()


def _part(origin: str) -> str:
    return "backward" if "transpose(" in origin else "forward"


def _kind(opcode: str) -> str | None:
    """The collective that an instruction begins; `-done` halves are none."""
    plain = opcode.removesuffix("-start")
    return plain if plain in COLLECTIVES else None


def _starts(computation: Computation) -> bool:
    return any('"AsyncCollectiveStart"' in i.attributes for i in computation.instructions.values())


def _channel(i: Instruction) -> str:
    return i.attribute("channel_id") or i.name


def _sliced_at_once(computation: Computation, i: Instruction) -> bool:
    """Whether the results of a sum are read by slices of them alone."""
    users = computation.users[i.name]
    return bool(users) and all(
        u.opcode in ("dynamic-slice", "slice")
        or (u.opcode in ("bitcast", "reshape", "get-tuple-element") and _sliced_at_once(computation, u))
        for u in users
    )


def _joined(pairs: Groups) -> Groups:
    """The sets of devices that pairs connect."""
    leader: dict[int, int] = {}

    def find(n: int) -> int:
        while leader.setdefault(n, n) != n:
            n = leader[n]
        return n

    for a, b in pairs:
        leader[find(a)] = find(b)
    sets: dict[int, list[int]] = {}
    for n in leader:
        sets.setdefault(find(n), []).append(n)
    return tuple(tuple(sorted(members)) for members in sets.values())
