"""Rows of data sets of the Hugging Face hub, read from their Parquet files. No code that comes with one is run.

A source is `hf:OWNER/NAME/SPLIT` or, where the data set has several configs, `hf:OWNER/NAME/CONFIG/SPLIT`; a revision
may stand behind it, `@REVISION`. Its files have the names that the hub gives to those of a split,
`CONFIG/SPLIT-00000-of-00001.parquet` (in `data/` or in no folder where there is one config). A data set of another
format is read from the hub's own conversion, `CONFIG/SPLIT/0000.parquet` in the revision refs/convert/parquet.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from selfevo_jax.data.tables import parquet_rows
from selfevo_jax.errors import DataError
from selfevo_jax.hub import Fault, Named, Repository, within

PREFIX = "hf:"
_CONVERTED = "refs/convert/parquet"
_PART = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<all>\d{5})(?:-[0-9a-f]+)?")
_NUMBER = re.compile(r"\d{4,}")
_ONE = ("", "data", "default")
"""Folders of a data set that has one config."""


@dataclass(frozen=True)
class _File:
    """What the name of a Parquet file says of it."""

    name: str
    config: str
    split: str
    number: int = 0
    all: int | None = None
    """Files of the split; None: not said."""

    @classmethod
    def of(cls, name: str) -> _File:
        *folders, stem = name.removesuffix(".parquet").split("/")
        if (part := _PART.fullmatch(stem)) is not None:
            return cls(name, "/".join(folders), part["split"], int(part["number"]), int(part["all"]))
        if folders and _NUMBER.fullmatch(stem):
            return cls(name, "/".join(folders[:-1]), folders[-1], int(stem))
        return cls(name, "/".join(folders), stem, 0, 1)

    @property
    def place(self) -> str:
        """As a source names it."""
        return self.split if self.config in _ONE else f"{self.config}/{self.split}"


def rows(source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number of the split from 1, fields) of every row, in the order of the files. Raises DataError."""
    before = 0
    for file in _files(source):
        number = 0
        for number, fields in parquet_rows(f"{source} ({file.name})", epath.Path(file)):
            yield before + number, fields
        before += number


def checksum(source: str) -> str:
    """sha256 over the files of a source, as hex."""
    total = hashlib.sha256()
    for file in _files(source):
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()


def _files(source: str) -> list[Path]:
    """The Parquet files of a source in the cache, all that its split has."""

    def fault(problem: str) -> DataError:
        return DataError(source, None, None, problem)

    form = "hf:OWNER/NAME/SPLIT or hf:OWNER/NAME/CONFIG/SPLIT, such as hf:openai/gsm8k/main/train"
    named = Named.of(source.removeprefix(PREFIX), fault, form)
    if len(named.rest) not in (1, 2):
        raise fault(f"expected {form}")
    *config, split = named.rest
    own = Repository("dataset", named.id, named.revision, fault)
    tried = [own] if named.revision is not None else [own, Repository("dataset", named.id, _CONVERTED, fault)]
    seen: list[_File] = []
    unreached = True
    for repository in tried:
        names = _names(repository, split, perhaps=repository is not own)
        unreached = unreached and names is None
        files = [_File.of(name) for name in names or () if name.endswith(".parquet")]
        if chosen := _chosen(files, config[0] if config else None, split, fault):
            folder = repository.snapshot([glob.escape(file.name) for file in chosen])
            found = [folder / file.name for file in chosen]
            if lost := [file.name for file in found if not file.is_file()]:
                raise fault(f"{lost[0]} is no longer there: the data set was changed meanwhile; start again")
            return found
        seen += files
    if unreached:
        raise fault("the hub is not reached, and the cache of huggingface-hub has nothing of it; check the network")
    known = ", ".join(dict.fromkeys(file.place for file in seen)) or "none of any split"
    raise fault(f"no Parquet file of a split '{'/'.join([*config, split])}'; there are {known}")


def _names(repository: Repository, split: str, perhaps: bool) -> Sequence[str] | None:
    """The names of files; without the hub those of the cache that the split may have, None where it has nothing."""
    names = repository.files(perhaps)
    if names is not None:
        return names
    patterns = [f"{folder}{glob.escape(split)}{more}.parquet" for folder in ("", "*/") for more in ("", "-*", "/*")]
    folder = repository.cached(patterns)
    return None if folder is None else within(folder)


def _chosen(files: Sequence[_File], config: str | None, split: str, fault: Fault) -> list[_File]:
    """The files of a split, in their order; none where there is none. Raises where some of them are missing, and where
    several configs have such a split."""
    of_split = [file for file in files if file.split == split]
    if config is not None:
        of_split = [file for file in of_split if file.config == config or (config, file.place) == ("default", split)]
    folders = sorted({file.config for file in of_split})
    if len(folders) > 1:
        known = ", ".join(dict.fromkeys(file.place for file in of_split))
        raise fault(f"several configs have this split: {known}; name one of them")
    chosen = sorted(of_split, key=lambda file: file.number)
    wanted = max((file.all or len(chosen) for file in chosen), default=0)
    if [file.number for file in chosen] != list(range(wanted)):
        raise fault(
            f"has the files {', '.join(file.name for file in chosen)}, expected {wanted} of them; fetch it again"
        )
    return chosen
