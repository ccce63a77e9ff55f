"""Reads the text of an optimized HLO module: computations, instructions, shapes and layouts, and while trip counts."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from selfevo_jax.errors import SelfevoError

MOST_TRIPS = 1_000_000
"""A loop that goes on longer than this has an unknown trip count."""

_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128, "bf16": 16}


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    found = re.match(r"[a-z]+(\d+)", dtype)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Array:
    """The shape of one array, with its layout on the device."""

    dtype: str
    dims: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    """The first tile of the layout; the minor dimensions are stored in whole multiples of it."""
    space: int = 0
    """Memory space: 0 is HBM, 1 is VMEM, 5 the host's memory, others are scalar or flag memories."""

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes of the values."""
        return -(-self.size * _bits(self.dtype) // 8)

    @functools.cached_property
    def stored(self) -> int:
        """Bytes in memory, the padding to whole tiles included."""
        if not self.tile or len(self.minor_to_major) != len(self.dims):
            return self.bytes
        dims = list(self.dims)
        for tile, position in zip(reversed(self.tile), self.minor_to_major, strict=False):
            dims[position] = -(-dims[position] // tile) * tile
        return -(-math.prod(dims) * _bits(self.dtype) // 8)

    @property
    def hbm(self) -> int:
        """Bytes in HBM: `stored`, or nothing for an array that lies elsewhere."""
        return self.stored if self.space == 0 else 0

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=?]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,*]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_DIM = re.compile(r"\d+")


@functools.lru_cache(maxsize=1 << 16)
def parse_arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type, tuples flattened: `(bf16[8,128]{1,0:T(8,128)S(1)}, u32[])` gives two."""
    found = []
    for dtype, dims, layout in _ARRAY.findall(text):
        order, _, rest = layout.partition(":")
        tile, space = _TILE.search(rest), _SPACE.search(rest)
        found.append(
            Array(
                dtype,
                tuple(int(d) for d in _DIM.findall(dims)),
                tuple(int(d) for d in order.split(",") if d),
                tuple(int(t) for t in tile[1].split(",") if t.isdigit()) if tile else (),
                int(space[1]) if space else 0,
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    type: str
    operands: tuple[str, ...]
    literal: str
    """What stands between the parentheses where those are no operands: a constant, the number of a parameter."""
    attributes: str
    root: bool

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The results, a tuple flattened."""
        return parse_arrays(self.type)

    @property
    def is_tuple(self) -> bool:
        return self.type.startswith("(")

    def attribute(self, name: str) -> str | None:
        """The raw text of `name=...`, up to the comma that ends it at the outermost level."""
        at = self.attributes.find(f" {name}=")
        if at < 0:
            return None
        start = at + len(name) + 2
        return self.attributes[start : _end_of_value(self.attributes, start)]

    def called(self, *names: str) -> list[str]:
        """The computations that an attribute names, such as `calls=%f` or `branch_computations={%a, %b}`."""
        return [part.lstrip("%") for name in names for part in re.findall(r"%?[\w.\-]+", self.attribute(name) or "")]

    @property
    def op_name(self) -> str:
        """Where the instruction comes from in the traced program."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""


def _end_of_value(text: str, start: int) -> int:
    depth, at, quoted = 0, start, False
    while at < len(text):
        c = text[at]
        if c == '"':
            quoted = not quoted
        elif quoted:
            pass
        elif c in "{([":
            depth += 1
        elif c in "})]":
            depth -= 1
        elif c == "," and depth == 0:
            break
        at += 1
    return at


@dataclass
class Computation:
    """A named list of instructions; the root is its result."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    def __getitem__(self, name: str) -> Instruction:
        return self.instructions[name]

    @functools.cached_property
    def parameters(self) -> list[Instruction]:
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return sorted(found, key=lambda i: int(i.literal))

    @functools.cached_property
    def users(self) -> Mapping[str, list[Instruction]]:
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return found


@dataclass
class Module:
    """A whole program of one device."""

    computations: dict[str, Computation]
    entry: str
    devices: int


_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)(?: \(|\s*\{)")
_OPERAND = re.compile(r"%([\w.\-]+)")


def _matching(text: str, start: int) -> int:
    """The index behind the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, start):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.end()
    raise SelfevoError(f"HLO text: unbalanced parentheses in '{text[:80]}'")


def _parse_instruction(line: str) -> Instruction:
    found = _INSTRUCTION.match(line)
    assert found is not None
    at = found.end()
    end = _matching(line, at) if line[at] == "(" else line.index(" ", at)
    kind = line[at:end]
    opened = line.index("(", end)
    closed = _matching(line, opened)
    opcode, inside = line[end:opened].strip(), line[opened + 1 : closed - 1]
    plain = opcode in ("parameter", "constant", "iota", "rng-get-and-update-state")
    operands = () if plain else tuple(_OPERAND.findall(inside))
    return Instruction(found[2], opcode, kind, operands, inside, line[closed:], bool(found[1]))


def _joined(lines: list[str]) -> list[str]:
    """Instructions whole: the attributes of a kernel may hold line breaks."""
    found: list[str] = []
    for line in lines:
        if _INSTRUCTION.match(line):
            found.append(line)
        elif found:
            found[-1] += line
    return found


def parse(text: str) -> Module:
    """Reads `compiled.as_text()`. Raises SelfevoError where it is no HLO module."""
    computations: dict[str, Computation] = {}
    entry, current, held = "", None, list[str]()
    head = text[: text.find("\n")]
    for line in text.splitlines():
        if current is None:
            found = _HEADER.match(line)
            if found and line.rstrip().endswith("{") and "=" not in line.split("(", 1)[0]:
                current = Computation(found[2])
                computations[current.name] = current
                entry = current.name if found[1] else entry
        elif line.rstrip() == "}":
            for whole in _joined(held):
                instruction = _parse_instruction(whole)
                current.instructions[instruction.name] = instruction
                if instruction.root:
                    current.root = instruction.name
            current, held = None, []
        else:
            held.append(line)
    if not entry:
        raise SelfevoError(f"HLO text: no entry computation found (it begins '{head[:60]}')")
    partitions = re.search(r"num_partitions=(\d+)", head)
    replicas = re.search(r"replica_count=(\d+)", head)
    devices = (int(partitions[1]) if partitions else 1) * (int(replicas[1]) if replicas else 1)
    return Module(computations, entry, devices)


# --- scalars, for trip counts

Value = int | None
Scope = Callable[[int, int | None], Value]
"""(number of a parameter, element of its tuple or None) -> its value where it is known."""


def no_values(_: int, __: int | None) -> Value:
    return None


_BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a // b if b else 0,
    "remainder": lambda a, b: a % b if b else 0,
    "maximum": max,
    "minimum": min,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GE": lambda a, b: a >= b,
    "EQ": lambda a, b: a == b,
    "NE": lambda a, b: a != b,
}
_SAME = ("copy", "convert", "bitcast", "reshape", "copy-done", "copy-start", "optimization-barrier")


