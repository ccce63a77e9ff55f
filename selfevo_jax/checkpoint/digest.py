"""A model's checksum: one digest over its shape and all of its weights."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from selfevo_jax.checkpoint.source import files_of
from selfevo_jax.errors import ModelError, first_line
from selfevo_jax.progress import Reporter
from selfevo_jax.storage import storage_of

_READERS = 8


def model_checksum(source: str, reporter: Reporter | None = None) -> str:
    """A digest of what a model source names: its shape and every weight, whatever folder it is in.

    Every byte is read, each time (a few hundred MB a second): sizes and dates do not tell weights apart. In a bucket
    the checksums that the bucket keeps are used, and nothing is fetched. A preset's weights follow from its name.

    Args:
      source: as in `open_model`.
      reporter: shows the progress, file by file; None shows nothing.

    Raises:
      ModelError: no such model, or one of its files cannot be read.
    """
    files = files_of(source)
    if not files:
        return hashlib.sha256(source.encode()).hexdigest()
    whole = hashlib.sha256()
    try:
        with (
            (reporter or Reporter(quiet=True)).task("checksum of the model", len(files), "files") as meter,
            ThreadPoolExecutor(_READERS) as pool,
        ):
            found = pool.map(lambda file: storage_of(file).checksum(file), files.values())
            for done, (name, checksum) in enumerate(zip(files, found, strict=True), start=1):
                whole.update(f"{name}\0{checksum}\n".encode())
                meter.set(done)
    except OSError as error:
        raise ModelError(f"{source}: its weights could not be read ({first_line(error)}); fetch it again") from error
    return whole.hexdigest()
