"""Each file of a run truncated, flipped, deleted, doubled: what `verify` says of it, and what a run that goes on does.

    python benchmarks/broken_files.py --json broken.json
    python benchmarks/broken_files.py --resumes 20           # a quick check

Three tiny runs of the stories: one that is finished, one that was killed in a rollout, one that was stopped in a
fine-tuning with two states saved. Every file of each is broken in every way that `tests/rounds/breaking.py` lists, one
at a time, and `verify` has to name it. Then, of all these or of some drawn at random, the run goes on: either it ends
in the state that it would have come to undisturbed (records byte by byte but for times, and equal weights), or there is
one clear line that names the file. Neither is a fault.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "rounds"))

from breaking import WAYS, broken, files
from faults import end_state
from loop_helpers import config, run, unfinished

from selfevo_jax.errors import SelfevoError
from selfevo_jax.run import RunDir, verify
from selfevo_jax.train import TrainingKeeper

SAVING = {"every_steps": 1}
NOT_READ = ("logprobs.jsonl", "costs.jsonl", "config.yaml", "report.json")
"""What nothing is made from, and what holds the name of the folder."""


def stopped(root: Path) -> None:
    """A run that ends in its second fine-tuning after two steps, both saved."""
    keep = TrainingKeeper.keep

    def then_stop(self: TrainingKeeper, state: Any, record: Any) -> None:
        keep(self, state, record)
        if self.store.folder.name == "0001" and int(state.step) == 2:
            self.store.finish()
            raise KeyboardInterrupt

    TrainingKeeper.keep = then_stop  # type: ignore[method-assign]
    try:
        with contextlib.suppress(KeyboardInterrupt):
            run(config(root, saving=SAVING))
    finally:
        TrainingKeeper.keep = keep  # type: ignore[method-assign]


def state_of(root: Path) -> dict[str, Any]:
    return {name: value for name, value in end_state(root).items() if not name.endswith(NOT_READ)}


def outcome(root: Path, name: str, wanted: dict[str, Any]) -> str:
    """What becomes of a run with one broken file, in a word or two."""
    try:
        run(config(root, saving=SAVING))
    except SelfevoError as error:
        return "one clear line" if name in str(error) or "checksums.jsonl" in str(error) else f"unclear: {error}"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {error}"
    if faults := verify(RunDir(root)).faults:
        return "named by verify" if any(name in fault for fault in faults) else f"faults: {faults[:2]}"
    found = state_of(root)
    differ = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    return f"another end state: {differ[:3]}" if differ else "recovered"


GOOD = ("recovered", "one clear line", "named by verify")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resumes", type=int, default=None, help="resume only so many, drawn at random")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    kinds: dict[str, Callable[[Path], None]] = {
        "finished": lambda root: None,
        "in a rollout": lambda root: unfinished(root, 2, 9),
        "in a fine-tuning": stopped,
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        whole = place / "whole"
        run(config(whole, saving=SAVING))
        wanted = state_of(whole)
        cases, unnamed = [], []
        for kind, make in kinds.items():
            root = place / kind.replace(" ", "-")
            if kind != "in a fine-tuning":
                shutil.copytree(whole, root)
            make(root)
            there = {fault.split(":")[0] for fault in verify(RunDir(root)).faults}
            for name in files(root):
                for way in WAYS:
                    with broken(root / name, way):
                        named = any(
                            fault.startswith(name) for fault in verify(RunDir(root)).faults if name not in there
                        )
                    grows = (
                        kind == "in a rollout" and name.startswith("rounds/0002/") and way in ("truncated", "deleted")
                    )
                    if not named and not grows and not name.startswith("."):
                        unnamed.append(f"{kind}: {name} {way}")
                    cases.append((kind, root, name, way))
        print(f"broken {len(cases)} (files x ways), not named by verify: {len(unnamed)} {unnamed[:20]}", flush=True)
        drawn = cases if args.resumes is None else random.Random(0).sample(cases, args.resumes)
        outcomes: dict[str, int] = collections.Counter()
        wrong = []
        for done, (kind, root, name, way) in enumerate(drawn, start=1):
            copy, begin = place / "copy", time.monotonic()
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(root, copy)
            content = WAYS[way]((copy / name).read_bytes())
            (copy / name).unlink() if content is None else (copy / name).write_bytes(content)
            found = outcome(copy, name, wanted)
            outcomes[found if found in GOOD else "wrong"] += 1
            if found not in GOOD:
                wrong.append(f"{kind}: {name} {way}: {found}")
            took = time.monotonic() - begin
            print(f"{done} of {len(drawn)}: {kind}: {name} {way}: {found} ({took:.0f} s)", file=sys.stderr, flush=True)
        print(f"resumed {len(drawn)}: {dict(outcomes)}; wrong: {wrong}")
        if args.json is not None:
            results = {"cases": len(cases), "unnamed": unnamed, "outcomes": dict(outcomes), "wrong": wrong}
            args.json.write_text(json.dumps(results, indent=1) + "\n")
        if unnamed or wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
