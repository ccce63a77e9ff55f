"""A run of two processes, left alone and with strangers at the coordinator's port.

    python benchmarks/strangers.py --messages 100 --runs 2

Each run is the same tiny one (the stories, one round) in a folder of its own. When both processes have begun, the
strangers come: random bytes, deep JSON, half greetings, wrong proofs, wrong versions, and 60 MiB of nothing. Shows the
exit codes, the peak memory of process 0 (VmHWM, Linux), and whether all runs have left the same records.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hosts"))
from strangers import messages, send

from selfevo_jax.run import records

TRAIN = {"steps": 2, "warmup_steps": 1, "batch_rows": 8, "length": 128}
CONFIG: dict[str, Any] = {
    "run_dir": "run",
    "platform": "cpu",
    "model": {"source": "builtin:stories"},
    "data": {
        "stories": {"meta_questions": 3, "responses_per_question": 1, "right_copies": 2, "evaluation_rows": 3},
        "prompts_per_round": 8,
    },
    "sampling": {
        "slots": 8,
        "cache_length": 128,
        "respond": {"max_new_tokens": 6},
        "feedback": {"max_new_tokens": 12},
        "refine": {"max_new_tokens": 6},
    },
    "meta": TRAIN,
    "learn": TRAIN,
    "rounds": {"number": 1, "select": "none"},
}


def peak(pid: int) -> float:
    """MiB that a process has had at most; 0 once it has ended."""
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(folder: Path, strangers: list[bytes]) -> tuple[list[int], float, str]:
    """Exit codes, the peak memory of process 0, and the last line of its errors."""
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    port = free_port()
    where = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-id"]
    command = [sys.executable, "-m", "selfevo_jax", "evolve", "small.yaml", *where]
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    variables |= {"JAX_ENABLE_COMPILATION_CACHE": "false", "PYTHONPATH": str(Path(__file__).parents[1])}
    with contextlib.ExitStack() as files:
        processes = [
            subprocess.Popen(
                [*command, str(number)],
                cwd=folder,
                env=variables,
                stdout=files.enter_context((folder / f"{number}.out").open("w")),
                stderr=files.enter_context((folder / f"{number}.err").open("w")),
            )
            for number in range(2)
        ]
        most, held = 0.0, []
        while any(process.poll() is None for process in processes):
            most = max(most, peak(processes[0].pid))
            if not held and "2 processes: " in (folder / "0.out").read_text():
                held = [send(port, words) for words in strangers]
            time.sleep(0.05)
    said = (folder / "0.err").read_text().splitlines()
    return [process.returncode for process in processes], most, said[-1] if said else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--runs", type=int, default=2, help="of each kind, in turns")
    given = parser.parse_args()
    found = []
    for number in range(2 * given.runs):
        with tempfile.TemporaryDirectory() as folder:
            besieged = number % 2 == 1
            codes, most, said = run(Path(folder), messages(given.messages) if besieged else [])
            found.append(records(Path(folder) / "run"))
            what = f"{given.messages} strangers" if besieged else "alone"
            print(f"{what}: exit codes {codes}, peak of process 0 {most:.0f} MiB; {said}", flush=True)
    print("records of all runs are equal" if all(one == found[0] for one in found) else "RECORDS DIFFER")


if __name__ == "__main__":
    main()
