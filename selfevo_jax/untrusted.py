"""Files from strangers: read within bounds, and whatever is wrong with one is a single clear line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from etils import epath

from selfevo_jax.errors import ModelError, SelfevoError, first_line
from selfevo_jax.storage import place, storage_of

JSON_BYTES = 32 << 20
"""Of a JSON file beside a model; the largest real ones, indexes of sharded files, have a third of it."""


@contextmanager
def reading(path: object, what: str, *passing: type[Exception]) -> Iterator[None]:
    """Makes one ModelError, naming the file, of whatever a library raises at it. `passing` and our own errors pass."""
    try:
        yield
    except ModelError as error:
        if str(path) in str(error):
            raise
        raise ModelError(f"{path}: {error}") from error
    except BaseException as error:
        if isinstance(error, (SelfevoError, *passing)):
            raise
        # a panic in Rust (tokenizers, safetensors) is raised as something that is no Exception
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            found = f"{type(error).__name__}: {first_line(error)}"
            raise ModelError(f"{path}: not a readable {what} ({found}); fetch it again") from error
        raise


def read_bounded(
    path: epath.PathLike, most: int, kind: type[SelfevoError] = ModelError, remedy: str = "fetch it again"
) -> bytes:
    """The bytes of a file. Raises an error of `kind` when it is no plain file, or holds more than `most` bytes."""
    file = place(path)
    try:
        if not file.is_file():
            raise kind(f"{path}: no such file, or not a plain one; {remedy}")
        size = storage_of(file).size(file)
        if size > most:
            raise kind(f"{path}: has {size} bytes; at most {most} are read of such a file; {remedy}")
        return file.read_bytes()
    except OSError as error:
        raise kind(f"{path}: unreadable ({first_line(error)})") from error


def read_text(path: epath.PathLike, most: int) -> str:
    """The text of a file in UTF-8, its lines ended by `\\n`. Raises ModelError as `read_bounded`, or on other bytes."""
    try:
        return io.TextIOWrapper(io.BytesIO(read_bounded(path, most)), encoding="utf-8").read()
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not UTF-8 ({first_line(error)}); save the file as UTF-8") from error


def read_object(path: epath.PathLike) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError naming the file when it is not there, too large or malformed."""
    try:
        tree = json.loads(read_bounded(path, JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({first_line(error)}); fetch the file again") from error
    if not isinstance(tree, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(tree).__name__}; fetch the file again")
    return tree


def is_plain_name(name: object) -> bool:
    """Whether it can only name something inside the folder that it is looked up in."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")
