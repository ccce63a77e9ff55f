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
    names = _COMPILERS if wanted is None else (wanted,) if wanted.strip() else ()
    compiler = next((shlex.split(name) for name in names if shutil.which(shlex.split(name)[0])), None)
    if compiler is not None:
        try:
            return _loaded(compiler), None
        except (OSError, AttributeError, subprocess.SubprocessError) as error:
            return None, f"{_SLOWER}: {shlex.join(compiler)} cannot build its kernels ({_said(error)}); {_REMEDY}"
    if wanted is None:
        return None, f"{_SLOWER}: there is no C compiler ({', '.join(_COMPILERS)}) to build its kernels; {_REMEDY}"
    return None, f"{_SLOWER}: {COMPILER}={wanted}: no such command; {_REMEDY}" if names else None


def _loaded(compiler: list[str]) -> Library:
    """Built, where no process has done so before, and registered."""
    version = _version(compiler)
    file = _folder() / f"kernels-{version}.so"
    if not file.exists():
        _build(compiler, file)
    loaded, found = ctypes.CDLL(str(file)), Library(file, version)
    for kernel in KERNELS:
        call = jax.ffi.pycapsule(getattr(loaded, f"selfevo_{kernel}"))
        jax.ffi.register_ffi_target(found.target(kernel), call, platform="cpu")
    return found


def _version(compiler: list[str]) -> str:
    """Changes with whatever the built kernels depend on."""
    said = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout
    texts = [shlex.join(compiler), repr((_FLAGS, _NATIVE)), importlib.metadata.version("jaxlib"), _cpu()]
    parts = [said, *(text.encode() for text in texts)]
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
    """Puts the library in its place whole, whoever else builds it too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(_HERE / f"{kernel}.c") for kernel in KERNELS]
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        for native in _NATIVE:
            command = [*compiler, *_FLAGS, *native, f"-I{jax.ffi.include_dir()}", *sources, "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
            if done.returncode == 0:
                made.replace(file)
                return
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)


def _said(error: Exception) -> str:
    text = getattr(error, "stderr", None)
    lines = [line for line in text.splitlines() if "error" in line] if isinstance(text, str) else []
    return lines[0].strip() if lines else f"{type(error).__name__}: {error}"
