"""How long compiling takes: a guess by the number of programs, or what it has taken on this machine before."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax

_BASE_SECONDS, _LAYER_SECONDS = 2.7, 0.4
"""Of one program in one thread: on an x86-64 CPU it took 3.9 s with 3 layers, and 14.4 s with the 30 of SmolLM2-135M
(jax 0.10.2)."""
_FILE = "seconds.json"
"""In the folder of compiled programs: kind of device -> what compiling took over what is guessed."""
_SLOWEST, _FASTEST = 1e3, 1e-3
"""Paces beyond these were not measured."""


@dataclass(frozen=True)
class Compiling:
    """What compiling will take where no program of it is kept yet."""

    programs: int
    seconds: float
    measured: bool
    """Whether it was measured on this machine, with other programs perhaps; else it is a guess."""

    def __str__(self) -> str:
        how = "at the pace of earlier ones here" if self.measured else "a guess by their number and layers"
        return f"{self.programs} programs, {how}"


class _Hits:
    """Programs that JAX has found in its folder, in this process."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_listener(self._hear)

    def _hear(self, event: str, **_: str | int) -> None:
        self.count += event == "/jax/compilation_cache/cache_hits"


_hits = _Hits()


def _guess(layers: int, programs: int, at_once: int) -> float:
    return programs * (_BASE_SECONDS + _LAYER_SECONDS * layers) / at_once


def estimate(device: jax.Device, layers: int, programs: int, at_once: int) -> Compiling:
    """Of so many programs of a model of so many layers, of which so many are compiled side by side."""
    pace = _paces().get(device.device_kind)
    return Compiling(programs, _guess(layers, programs, at_once) * (pace or 1.0), pace is not None)


class Watch:
    """Notes what compiling takes, for later estimates."""

    def __init__(self, device: jax.Device, layers: int, programs: int, at_once: int) -> None:
        self._kind, self._guess = device.device_kind, _guess(layers, programs, at_once)
        self._hits = _hits.count

    def note(self, seconds: float) -> None:
        """Of all programs, where none was kept from an earlier process; nothing is noted where it cannot be written."""
        file = _file()
        if file is None or _hits.count > self._hits or seconds <= 0:
            return
        text = json.dumps({**_paces(), self._kind: round(seconds / self._guess, 3)}, indent=1)
        fresh = file.with_name(f".{_FILE}.{os.getpid()}")
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text + "\n")
            fresh.replace(file)


def _file() -> Path | None:
    """None where programs are not kept, or in no folder of this machine."""
    folder: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    kept: bool = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    return Path(folder) / _FILE if folder and kept and "://" not in folder else None


def _paces() -> dict[str, float]:
    file = _file()
    try:
        found = json.loads(file.read_text()) if file is not None else {}
        return {kind: float(pace) for kind, pace in found.items() if _FASTEST <= float(pace) <= _SLOWEST}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
