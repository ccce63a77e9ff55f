"""A model that is a checkpoint of a run is held against what that run knows of it."""

from __future__ import annotations

from pathlib import Path

from selfevo_jax import hosts
from selfevo_jax.checkpoint import files_of, locate
from selfevo_jax.errors import SelfevoError
from selfevo_jax.rounds.checksums import FILE, HEAD, Checksums
from selfevo_jax.storage import is_remote


def require_unchanged(source: str) -> None:
    """Compares a checkpoint inside a run directory, wherever it is used, with the checksums of its run.

    Adapters are compared with all that they are added to. Every process calls it, process 0 reads. Other models have
    no checksums beside them, and pass.

    Raises:
      SelfevoError: a file that is not what it was when the checkpoint was finished, or is gone.
      ModelError: no such model.
    """
    path = locate(source)
    if path is not None and path.is_dir():
        whole = path if is_remote(path) else path.resolve()
        hosts.agree("comparing the model's checksums", lambda: _require(whole))


def _require(path: Path) -> None:
    _require_folder(path)
    others = {_checkpoint(file) for file in files_of(str(path)).values()} - {path}
    for folder in others:
        if folder is not None:
            _require_folder(folder)


def _checkpoint(file: Path) -> Path | None:
    """The folder below `checkpoints` that a file is in."""
    return next((folder for folder in file.parents if folder.parent.name == "checkpoints"), None)


def _require_folder(path: Path) -> None:
    root = path.parent.parent
    if path.parent.name != "checkpoints" or not any((root / name).exists() for name in (HEAD, FILE, "config.yaml")):
        return
    sums = Checksums(root)
    names = sums.names(path)
    if not names and (faults := sums.record_faults()):
        raise SelfevoError(
            f"{root}/{faults[0]}, so that {path.name} cannot be compared with what was saved; restore the run's "
            f"records from a copy, or copy {path} elsewhere to use it as it is"
        )
    for name in names:
        sums.refuse(sums.fault(root / name))
