"""Bytes that an operation moves between HBM and the chip: its operands and results where they lie in HBM.

Inside a fusion nothing is moved. What a fusion only slices is read as the slice, what it updates in place is written
as the update, and arrays in VMEM cost nothing.
"""

from __future__ import annotations

import re

from selfevo_jax.plan.hlo import Array, Computation, Instruction, Module

_FREE = (
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "optimization-barrier",
    "add-dependency",
    "domain",
    "copy-done",
    "slice-done",
    "async-done",
    "async-update",
    "all-gather-done",
    "all-reduce-done",
    "collective-permute-done",
    "send-done",
    "recv-done",
)
_SLICES = ("dynamic-slice", "slice", "gather")
_VIEWS = ("bitcast", "reshape", "copy", "convert", "transpose")
_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def hbm_bytes(module: Module, c: Computation, i: Instruction) -> int:
    """Bytes read from and written to HBM by one execution of an instruction (loops and calls aside)."""
    if i.opcode in _FREE:
        return 0
    if i.opcode == "fusion":
        return _fusion(module, c, i)
    operands = [c[name].arrays for name in i.operands]
    if i.opcode in _SLICES:
        made = i.arrays[0]
        read = made.stored if operands[0][0].space == 0 else 0
        return read + made.hbm + sum(a.hbm for arrays in operands[1:] for a in arrays)
    if i.opcode in ("dynamic-update-slice", "scatter"):
        update = operands[1 if i.opcode == "dynamic-update-slice" else 2][0]
        touched = update.stored if i.arrays[0].space == 0 else 0
        again = touched if i.opcode == "scatter" else 0  # a scatter reads what it adds to
        return update.hbm + touched + again
    if i.opcode in ("send", "recv"):
        return (operands[0] if i.opcode == "send" else i.arrays)[0].hbm
    if i.opcode.endswith("-start"):
        # a copy lists (result, operand, flags), all others (operand, result, flags)
        results = i.arrays[:1] if i.opcode == "copy-start" else i.arrays[len(operands) : 2 * len(operands)]
        read = sum(a.hbm for arrays in operands for a in arrays)
        if i.opcode == "slice-start":
            read = sum(a.stored for a in results) if operands[0][0].space == 0 else 0
        return read + sum(a.hbm for a in results)
    return sum(a.hbm for arrays in operands for a in arrays) + sum(a.hbm for a in i.arrays)


def _fusion(module: Module, c: Computation, i: Instruction) -> int:
    inner = module.computations[i.called("calls")[0]]
    read = 0
    for parameter, name in zip(inner.parameters, i.operands, strict=True):
        arrays = c[name].arrays
        if len(arrays) == 1 and arrays[0].space == 0:
            read += _read(module, inner, parameter.name, arrays[0])
    root = inner[inner.root]
    elements = root.operands if root.opcode == "tuple" else (root.name,)
    aliased = _aliased(i)
    written = 0
    for number, made in enumerate(i.arrays):
        if made.space != 0 or (number if i.is_tuple else None) in aliased:
            continue
        source = elements[number] if len(elements) == len(i.arrays) else root.name
        written += _written(module, inner, source, made)
    return read + written


def _read(module: Module, inner: Computation, name: str, array: Array) -> int:
    """Bytes of an operand that a fused computation reads."""
    total = 0
    for user in inner.users[name]:
        if user.opcode in _SLICES and user.operands[0] == name:
            total += user.arrays[0].bytes
        elif user.opcode in ("dynamic-update-slice", "scatter") and user.operands[0] == name:
            # in place; a scatter reads what it adds to
            total += inner[user.operands[2]].arrays[0].bytes if user.opcode == "scatter" else 0
        elif user.opcode in ("bitcast", "reshape"):
            total += _read(module, inner, user.name, array)
        elif user.opcode == "tuple" or (user.opcode in _COLLECTIVES and not _begins(inner)):
            continue  # handed on as it is
        elif user.opcode == "custom-call":
            continue
        elif user.opcode == "fusion":
            nested = module.computations[user.called("calls")[0]]
            for parameter, operand in zip(nested.parameters, user.operands, strict=True):
                if operand == name:
                    total += _read(module, nested, parameter.name, array)
                    if _views(nested, nested.root, parameter.name):
                        total += _read(module, inner, user.name, array)
        else:
            return array.stored
    return min(total, array.stored)


def _views(computation: Computation, name: str, of: str) -> bool:
    """Whether an instruction is another one, or a view of it."""
    while name != of and computation[name].opcode in ("bitcast", "reshape"):
        name = computation[name].operands[0]
    return name == of


def _begins(inner: Computation) -> bool:
    """Whether the collectives named in a fusion are done, or begun, by it (and not just passed through)."""
    targets = {x.attribute("custom_call_target") for x in inner.instructions.values() if x.opcode == "custom-call"}
    return '"AsyncCollectiveStart"' in targets or not _passes_through(inner, targets)


def _passes_through(inner: Computation, targets: set[str | None]) -> bool:
    return '"AsyncCollectiveDone"' in targets or inner.name.startswith("async_collective_fusion")


def _written(module: Module, inner: Computation, source: str, made: Array) -> int:
    """Bytes of one result that a fused computation writes."""
    i = inner[source]
    while i.opcode in _VIEWS and i.operands:
        i = inner[i.operands[0]]
    if i.opcode == "parameter" and inner[source].opcode in ("parameter", "bitcast"):
        return 0  # handed on as it is
    if i.opcode == "fusion" and not i.is_tuple:
        nested = module.computations[i.called("calls")[0]]
        updated = _updated(nested, nested.root)
        if updated is not None and _updated(inner, i.operands[nested.parameters.index(updated)]) is not None:
            return _written(module, nested, nested.root, made)
    if i.opcode in ("dynamic-update-slice", "scatter"):
        update = inner[i.operands[1 if i.opcode == "dynamic-update-slice" else 2]].arrays[0]
        if _updated(inner, i.operands[0]) is not None:
            return min(update.bytes, made.stored)
    if i.opcode in _COLLECTIVES and _passes_through(inner, set()):
        return 0  # the fusion that ends it hands its result on
    return made.stored


def _updated(inner: Computation, name: str) -> Instruction | None:
    """The operand of the fusion that an array is, updated or not: of it only the updates are written."""
    i = inner[name]
    while i.opcode in ("bitcast", "reshape", "dynamic-update-slice", "scatter"):
        i = inner[i.operands[0]]
    return i if i.opcode == "parameter" else None


def _aliased(i: Instruction) -> set[int | None]:
    """Results that lie in an operand's buffer of a `kCustom` fusion, which has them there already."""
    text = i.attribute("output_to_operand_aliasing") if "kind=kCustom" in i.attributes else None
    return {int(n) if n else None for n in re.findall(r"\{(\d*)\}: \(", text or "")}
