"""Rows from TensorFlow Datasets, read as `array_record` without TensorFlow.

A source `tfds:NAME/SPLIT` names a dataset known to tfds (prepared where `TFDS_DATA_DIR` says), or the folder of a
prepared version (the one that holds dataset_info.json). No code that comes with a dataset is imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from selfevo_jax.errors import DataError, first_line
from selfevo_jax.untrusted import read_object

PREFIX = "tfds:"
_KNOWN = "tensorflow_datasets.core.features."
"""Where the classes of features lie. tfds imports whatever module a features.json names."""


def _open(source: str) -> tuple[Any, str]:
    """The builder and the split of a source. Raises DataError when either is not there, or would import other code."""
    import tensorflow_datasets as tfds  # seconds to import, and seldom needed

    name, slash, split = source.removeprefix(PREFIX).rpartition("/")
    if not slash or not name or not split:
        raise DataError(source, None, None, "expected tfds:NAME/SPLIT, such as tfds:gsm8k/train")
    try:
        if (Path(name) / "dataset_info.json").is_file():
            _check_features(source, [epath.Path(name) / "features.json"])
            builder = tfds.builder_from_directory(name)
        else:
            _check_features(source, _files_of(source, name))
            builder = tfds.builder(name, file_format="array_record")
    except DataError:
        raise
    except Exception as error:
        problem = f"tfds knows no such dataset, and no prepared folder lies there ({first_line(error)})"
        raise DataError(source, None, None, problem) from None
    if split not in builder.info.splits:
        known = ", ".join(builder.info.splits) or "none: prepare the dataset first (download_and_prepare)"
        raise DataError(source, None, None, f"no split '{split}' is prepared; there are {known}")
    return builder, split


def _files_of(source: str, name: str) -> Iterator[epath.Path]:
    """Every features.json that tfds may read for a name. Raises DataError on the name of another's collection."""
    from tensorflow_datasets.core import naming
    from tensorflow_datasets.core.utils import file_utils

    parsed, options = naming.parse_builder_name_kwargs(name)
    if parsed.namespace is not None:
        problem = (
            f"'{parsed.namespace}:' datasets run code that comes with them; name one of tfds, or a prepared folder"
        )
        raise DataError(source, None, None, problem)
    if options.keys() - {"config", "version"} or options.get("config") == "..":
        raise DataError(source, None, None, "expected tfds:NAME/SPLIT with NAME, NAME:VERSION or NAME/CONFIG:VERSION")
    for folder in file_utils.list_data_dirs():
        for below in ("*", "*/*"):
            yield from (epath.Path(folder) / parsed.name).glob(f"{below}/features.json")


def _check_features(source: str, files: Iterable[epath.Path]) -> None:
    for file in files:
        for name in _classes(read_object(file)):
            if not isinstance(name, str) or not name.startswith(_KNOWN):
                problem = (
                    f"{file} names {str(name)[:100]!r}, which is no class of {_KNOWN.rstrip('.')}; prepare it again"
                )
                raise DataError(source, None, None, problem)


def _classes(node: Any) -> Iterator[str]:
    """What stands for the classes of features in a tree, in today's form (two spellings) and in the old one.

    The old one may hold a tree as text: that is given too, and is no name of a class.
    """
    for key, value in node.items() if isinstance(node, dict) else ():
        if key in ("pythonClassName", "python_class_name", "type", "content") and isinstance(value, str):
            yield value
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _classes(inner)


def _plain(value: Any) -> Any:
    """Text for bytes, Python numbers and lists for numpy's."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


def rows(source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, fields) of every row, in the order of the split."""
    builder, split = _open(source)
    number = 0
    try:
        for number, row in enumerate(builder.as_data_source(split), 1):
            yield number, _plain(row)
    except Exception as error:
        raise DataError(
            source, number + 1, None, f"not a readable row ({first_line(error)}); prepare it again"
        ) from error


def checksum(source: str) -> str:
    """Hex digest that changes with the dataset's version or the split's size."""
    builder, split = _open(source)
    info = builder.info.splits[split]
    text = f"{builder.info.full_name}/{split}/{info.num_examples}/{info.num_bytes}"
    return hashlib.sha256(text.encode()).hexdigest()
