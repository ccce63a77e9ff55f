"""Every test runs on 8 virtual CPU devices, in fp32, with no network and no data outside the repository."""

import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# most of the time goes to compiling small programs that run once: the compiler takes its shorter ways to machine code
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
    ]
)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # nothing is read from the home folder, nothing left there
sys.path.insert(0, str(Path(__file__).parent))  # importlib mode puts no test folder on the path


def pytest_collection_modifyitems(items):
    """Files with slow tests first: a long one that a process begins last would keep the other waiting."""
    slow = {item.path for item in items if {"slow", "tpu_compiler"} & set(item.keywords)}
    items.sort(key=lambda item: item.path not in slow)
