"""Rows from TensorFlow Datasets, read as `array_record` without TensorFlow.

A source `tfds:NAME/SPLIT` names a dataset known to tfds (prepared where `TFDS_DATA_DIR` says), or the folder of a
prepared version (the one that holds dataset_info.json).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from selfevo_jax.errors import DataError

PREFIX = "tfds:"


def _open(source: str) -> tuple[Any, str]:
    """The builder and the split of a source. Raises DataError when either is not there."""
    import tensorflow_datasets as tfds  # seconds to import, and seldom needed

    name, slash, split = source.removeprefix(PREFIX).rpartition("/")
    if not slash or not name or not split:
        raise DataError(source, None, None, "expected tfds:NAME/SPLIT, such as tfds:gsm8k/train")
    try:
        if (Path(name) / "dataset_info.json").is_file():
            builder = tfds.builder_from_directory(name)
        else:
            builder = tfds.builder(name, file_format="array_record")
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        problem = f"tfds knows no such dataset, and no prepared folder lies there ({first})"
        raise DataError(source, None, None, problem) from None
    if split not in builder.info.splits:
        known = ", ".join(builder.info.splits) or "none: prepare the dataset first (download_and_prepare)"
        raise DataError(source, None, None, f"no split '{split}' is prepared; there are {known}")
    return builder, split


def _plain(value: Any) -> Any:
    """Text for bytes, Python numbers for numpy's."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def tfds_rows(source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, fields) of every row, in the order of the split."""
    builder, split = _open(source)
    for number, row in enumerate(builder.as_data_source(split), 1):
        yield number, _plain(row)


def tfds_checksum(source: str) -> str:
    """Hex digest that changes with the dataset's version or the split's size."""
    builder, split = _open(source)
    info = builder.info.splits[split]
    text = f"{builder.info.full_name}/{split}/{info.num_examples}/{info.num_bytes}"
    return hashlib.sha256(text.encode()).hexdigest()
