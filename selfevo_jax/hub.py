"""Files of the Hugging Face hub, by the package huggingface-hub: into its cache, and from there without a network."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from selfevo_jax.errors import SelfevoError, first_line
from selfevo_jax.lazy import extra

Fault = Callable[[str], SelfevoError]
"""Makes an error that names the source of what is wrong with it."""
_LOG_IN = "log in with: hf auth login (or set HF_TOKEN)"


@dataclass(frozen=True)
class Named:
    """What a text such as `OWNER/NAME/more@REVISION` names."""

    id: str
    """OWNER/NAME."""
    rest: tuple[str, ...]
    """What is named behind it."""
    revision: str | None
    """A branch, a tag or a commit; None: the newest files."""

    @classmethod
    def of(cls, text: str, fault: Fault, form: str) -> Named:
        """Raises what `fault` makes where the text is not of the `form` that is expected."""
        place, at, revision = text.partition("@")
        parts = place.split("/")
        if len(parts) < 2 or not all(part.strip() == part and part not in ("", ".", "..") for part in parts):
            raise fault(f"expected {form}")
        if at and not revision.strip():
            raise fault("no revision behind '@'; name a branch, a tag or a commit, or leave '@' out")
        return cls("/".join(parts[:2]), tuple(parts[2:]), revision if at else None)


@dataclass(frozen=True)
class Repository:
    """One repository at one revision. Every fault of the hub, or of a cache without it, is one line of `fault`."""

    kind: Literal["model", "dataset"]
    id: str
    revision: str | None
    fault: Fault

    def snapshot(self, patterns: Sequence[str], ignored: Sequence[str] = ()) -> Path:
        """The folder of the files that match a pattern and are not ignored, fetched where the cache lacks them.

        They are looked for once a process, which so reads one state of them. Without a network, or with
        HF_HUB_OFFLINE=1, the cache alone is read.
        """
        cache = self._package().constants.HF_HUB_CACHE
        try:
            return _snapshot(self.kind, self.id, self.revision, tuple(patterns), tuple(ignored), str(cache))
        except Exception as error:  # of the package, of what it fetches with, and of the cache
            raise self._told(error) from error

    def cached(self, patterns: Sequence[str]) -> Path | None:
        """`snapshot` where the hub is not reached; None where the cache has nothing of the repository."""
        try:
            return self.snapshot(patterns)
        except SelfevoError as error:
            if type(error.__cause__) is self._package().errors.LocalEntryNotFoundError:
                return None
            raise

    def files(self, perhaps: bool = False) -> list[str] | None:
        """The names of all files; None where the hub cannot be reached, or is not to be. `perhaps`: none, where there
        is no such revision."""
        hub = self._package()
        try:
            return list(_listing(self.kind, self.id, self.revision))
        except hub.errors.RevisionNotFoundError as error:
            if perhaps:
                return []
            raise self._told(error) from error
        except (hub.errors.RepositoryNotFoundError, ValueError) as error:
            raise self._told(error) from error
        except Exception:  # whatever a network, a proxy or an overloaded server may cause
            return None

    def _package(self) -> Any:
        parts = ("huggingface_hub", "huggingface_hub.constants", "huggingface_hub.errors")
        hub, *_ = (extra(part, "huggingface-hub", "hub", self.fault) for part in parts)
        return hub

    def _told(self, error: Exception) -> SelfevoError:
        errors, page = self._package().errors, f"{self.kind} '{self.id}'"
        if isinstance(error, errors.GatedRepoError):
            return self.fault(f"the {page} has terms to agree to on its page of the hub; agree to them, and {_LOG_IN}")
        if isinstance(error, errors.RepositoryNotFoundError):
            return self.fault(f"the hub shows no {page}; correct the name, or, where it is private, {_LOG_IN}")
        if isinstance(error, errors.RevisionNotFoundError):
            return self.fault(f"the {page} has no revision '{self.revision}'; name a branch, a tag or a commit")
        if isinstance(error, errors.LocalEntryNotFoundError):
            return self.fault(
                f"the cache of huggingface-hub has not all of it, and the hub is not reached ({first_line(error)}); "
                "check the network, and that HF_HUB_OFFLINE is not set"
            )
        found = f"{type(error).__name__}: {first_line(error)}"
        return self.fault(f"cannot be fetched ({found}); check the name and the network")


@functools.cache
def _listing(kind: str, id: str, revision: str | None) -> tuple[str, ...]:
    api = importlib.import_module("huggingface_hub").HfApi()
    return tuple(api.list_repo_files(id, repo_type=kind, revision=revision))


@functools.cache
def _snapshot(
    kind: str, id: str, revision: str | None, patterns: tuple[str, ...], ignored: tuple[str, ...], cache: str
) -> Path:
    hub = importlib.import_module("huggingface_hub")
    return Path(
        hub.snapshot_download(
            id,
            repo_type=kind,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(ignored) or None,
            cache_dir=cache,
        )
    )


def within(folder: Path) -> list[str]:
    """The names of all files in a snapshot, as the hub has them."""
    return sorted(str(PurePosixPath(file.relative_to(folder))) for file in folder.rglob("*") if file.is_file())
