"""What an annotation writes: OUT, and a folder beside it with every answer, what was rejected, and a summary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfevo_jax.annotate.rows import Rejected
from selfevo_jax.annotate.same import differences
from selfevo_jax.data import MetaRow, QARow, jsonl_lines, rows_file
from selfevo_jax.data.annotated import folder_of, summary_of
from selfevo_jax.errors import ConfigError
from selfevo_jax.run.files import read_json, to_json, understood
from selfevo_jax.storage import storage_of


class Files:
    """The files of an annotation that is to be written at `out`. Raises ConfigError for another kind of file."""

    def __init__(self, out: str) -> None:
        self.out: Path = rows_file(out)
        self.folder = folder_of(self.out)
        self.asked = self.folder / "asked.jsonl"
        """Every answer, a row each, as it came."""
        self.sampled = self.folder / "sampled.jsonl"
        """The responses of a base that was sampled here, with `.unfinished` behind the name."""
        self.rejected = self.folder / "rejected.jsonl"
        self.summary = summary_of(self.out)

    def check(self, force: bool, made_by: Mapping[str, Any]) -> None:
        """Raises ConfigError, before any work, where OUT is something else than an earlier call wrote, or was made
        otherwise than this call would make it (`made_by`: see `summary.described`)."""
        if self.out.is_dir():
            raise ConfigError(f"{self.out}: a folder; name a file to write")
        if self.folder.is_file():
            raise ConfigError(f"{self.folder}: a file, where a folder is to be; move it away")
        wrote = self._wrote()
        if not self.out.exists() or force:
            return
        if _digest(self.out.read_bytes()) not in wrote:
            by = "was changed since it was written" if wrote else "was not written by this command"
            raise ConfigError(f"{self.out}: exists, and {by}; name another file, or write over it with --force")
        with understood(self.summary):
            others = differences(self._summary(), made_by)
        if others:
            raise ConfigError(
                f"{self.out}: exists, and was made otherwise ({', '.join(others)}); name another file, or write over "
                "it with --force"
            )

    def _summary(self) -> dict[str, Any]:
        found = read_json(self.summary) if self.summary.is_file() else {}
        return found if isinstance(found, dict) else {}

    def _wrote(self) -> list[str]:
        """Digests of OUT as this command wrote it, the last one first."""
        found = self._summary().get("sha256", [])
        return found if isinstance(found, list) else []

    def write(self, rows: Sequence[MetaRow | QARow], rejected: Sequence[Rejected], summary: dict[str, Any]) -> None:
        """OUT last; where there are no rows it is left as it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content, digests = b"".join(jsonl_lines(rows)), self._wrote()
        if rows:  # a kill before the last line leaves an OUT that the summary knows
            there = _digest(self.out.read_bytes()) if self.out.exists() else None
            digests = [_digest(content), *(one for one in digests if one == there)]
        writes = storage_of(self.out).write
        writes(self.rejected, b"".join(jsonl_lines(map(asdict, rejected))))
        writes(self.summary, to_json(summary | {"sha256": digests}))
        if rows:
            writes(self.out, content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
