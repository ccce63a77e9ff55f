"""The ways in which a file is broken, and the files of a run."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path


def _doubled(content: bytes) -> bytes:
    return content * 2 if content else b"x"


def _line_twice(content: bytes) -> bytes:
    *lines, rest = content.split(b"\n")
    return b"\n".join([*lines, *lines[-1:], rest]) if lines else _doubled(content)


def _flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else b"x"


WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda content: content[: len(content) // 2] if content else b"x",
    "flipped": _flipped,
    "deleted": lambda content: None,
    "doubled": _doubled,
    "a line twice": _line_twice,
}


def files(root: Path) -> list[str]:
    """Every file of a run, by its name."""
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def apply(file: Path, way: str) -> None:
    content = WAYS[way](file.read_bytes())
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


@contextlib.contextmanager
def broken(file: Path, way: str) -> Iterator[None]:
    """The file is broken in here, and whole again after it."""
    before = file.read_bytes()
    apply(file, way)
    try:
        yield
    finally:
        file.write_bytes(before)
