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
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from selfevo_jax.process import cache_folder

COMPILER = "SELFEVO_CC"
"""Environment variable: the C compiler, with options where it needs some; empty for none, so that XLA does it all."""
KERNELS = ("product", "attention")
_FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-fPIC", "-shared")
_NATIVE = (("-march=native",), ("-mcpu=native",), ())
"""Options for this machine's own instructions; the first that the compiler knows is taken."""
_COMPILERS = ("cc", "gcc", "clang")
_SLOWER = "sampling on this CPU takes about twice as long as it could"
_REMEDY = f"install one, or name one in {COMPILER} (empty: none is wanted)"
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
        except OSError as error:  # of the folder, so that no other compiler helps
            why = f"its kernels cannot be kept or loaded ({error}); XDG_CACHE_HOME names another folder"
            return None, f"{_SLOWER}: {why}"
        except (ValueError, AttributeError, RuntimeError, subprocess.SubprocessError) as error:
            faults.append(f"{name} cannot build its kernels ({_said(error)})")
    why = "; ".join(faults) or f"there is no C compiler ({', '.join(_COMPILERS)}) to build its kernels"
    return None, f"{_SLOWER}: {why}; {_REMEDY}"


def _loaded(compiler: list[str]) -> Library:
    """Built, where no process has done so before, and registered."""
    version = _version(compiler)
    file = _kept(version)
    if file is not None:
        try:
            return _registered(file, version)
        except OSError:  # it was damaged
            file.unlink(missing_ok=True)
    return _registered(_build(compiler, version), version)


def _kept(version: str) -> Path | None:
    """What a process has built before. Its name has its length: a file that was cut would end this process when it is
    loaded, by a signal."""
    for file in sorted(_folder().glob(f"kernels-{version}-*.so")):
        found = file.stat()
        if found.st_uid not in (os.getuid(), 0):
            raise PermissionError(f"{file} belongs to another user")
        if file.stem.endswith(f"-{found.st_size}"):
            return file
        file.unlink(missing_ok=True)
    return None


def _registered(file: Path, version: str) -> Library:
    loaded, found = ctypes.CDLL(str(file)), Library(file, version)
    for kernel in KERNELS:
        call = jax.ffi.pycapsule(getattr(loaded, f"selfevo_{kernel}"))
        jax.ffi.register_ffi_target(found.target(kernel), call, platform="cpu")
    return found


def _version(compiler: list[str]) -> str:
    """Changes with whatever the built kernels depend on."""
    asked = _run([*compiler, "--version"], 10)
    asked.check_returncode()
    texts = [asked.stdout, shlex.join(compiler), repr((_FLAGS, _NATIVE)), importlib.metadata.version("jaxlib"), _cpu()]
    parts = [text.encode() for text in texts]
    parts += [file.read_bytes() for file in sorted(_HERE.glob("*.[ch]"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _cpu() -> str:
    """What tells this machine's instructions from those of another that shares its home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    flags = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return "\n".join([platform.platform(), platform.machine(), platform.processor(), *flags])


def _folder() -> Path:
    return cache_folder("native")


def _build(compiler: list[str], version: str) -> Path:
    """Puts the library in its place whole; where another process was faster, its one stays."""
    place = _folder()
    place.mkdir(parents=True, exist_ok=True)
    sources = [str(_HERE / f"{kernel}.c") for kernel in KERNELS]
    chosen = any(option.startswith(("-march", "-mcpu")) for option in compiler)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        made = Path(folder) / "kernels.so"
        for native in [()] if chosen else _NATIVE:
            command = [*compiler, *_FLAGS, *native, f"-I{jax.ffi.include_dir()}", *sources, "-o", str(made), "-lm"]
            done = _run(command, 60)
            if done.returncode == 0 and made.exists():
                file = place / f"kernels-{version}-{made.stat().st_size}.so"
                _publish(made, file)
                return file
        raise subprocess.CalledProcessError(done.returncode, compiler, done.stdout, done.stderr or "it made no file")


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Without input; after so many seconds it is ended with all that it started."""
    none, pipe = subprocess.DEVNULL, subprocess.PIPE
    how: Any = {"text": True, "errors": "replace", "start_new_session": True}
    try:
        process = subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe, **how)
    except OSError as error:
        raise subprocess.SubprocessError(str(error)) from error
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _publish(made: Path, file: Path) -> None:
    """Never in place of a file that another process may have loaded: on a shared folder that one would lose it."""
    try:
        os.link(made, file)
    except FileExistsError:
        pass
    except OSError:  # no hard links here
        made.replace(file)


def _said(error: Exception) -> str:
    """The line of a compiler that names the error, or its last two; of other errors what they are."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it did not end in {error.timeout:.0f} s"
    text = getattr(error, "stderr", None)
    lines = text.strip().splitlines() if isinstance(text, str) else []
    told = [line for line in lines if "error:" in line and "collect2" not in line][:1] or lines[-2:]
    return "; ".join(line.strip() for line in told) or f"{type(error).__name__}: {error}"
