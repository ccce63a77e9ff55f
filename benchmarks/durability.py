"""What it costs a run to survive: the quickstart as it is, and with all of that off, in turns on this machine.

    python benchmarks/durability.py --json durability.json
    python benchmarks/durability.py --repeats 1 --set rounds.number=1    # a quick check

Off means: files are written in place and nobody waits for the disk, no digests are kept or checked, rows of rollouts
are handed to the system when it likes, no state is saved inside a fine-tuning, and there is no lock. What is left in
both is what a run is for: texts, records and one checkpoint a round. "Inside" is the time that a durable run spends in
those functions, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sampling_common import conclude, table, tell_turn, use_threads

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
SELF = Path(__file__).absolute()
LIMIT = 1200.0
"""Seconds of one run at most."""


def turn_off() -> list[str]:
    """In this process, and the settings that go with it."""
    from selfevo_jax.run import checksums, files, run_dir
    from selfevo_jax.run.checksums import Checksums
    from selfevo_jax.run.lock import RunLock
    from selfevo_jax.storage import disk

    def write_file(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def nothing(*_: Any, **__: Any) -> None:
        return None

    disk.put = lambda out, content, durable=True: out.write(content)
    files.write_file = run_dir.write_file = checksums.write_file = write_file
    Checksums.write = lambda self, path, content: write_file(path, content)  # type: ignore[method-assign]
    for name in ("adopt", "forget", "require", "settle"):
        setattr(Checksums, name, nothing)
    Checksums.digest = nothing  # type: ignore[method-assign]
    for name in ("acquire", "check", "release"):
        setattr(RunLock, name, nothing)
    return ["saving.every_minutes=null"]


def watch() -> Callable[[], float]:
    """Seconds spent in what `turn_off` turns off, but for those of calls within such calls."""
    from selfevo_jax.checkpoint import TrainingStore
    from selfevo_jax.run import checksums, files, journal, run_dir
    from selfevo_jax.run.checksums import Checksums
    from selfevo_jax.run.lock import RunLock
    from selfevo_jax.storage import disk

    spent, depth = [0.0], [0]

    def timed(act: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            begin, depth[0] = time.perf_counter(), depth[0] + 1
            try:
                return act(*given, **named)
            finally:
                depth[0] -= 1
                spent[0] += 0.0 if depth[0] else time.perf_counter() - begin

        return call

    disk.put = timed(disk.put)
    files.write_file = run_dir.write_file = checksums.write_file = timed(files.write_file)
    journal.Journal.append = timed(journal.Journal.append)  # type: ignore[method-assign]
    for kind, names in (
        (Checksums, ("write", "adopt", "forget", "require", "settle", "digest")),
        (RunLock, ("acquire", "check", "release")),
        (TrainingStore, ("latest", "save", "finish", "clear")),
    ):
        for name in names:
            setattr(kind, name, timed(getattr(kind, name)))
    return lambda: spent[0]


def child(how: str, run: Path, settings: list[str]) -> None:
    """One run in this process; prints its seconds, and those inside."""
    use_threads(2)
    from selfevo_jax.config import load_config
    from selfevo_jax.progress import Reporter
    from selfevo_jax.rounds import Controller

    inside = watch() if how == "on" else lambda: 0.0
    more = turn_off() if how == "off" else []
    begin = time.perf_counter()
    controller = Controller(load_config(CONFIG, [*settings, *more, f"run_dir={run}"]), Reporter(quiet=True))
    controller.run()
    controller.close()
    print(json.dumps({"seconds": time.perf_counter() - begin, "inside": inside()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `selfevo evolve`")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(args.child[0], Path(args.child[1]), args.set)
        return
    seconds: dict[str, list[float]] = {"on": [], "off": []}
    inside = []
    with tempfile.TemporaryDirectory() as folder:
        # the first pair fills the cache of compiled programs, and is not counted
        for turn in range(args.repeats + 1):
            for how in ("on", "off") if turn % 2 else ("off", "on"):
                sets = [word for each in args.set for word in ("--set", each)]
                command = [sys.executable, str(SELF), *sets, "--child", how, f"{folder}/{how}{turn}"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
                if done.returncode:
                    raise SystemExit(f"the run with durability {how} failed:\n{done.stderr[-3000:]}")
                found = json.loads(done.stdout.splitlines()[-1])
                if turn:
                    seconds[how].append(found["seconds"])
                    inside += [found["inside"]] if how == "on" else []
            if turn:
                tell_turn("durability, ", turn - 1, args.repeats, seconds, "s")
    ratios = [a / b for a, b in zip(seconds["on"], seconds["off"], strict=True)]
    share = [a / b for a, b in zip(inside, seconds["on"], strict=True)]
    table(
        ["durability", "seconds", "inside (s)"],
        [
            ["on", *(" ".join(f"{x:.1f}" for x in found) for found in (seconds["on"], inside))],
            ["off", " ".join(f"{x:.1f}" for x in seconds["off"]), ""],
        ],
    )
    print(
        f"\non / off {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]; inside "
        f"{statistics.median(share):.2%} of the run"
    )
    conclude(2, {"seconds": seconds, "inside": inside}, args.json)


if __name__ == "__main__":
    main()
