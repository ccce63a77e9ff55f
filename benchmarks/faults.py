"""Runs that are killed, starved and corrupted, against one that was left alone.

    python benchmarks/faults.py --kills 100 --json faults.json
    python benchmarks/faults.py --kills 6 --writes 5           # a quick check

A tiny run of the stories is made once undisturbed; the model writes prompts in it, and a server on this machine judges
its rows and its answers to open-ended prompts. Then others are killed at random instants, phase after phase
(SIGKILL, and SIGTERM for one in four), and started again by the same command until they are complete. Each must end
with the same text artefacts, byte by byte but for times, and equal weights; chains that had ended when the kill came
must be kept. Then each single write of a run fails once, as on a full disk, and each finished file of a run has one
byte changed. All on this machine, bounded in time and count; only its own processes are ended.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from completions_server import serving

from selfevo_jax.checkpoint import ASIDE, open_model
from selfevo_jax.report import status
from selfevo_jax.run import RunDir, records, verify

TRAIN = {"steps": 12, "warmup_steps": 1, "batch_rows": 8, "length": 128}
CONFIG: dict[str, Any] = {
    "run_dir": "run",
    "platform": "cpu",
    "model": {"source": "builtin:stories"},
    "data": {
        "stories": {"meta_questions": 150, "responses_per_question": 2, "right_copies": 2, "evaluation_rows": 48},
        "prompts_per_round": 64,
        "self_written": {
            "examples": 2,
            "own_examples": 1,
            "asked": 2,
            "at_once": 4,
            "patience": 4,
            "given_share": 0.75,
        },
    },
    "sampling": {
        "slots": 8,
        "cache_length": 128,
        "respond": {"temperature": 0.8, "max_new_tokens": 8},
        "feedback": {"temperature": 0.7, "max_new_tokens": 40},
        "refine": {"max_new_tokens": 8},
        "write": {"max_new_tokens": 24},
    },
    "meta": TRAIN,
    "learn": TRAIN,
    "rounds": {"number": 2, "variant": "continual_mixed", "select": "none", "controls": 2, "minimum_kept": 1},
    "saving": {"every_steps": 3},
}
LIMIT = 900.0
"""Seconds of one process at most."""
PHASES = ("D_meta", "prompts", "rollouts", "judged", "fine-tune", "evaluate", "judge answers")
SHORT = ("D_meta", "prompts", "judge answers")
OPEN = ["Say hello to Mia.", "Name three kinds of shells.", "Why is the sky blue?", "Write a line about rain."]
SELF = Path(__file__).absolute()


def judgement(prompt: str, n: int) -> str:
    """What the server says, always the same to a prompt: a verdict, of two answers the better one, or a mark."""
    lot = zlib.crc32(prompt.encode())
    if "[The Start of the Answer]" in prompt:
        return f"slow says Verdict: {'correct' if lot % 2 else 'incorrect'}."
    return f"slow says [[{'ABC'[lot % 3]}]]" if "Assistant B" in prompt else f"slow says Rating: [[{1 + lot % 10}]]"


class Place:
    """A folder with the config and a run; `url` of the server that judges."""

    def __init__(self, folder: Path, programs: Path, url: str) -> None:
        self.folder, self.run = folder, folder / "run"
        folder.mkdir(parents=True, exist_ok=True)
        endpoint = {"url": url, "model": "big", "concurrency": 8}
        data = {**CONFIG["data"], "open_ended": {"open": {"source": "open.jsonl", "endpoint": endpoint}}}
        tree = {**CONFIG, "data": data, "judge": {"batch": {"kind": "endpoint", "endpoint": endpoint}}}
        (folder / "tiny.yaml").write_text(yaml.safe_dump(tree))
        (folder / "open.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in OPEN))
        self.environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self, *command: str) -> subprocess.Popen[str]:
        words = command or ("-m", "selfevo_jax", "evolve", "tiny.yaml")
        out = (self.folder / "said").open("w")
        with out:
            return subprocess.Popen(
                [sys.executable, *words], cwd=self.folder, env=self.environment, stdout=out, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def finish(self, *command: str) -> int:
        """Runs the command to its end; its exit code."""
        process = self.start(*command)
        try:
            return process.wait(LIMIT)
        finally:
            process.kill()
            process.wait()

    def phase(self) -> str | None:
        """The kind of the first phase that is not done, one of PHASES; None where all is, or nothing is there yet."""
        if not (self.run / "config.yaml").exists():
            return None
        left = (p.name for p in status(RunDir(self.run)).phases if p.state != "done")
        return next((kind for name in left for kind in PHASES if kind in name), None)

    def waiting_rows(self) -> int:
        """Complete lines of the rollout files that have no manifest yet."""
        parts = self.run.glob("rounds/*/rollouts/part-00000.jsonl")
        return sum(p.read_bytes().count(b"\n") for p in parts if not p.with_name("manifest.json").exists())


def end_state(run: Path) -> dict[str, Any]:
    """The records of a run, and the weights of every checkpoint."""
    found = records(run)
    for folder in sorted(place for place in (run / "checkpoints").iterdir() if place.name != ASIDE):
        leaves = jax.tree.leaves(open_model(str(folder)).load(None, np.float32))
        found[f"weights of {folder.name}"] = [np.asarray(leaf).tobytes() for leaf in leaves]
    return found


def differences(run: Path, wanted: dict[str, Any]) -> list[str]:
    found = end_state(run)
    return [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]


@dataclass
class Counts:
    kills: int = 0
    signals: dict[str, int] = field(default_factory=collections.Counter)
    phases: dict[str, int] = field(default_factory=collections.Counter)
    codes: dict[str, int] = field(default_factory=collections.Counter)
    runs: int = 0
    chains_kept: int = 0
    chains_redone: int = 0
    differences: list[str] = field(default_factory=list)


def kill_at_random(place: Place, rng: random.Random, counts: Counts, least: int) -> bool:
    """Starts the run and kills it at a random instant of a phase that has not been hit so often yet; False where the
    run came to its end."""
    waiting = place.waiting_rows()
    process = place.start()
    try:
        deadline, phase = time.monotonic() + LIMIT, None
        wanted = [kind for kind in PHASES if counts.phases[kind] < least] or [rng.choice(PHASES)]
        while process.poll() is None and ("Run " not in place.said() or phase not in wanted):
            assert time.monotonic() < deadline, place.said()
            time.sleep(0.02)
            phase = place.phase()
        time.sleep(rng.uniform(0.0, 0.3 if phase in SHORT else 1.2))
        told, phase = rng.random() < 0.25, place.phase()
        if process.poll() is not None or phase is None:
            return False
        process.send_signal(signal.SIGTERM if told else signal.SIGKILL)
        code = process.wait(LIMIT)
    finally:
        process.kill()
        process.wait()
    kept = re.search(r"(\d+) finished rollouts are kept", place.said())
    if kept is not None:
        counts.chains_kept += int(kept[1])
        counts.chains_redone += max(0, waiting - int(kept[1]))
    counts.kills += 1
    counts.signals["SIGTERM" if told else "SIGKILL"] += 1
    counts.phases[phase] += 1
    counts.codes[str(code)] += 1
    return True


def killed(root: Path, programs: Path, url: str, wanted: dict[str, Any], kills: int, seed: int) -> Counts:
    rng, counts = random.Random(seed), Counts()
    while counts.kills < kills:
        place = Place(root / f"killed-{counts.runs}", programs, url)
        while counts.kills < kills and kill_at_random(place, rng, counts, -(-kills // 10)):
            print(f"kill {counts.kills} of {kills}: {dict(counts.phases)}", file=sys.stderr)
        code = place.finish()
        counts.differences += [f"run {counts.runs}: exit code {code}"] if code else []
        counts.differences += [f"run {counts.runs}: {name}" for name in differences(place.run, wanted)]
        counts.runs += 1
        shutil.rmtree(place.folder)
    return counts


# --- writes that fail


def patch_writes(fail_at: int) -> Callable[[], int]:
    """Counts every write of a run, and lets the one of this number (from 1) fail as a full disk does; returns what asks
    for the count."""
    import orbax.checkpoint as ocp

    from selfevo_jax.storage import disk

    made = 0

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            if made == fail_at:
                raise OSError(28, "No space left on device")
            return act(*args, **kwargs)

        return do

    places: list[tuple[Any, str]] = [
        (disk, "put"),
        (ocp.Checkpointer, "save"),
        (ocp.CheckpointManager, "save"),
    ]
    for owner, name in places:
        setattr(owner, name, counted(getattr(owner, name)))
    return lambda: made


def child(fail_at: int) -> None:
    """`selfevo evolve tiny.yaml` with a write that fails; prints how many there were."""
    from selfevo_jax.cli import main

    made = patch_writes(fail_at)
    sys.argv = ["selfevo", "evolve", "tiny.yaml"]
    try:
        main()
    finally:
        print(f"writes: {made()}")


def failing_writes(root: Path, programs: Path, url: str, wanted: dict[str, Any], most: int | None) -> dict[str, Any]:
    counting = Place(root / "writes", programs, url)
    assert counting.finish(str(SELF), "--child", "0") == 0, counting.said()
    total = int(re.findall(r"writes: (\d+)", counting.said())[-1])
    chosen = range(1, total + 1) if most is None else sorted(random.Random(0).sample(range(1, total + 1), most))
    outcomes: dict[str, int] = collections.Counter()
    wrong = differences(counting.run, wanted)
    for number in chosen:
        place = Place(root / f"write-{number}", programs, url)
        code = place.finish(str(SELF), "--child", str(number))
        said = place.said()
        if code and ("error: " not in said or "Traceback" in said):
            wrong.append(f"write {number}: no clear message: {said[-300:]}")
        outcomes["went on" if code == 0 else "stopped with a message"] += 1
        if (again := place.finish()) != 0:
            wrong.append(f"write {number}: the next call ended with {again}: {place.said()[-300:]}")
        else:
            wrong += [f"write {number}: {name}" for name in differences(place.run, wanted)]
        print(f"write {number} of {total}: {dict(outcomes)}, {len(wrong)} wrong", file=sys.stderr)
        shutil.rmtree(place.folder)
    return {"writes": total, "failed": len(list(chosen)), "outcomes": dict(outcomes), "wrong": wrong}


# --- bytes that change


def corrupted(run: Path) -> dict[str, Any]:
    """One byte of each finished file is changed: whether `verify` names that file."""
    names, unnoticed = RunDir(run).sums.names(), []
    rng = random.Random(0)
    for name in names:
        file = run / name
        content = file.read_bytes()
        at = rng.randrange(len(content)) if content else 0
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else b"x")
        if not any(fault.startswith(name) for fault in verify(RunDir(run)).faults):
            unnoticed.append(name)
        file.write_bytes(content)
    return {"files": len(names), "unnoticed": unnoticed, "faults after": verify(RunDir(run)).faults}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--writes", type=int, default=None, help="fail only so many, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        return child(args.child)
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as folder, serving(judgement) as server:
        root = Path(folder)
        programs = root / "programs"
        alone = Place(root / "alone", programs, server.url)
        assert alone.finish() == 0, alone.said()
        wanted = end_state(alone.run)
        found = killed(root, programs, server.url, wanted, args.kills, args.seed)
        print(
            f"kills {found.kills} ({dict(found.signals)}), by phase {dict(found.phases)}, exit codes "
            f"{dict(found.codes)}; runs {found.runs}; finished chains kept {found.chains_kept}, redone "
            f"{found.chains_redone}; differences {len(found.differences)} {found.differences}"
        )
        writes = failing_writes(root, programs, server.url, wanted, args.writes)
        print(f"failing writes: {writes}")
        bytes_ = corrupted(alone.run)
        print(f"changed bytes: {bytes_}")
        if args.json is not None:
            results = {"kills": vars(found), "writes": writes, "bytes": bytes_}
            args.json.write_text(json.dumps(results, indent=1) + "\n")
        if found.differences or found.chains_redone or writes["wrong"] or bytes_["unnoticed"]:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