def scalar(module: Module, computation: Computation, name: str, scope: Scope, element: int | None = None) -> Value:
    """The value of an integer scalar (or of an element of a tuple), None where it is not known at compile time."""

    def of(operand: str, part: int | None = None) -> Value:
        return scalar(module, computation, operand, scope, part)

    i = computation[name]
    if i.opcode == "constant":
        text = {"true": "1", "false": "0"}.get(i.literal, i.literal)
        return int(text) if re.fullmatch(r"-?\d+", text) else None
    if i.opcode == "parameter":
        return scope(int(i.literal), element)
    if i.opcode == "get-tuple-element":
        return of(i.operands[0], int(i.attribute("index") or 0))
    if i.opcode == "tuple" and element is not None:
        return of(i.operands[element])
    if i.opcode in _SAME:
        return of(i.operands[0], element if i.opcode == "optimization-barrier" else None)
    if i.opcode in _BINARY:
        a, b = of(i.operands[0]), of(i.operands[1])
        return None if a is None or b is None else _BINARY[i.opcode](a, b)
    if i.opcode == "compare":
        a, b = of(i.operands[0]), of(i.operands[1])
        return None if a is None or b is None else int(_COMPARE[i.attribute("direction") or "EQ"](a, b))
    if i.opcode == "not":
        a = of(i.operands[0])
        return None if a is None else int(not a)
    if i.opcode == "negate":
        a = of(i.operands[0])
        return None if a is None else -a
    if i.opcode == "select":
        chosen = of(i.operands[0])
        return None if chosen is None else of(i.operands[1 if chosen else 2])
    if i.opcode in ("fusion", "call"):
        inner = module.computations[i.called("calls", "to_apply")[0]]
        return scalar(module, inner, inner.root, lambda n, part: of(i.operands[n], part), element)
    if i.opcode == "while" and element is not None and _invariant(module, i, element):
        return of(i.operands[0], element)
    return None


def _invariant(module: Module, loop: Instruction, element: int) -> bool:
    """Whether a loop hands an element of its state on as it is."""
    body = module.computations[loop.called("body")[0]]
    root = body[body.root]
    if root.opcode != "tuple":
        return False
    i = body[root.operands[element]]
    while i.opcode == "copy":
        i = body[i.operands[0]]
    passed = i.opcode == "get-tuple-element" and int(i.attribute("index") or 0) == element
    return passed and body[i.operands[0]].opcode == "parameter"


def body_scope(module: Module, computation: Computation, loop: Instruction, scope: Scope) -> Scope:
    """What is known inside a loop's body: the elements of its state that never change."""

    def known(_: int, element: int | None) -> Value:
        if element is None or not _invariant(module, loop, element):
            return None
        return scalar(module, computation, loop.operands[0], scope, element)

    return known


def trip_count(module: Module, computation: Computation, loop: Instruction, scope: Scope = no_values) -> Value:
    """How often a `while` runs its body, None where that is not known at compile time.

    XLA's own count where it stands in the text; else the loop's scalars are run: the initial values, the condition and
    what the body makes of the elements that the condition rests on.
    """
    told = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    if told:
        return int(told[1])
    condition = module.computations[loop.called("condition")[0]]
    body = module.computations[loop.called("body")[0]]
    state: dict[int, Value] = {}

    def of_state(_: int, element: int | None) -> Value:
        if element is None:
            return None
        if element not in state:
            state[element] = scalar(module, computation, loop.operands[0], scope, element)
        return state[element]

    trips, after = 0, dict[int, Value]()
    while trips <= MOST_TRIPS:
        going = scalar(module, condition, condition.root, of_state)
        if going is None:
            return None
        if not going:
            return trips
        known = 0
        while known != len(state):  # elements that the needed ones rest on become needed too
            known = len(state)
            after = {e: scalar(module, body, body.root, of_state, e) for e in list(state)}
        state.update(after)
        trips += 1
    return None
