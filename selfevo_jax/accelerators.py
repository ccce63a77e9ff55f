"""Accelerators of this machine, and the packages that JAX needs to use them. Imports no JAX."""

from __future__ import annotations

import importlib.util
import pkgutil
from pathlib import Path

from selfevo_jax.lazy import install

JAX_NAMES = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
"""Our name of a platform -> JAX's."""

_EXTRAS = {"gpu": "cuda", "tpu": "tpu"}
_NEEDS = {"gpu": "JAX's CUDA plugin", "tpu": "libtpu"}
_GPU_FILES = ("dev/nvidia0", "dev/nvidiactl", "dev/dxg")  # the latter two: containers and WSL2
_TPU_DEVICES = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
"""PCI device ids under Google's vendor id, TPU v3 to TPU7x, as JAX has them; the same vendor makes network cards."""


def is_installed(platform: str) -> bool:
    """Whether the packages are there with which JAX can use a platform: cpu, gpu or tpu."""
    if platform == "tpu":
        return importlib.util.find_spec("libtpu") is not None
    if platform == "gpu":
        plugins = importlib.util.find_spec("jax_plugins")
        folders = plugins.submodule_search_locations if plugins else None
        return any("cuda" in found.name or "rocm" in found.name for found in pkgutil.iter_modules(folders or ()))
    return True


def is_present(platform: str, root: Path = Path("/")) -> bool:
    """Whether this machine has such an accelerator, whatever is installed. `root` is where its devices are listed."""
    if platform == "tpu":
        return any(_is_tpu(vendor.parent) for vendor in root.glob("sys/bus/pci/devices/*/vendor"))
    if platform == "gpu":
        return any((root / file).exists() for file in _GPU_FILES)
    return True


def _is_tpu(device: Path) -> bool:
    try:
        return (device / "vendor").read_text().strip() == "0x1ae0" and (
            (device / "device").read_text().strip() in _TPU_DEVICES
        )
    except OSError:
        return False


def remedy(platform: str, root: Path = Path("/")) -> str:
    """Why a platform that was asked for is probably absent, and what to do: a command where something is missing.

    For every message about a platform that JAX does not have (`select_platform`, `selfevo doctor`).
    """
    if not is_installed(platform):
        return f"{_NEEDS[platform]} is not installed; install it with: {install(_EXTRAS[platform])}"
    if not is_present(platform, root):
        return f"this machine shows no {platform.upper()}; use another machine, or platform=cpu"
    return "another process may hold it; end that process, or use platform=cpu"


def overlooked(used: str, root: Path = Path("/")) -> str | None:
    """A line about an accelerator that JAX passes over for want of a package; None where there is none.

    `used` is the platform that JAX has chosen by itself.
    """
    for platform, extra in _EXTRAS.items():
        if platform != used and is_present(platform, root) and not is_installed(platform):
            return (
                f"this machine has a {platform.upper()}, but {_NEEDS[platform]} is not installed: {used} is used. "
                f"Install it with: {install(extra)}"
            )
    return None
