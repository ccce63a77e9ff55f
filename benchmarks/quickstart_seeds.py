"""Three seeds of the quickstart and its ablations, each with standard errors over the seeds, as one table.

    python benchmarks/quickstart_seeds.py                                    # all of it; goes on where it was stopped
    python benchmarks/quickstart_seeds.py --seeds 1 --methods self,restart   # some runs, and the table of what is there

A run that is finished is not made again, so that parts may be run one after the other (or side by side with seeds of
their own, once `self` of the seed has its meta stage); --table prints the table of all that has been run.

The runs of a seed share its meta stage (the same M_meta, by `selfevo fork`), so that they differ in their rounds alone.
A figure over seeds is the mean and the standard error of the mean (standard deviation over the root of the number of
seeds).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import jax

from selfevo_jax.config import Config, load_config
from selfevo_jax.errors import EmptySelectionError
from selfevo_jax.progress import Reporter
from selfevo_jax.report import summarize
from selfevo_jax.rounds import Controller
from selfevo_jax.run import RunDir, fork
from selfevo_jax.run.run_dir import COMMITTED, META

ROOT = Path(__file__).parent.parent

ABLATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "self": ("SELF", ()),
    "plain": ("plain self-training on first responses", ("rounds.turns=0", "rounds.select=none")),
    "supervised": ("more supervised steps on D_meta", ("learn.meta_share=1.0", "learn.direct_share=0.8")),
    "nofilter": ("no filter", ("rounds.select=none",)),
    "random": ("random filter of the same size", ("rounds.select=random",)),
    "dself": ("D_self alone (no D_meta)", ("rounds.variant=continual_self_only",)),
    # D_meta and all D_self so far pooled by their sizes, from the base, at the learning rate of the meta stage
    "restart": (
        "restart from the base",
        (
            "rounds.variant=restart",
            "learn.meta_share=null",
            "learn.direct_share=null",
            "learn.steps=null",
            "learn.epochs=4",
            "learn.learning_rate=2e-3",
        ),
    ),
}


def config_of(name: str, seed: int, out: Path, extra: tuple[str, ...]) -> Config:
    changes = (f"seed={seed}", f"run_dir={out / f'{name}-{seed}'}", *ABLATIONS[name][1], *extra)
    return load_config(ROOT / "configs" / "quickstart.yaml", changes)


def share_meta(source: Path, config: Config) -> None:
    """Begins a run with the finished meta stage of another one: their configs differ in keys of the rounds alone."""
    if not RunDir(config.run_dir).config_file.exists() and RunDir(source).meta(COMMITTED).exists():
        fork(RunDir(source), config, META, Reporter())


def run(name: str, seed: int, out: Path, extra: tuple[str, ...]) -> None:
    config = config_of(name, seed, out, extra)
    if (Path(config.run_dir) / "benchmark.json").exists():
        return
    if name != "self":
        share_meta(out / f"self-{seed}", config)
    began, begun_before = time.monotonic(), (Path(config.run_dir) / "rounds").exists()
    try:
        with contextlib.closing(Controller(config, Reporter())) as controller:
            controller.run()
        ended = "complete"
    except EmptySelectionError as error:
        ended = str(error)
    record = Path(config.run_dir) / "benchmark.json"
    # a run that was stopped and resumed has no time of its own worth showing
    seconds = None if begun_before else time.monotonic() - began
    record.write_text(json.dumps({"seconds": seconds, "ended": ended}) + "\n")


def mean(values: list[float]) -> str:
    """Mean and standard error of the mean over seeds, in percent."""
    if not values:
        return "-"
    text = f"{100 * statistics.fmean(values):.1f}"
    if len(values) > 1:
        text += f" ± {100 * statistics.stdev(values) / math.sqrt(len(values)):.1f}"
    return text


def column(runs: list[list[dict[str, Any]]], index: int, key: str) -> list[float]:
    return [rows[index][key]["share"] for rows in runs if len(rows) > index and rows[index][key] is not None]


def table(names: list[str], seeds: list[int], out: Path) -> str:
    """Markdown: one row a method, figures in percent."""
    head = ["method", "M_meta", "M_1", "M_2", "M_3", "gain", "refined M_3", "first, rounds 1-3"]
    head += ["candidates, rounds 1-3", "kept, rounds 1-3"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in names:
        folders = [out / f"{name}-{seed}" for seed in seeds if (out / f"{name}-{seed}" / "config.yaml").exists()]
        runs = [[row for row in summarize(RunDir(f)).to_dict()["rows"] if row["checkpoint"] != "base"] for f in folders]
        if not runs:
            continue
        gains = [rows[-1]["direct"]["share"] - rows[0]["direct"]["share"] for rows in runs if len(rows) == 4]
        per_round = {
            key: "; ".join(mean(column(runs, r, key)) for r in (1, 2, 3))
            for key in ("data_first", "data_candidates", "data_kept")
        }
        cells = [ABLATIONS[name][0], *(mean(column(runs, r, "direct")) for r in range(4)), mean(gains)]
        cells += [mean(column(runs, 3, "refined")), *per_round.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def each_seed(seeds: list[int], out: Path) -> str:
    """What the means hide: SELF's direct accuracy and filter, seed by seed."""
    lines = []
    for seed in seeds:
        folder = out / f"self-{seed}"
        if not (folder / "benchmark.json").exists():
            continue
        rows = [row for row in summarize(RunDir(folder)).rows if row.direct and row.checkpoint != "base"]
        direct = " -> ".join(f"{100 * row.direct['share']:.1f}" for row in rows if row.direct)
        refined = " -> ".join(f"{100 * row.refined['share']:.1f}" for row in rows if row.refined)
        kept = "; ".join(
            f"{100 * row.data_candidates['share']:.1f} -> {100 * row.data_kept['share']:.1f}"
            for row in rows
            if row.data_candidates and row.data_kept
        )
        seconds = json.loads((folder / "benchmark.json").read_text())["seconds"]
        took = "resumed" if seconds is None else f"{seconds:.0f} s"
        lines.append(f"seed {seed}: direct {direct}; refined {refined}; candidates -> kept {kept}; {took}")
    for record in sorted(out.glob("*/benchmark.json")):
        if (ended := json.loads(record.read_text())["ended"]) != "complete":
            lines.append(f"{record.parent.name} ended early: {ended}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--methods", default=",".join(ABLATIONS), help="comma-separated: " + ", ".join(ABLATIONS))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "seeds")
    parser.add_argument("--set", action="append", default=[], help="key=value for every run")
    parser.add_argument("--table", action="store_true", help="print the table of what has been run")
    args = parser.parse_args()
    seeds, names = [int(s) for s in args.seeds.split(",")], args.methods.split(",")
    if unknown := [name for name in names if name not in ABLATIONS]:
        parser.error(f"--methods: {', '.join(unknown)}: expected some of {', '.join(ABLATIONS)}")
    # the others start from the meta stage of `self`
    runs = [(seed, name) for seed in seeds for name in sorted(names, key=lambda n: n != "self")]
    for number, (seed, name) in enumerate([] if args.table else runs, start=1):
        print(f"== run {number} of {len(runs)}: {name}, seed {seed}", flush=True)
        run(name, seed, args.out, tuple(args.set))
    print(f"\njax {jax.__version__}, {platform.machine()}, {jax.device_count()} {jax.devices()[0].platform} device(s)")
    print(table(names, seeds, args.out))
    print(each_seed(seeds, args.out))


if __name__ == "__main__":
    main()
