"""Which devices take part in a collective: replica groups in all of HLO's notations, and the mesh axes they are."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from selfevo_jax.plan.hlo import Instruction

Groups = tuple[tuple[int, ...], ...]


def device_groups(i: Instruction, devices: int) -> Groups:
    """The groups of a collective, as partition numbers; an empty list means that all take part.

    Notations: `{{0,1},{2,3}}`, `[2,4]<=[4,2]T(1,0)` (an iota, reshaped and transposed), and
    `mesh['a'=2,'b'=4] {'b'}` (axes of a named mesh, also parts of axes such as `'b':(1)2`).
    """
    text = i.attribute("replica_groups") or ""
    found = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if found:
        shape, of, order = ([int(n) for n in part.split(",")] if part else [] for part in found.groups())
        ids = np.arange(math.prod(of)).reshape(of)
        return _rows((ids.transpose(order) if order else ids).reshape(-1, shape[-1]))
    if text.startswith("mesh["):
        start = i.attributes.index("mesh[")
        return _of_named_axes(i.attributes[start : i.attributes.index("}", start) + 1])
    lists = re.findall(r"\{([\d,\s]+)\}", text)
    return tuple(tuple(int(n) for n in part.split(",")) for part in lists) or (tuple(range(devices)),)


def _rows(ids: np.ndarray) -> Groups:
    return tuple(tuple(row) for row in ids.tolist())


def _of_named_axes(text: str) -> Groups:
    sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", text)}
    # device_ids: the devices lie in another order than their numbers
    order = re.search(r"device_ids=\(?\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    chosen = text[text.rindex("{") :]
    shape: list[int] = []
    names: list[tuple[str, bool]] = []  # (axis, whether it takes part)
    used = {name: (int(before or 1), int(n or 0)) for name, before, n in _PART.findall(chosen)}
    for name, size in sizes.items():
        if name not in used:
            parts = [(size, False)]
        else:
            before, n = used[name]
            n = n or size
            parts = [(before, False), (n, True), (size // (before * n), False)]
        shape += [n for n, _ in parts]
        names += [(name, takes) for _, takes in parts]
    ids = np.arange(math.prod(shape))
    if order:
        of = [int(n) for n in order[1].split(",")]
        moved = ids.reshape(of).transpose([int(n) for n in order[2].split(",")]) if order[2] else ids
        ids = moved.reshape(-1)
    ids = ids.reshape(shape)
    takes = [at for at, (_, t) in enumerate(names) if t]
    rest = [at for at, (_, t) in enumerate(names) if not t]
    return _rows(ids.transpose(rest + takes).reshape(-1, math.prod(shape[at] for at in takes)))


_PART = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


def permute_pairs(i: Instruction) -> Groups:
    """(source, target) of a collective-permute."""
    text = i.attribute("source_target_pairs") or ""
    return tuple((int(a), int(b)) for a, b in re.findall(r"\{(\d+),(\d+)\}", text))


@dataclass(frozen=True)
class MeshAxes:
    """The axes of the mesh that a program runs on; partition n of the program is device n of it."""

    sizes: Mapping[str, int]

    def within_slice(self, slices: int) -> MeshAxes:
        """The part of the mesh that lies on one of so many slices, the outermost axes going over them."""
        sizes, left = dict(self.sizes), slices
        for name, size in sizes.items():
            shared = math.gcd(size, left)
            sizes[name], left = size // shared, left // shared
        return MeshAxes(sizes)

    def name(self, groups: Groups) -> str:
        """The axes that groups run over, such as `fsdp` or `data+fsdp`; `mixed` for groups that are no axes."""
        wanted = {frozenset(group) for group in groups}
        ids = np.arange(math.prod(self.sizes.values())).reshape(tuple(self.sizes.values()))
        names = [name for name, size in self.sizes.items() if size > 1]
        at = {name: position for position, name in enumerate(self.sizes)}
        for count in range(1, len(names) + 1):
            for chosen in itertools.combinations(names, count):
                takes = [at[name] for name in chosen]
                rest = [p for p in range(ids.ndim) if p not in takes]
                rows = ids.transpose(rest + takes).reshape(-1, math.prod(self.sizes[n] for n in chosen))
                if {frozenset(row) for row in rows.tolist()} == wanted:
                    return "+".join(chosen)
        return "mixed"


def transfer_between_slices(i: Instruction) -> tuple[str, int] | None:
    """Kind and number of slices of a `send` that belongs to a collective over slices, None for other instructions.

    Each slice is a program of its own for XLA: it hands such data to the host's runtime, which reduces or gathers it
    over the data-centre network. The targets read `{1,2}x{0:3}`, slices and devices.
    """
    kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', i.attributes)
    if i.opcode != "send" or kind is None:
        return None
    target = re.search(r'_xla_megascale_target="\{([^}]*)\}', i.attributes)
    slices = 0
    for part in (target[1] if target else "1:2").split(","):
        first, _, last = part.partition(":")
        slices += int(last or first) - int(first) + 1
    return kind[1].lower().replace("_", "-"), slices
