"""Builds the kernels with this machine's C compiler, once, and registers them with XLA."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax

COMPILER = "SELFEVO_CC"
"""Environment variable: the C compiler, with options where it needs some; empty for none, so that XLA does it all."""
KERNELS = ("product", "attention")
_FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-fPIC", "-shared")
_NATIVE = (("-march=native",), ("-mcpu=native",), ())
"""Options for this machine's own instructions; the first that the compiler knows is taken."""
_COMPILERS = ("cc", "gcc", "clang")
_SLOWER = "sampling on this CPU takes about twice as long as it could"
_REMEDY = f"install one, or name one in {COMPILER} (empty: none is wanted)"
_SECONDS = 120.0
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Library:
    """The kernels, loaded and known to XLA."""

    file: Path
    version: str
    """Of sources, compiler, machine and jaxlib: part of the names, so that no program calls another version's."""

    def target(self, kernel: str) -> str:
        """What a program calls it by."""
        return f"selfevo_{kernel}_{self.version}"


def library() -> Library | None:
    """The kernels; None where there are none (`problem`)."""
    return _found()[0]


def problem() -> str | None:
    """One line on why there are no kernels; None where there are some, or where none are wanted."""
    return _found()[1]


def told() -> str:
    """One line on what there is."""
    found, why = _found()
    return f"in {found.file}" if found is not None else why or f"none ({COMPILER} is empty)"


@functools.cache
def _found() -> tuple[Library | None, str | None]:
    wanted = os.environ.get(COMPILER)
    if wanted is not None and not wanted.strip():
        return None, None
    faults = []
    for name in _COMPILERS if wanted is None else (wanted,):
        try:
            compiler = shlex.split(name)
            if shutil.which(compiler[0]):
                return _loaded(compiler), None
            faults += [] if wanted is None else [f"{COMPILER}={wanted}: no such command"]
        except (OSError, ValueError, AttributeError, RuntimeError, subprocess.SubprocessError) as error:
            faults.append(f"{name} cannot build its kernels ({_said(error)})")
    why = "; ".join(faults) or f"there is no C compiler ({', '.join(_COMPILERS)}) to build its kernels"
    return None, f"{_SLOWER}: {why}; {_REMEDY}"


def _loaded(compiler: list[str]) -> Library:
    """Built, where no process has done so before, and registered."""
    version = _version(compiler)
    file = _folder() / f"kernels-{version}.so"
    if not file.exists():
        _build(compiler, file)
    try:
        loaded = ctypes.CDLL(str(file))
    except OSError:  # it was damaged
        file.unlink()
        _build(compiler, file)
        loaded = ctypes.CDLL(str(file))
    found = Library(file, version)
    for kernel in KERNELS:
        call = jax.ffi.pycapsule(getattr(loaded, f"selfevo_{kernel}"))
        jax.ffi.register_ffi_target(found.target(kernel), call, platform="cpu")
    return found


def _version(compiler: list[str]) -> str:
    """Changes with whatever the built kernels depend on."""
    asked = subprocess.run(
        [*compiler, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=True
    )
    texts = [asked.stdout, shlex.join(compiler), repr((_FLAGS, _NATIVE)), importlib.metadata.version("jaxlib"), _cpu()]
    parts = [text.encode() for text in texts]
    parts += [file.read_bytes() for file in sorted(_HERE.glob("*.[ch]"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _cpu() -> str:
    """What tells this machine's instructions from those of another that shares its home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return "\n".join([platform.platform(), platform.machine(), platform.processor(), *flags])


def _folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "selfevo_jax" / "native"


def _build(compiler: list[str], file: Path) -> None:
    """Puts the library in its place whole; where another process was faster, its one stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(_HERE / f"{kernel}.c") for kernel in KERNELS]
    chosen = any(option.startswith(("-march", "-mcpu")) for option in compiler)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        for native in [()] if chosen else _NATIVE:
            command = [*compiler, *_FLAGS, *native, f"-I{jax.ffi.include_dir()}", *sources, "-o", str(made), "-lm"]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
            if done.returncode == 0:
                _publish(made, file)
                return
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)


def _publish(made: Path, file: Path) -> None:
    """Never in place of a file that another process may have loaded: on a shared folder that one would lose it."""
    try:
        os.link(made, file)
    except FileExistsError:
        pass
    except OSError:  # no hard links here
        made.replace(file)


def _said(error: Exception) -> str:
    text = getattr(error, "stderr", None)
    lines = text.strip().splitlines() if isinstance(text, str) else []
    told = next((line for line in lines if "error" in line), lines[0] if lines else None)
    return told.strip() if told else f"{type(error).__name__}: {error}"
