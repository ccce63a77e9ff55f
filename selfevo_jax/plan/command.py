"""What `selfevo plan` does once jax may start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.plan import report
from selfevo_jax.plan.chips import Topology, find_topology
from selfevo_jax.plan.compiled import Options
from selfevo_jax.plan.planner import NOTE, PROGRAMS, open_setting, plan
from selfevo_jax.plan.search import Candidate, search
from selfevo_jax.progress import Reporter


def run(
    config: Config,
    topologies: Sequence[str],
    console: Console,
    only: Sequence[str] = (),
    searching: bool = False,
    most: int = 12,
    prompt: int | None = None,
    options: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Plans the config for each topology and prints tables, or one JSON object.

    Raises ConfigError for options that cannot be, and what `open_setting` raises, before anything is compiled.
    """
    unknown = [name for name in only if name not in PROGRAMS]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: expected {', '.join(PROGRAMS)}")
    settings = [open_setting(config, find_topology(name)) for name in topologies]
    chosen, given = tuple(p for p in PROGRAMS if not only or p in only), compiler_options(options)
    # JSON alone goes to the standard output: progress is written beside it
    reporter = Reporter(Console(stderr=True) if as_json else console)
    results: list[dict[str, Any]] = []
    for setting in settings:
        if searching:
            results.append(_search(config, setting.topology, most, given, reporter, as_json))
            continue
        reporter.line(f"{setting.topology.name}: compiling {', '.join(chosen)} (minutes, where the model is large)")

        def before(done: int, total: int, name: str) -> None:
            reporter.line(f"  {done + 1} of {total}: {name}")

        found = plan(setting, chosen, prompt, given, before)
        results.append(report.plan_dict(found))
        if not as_json:
            _show(found, reporter.console)
    if as_json:
        print(json.dumps({"note": NOTE, "plans": results}, indent=2))


def compiler_options(pairs: Sequence[str]) -> Options:
    """`KEY=VALUE` pairs. Raises ConfigError on others."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.startswith("xla_"):
            raise ConfigError(
                f"--option {pair}: expected xla_...=VALUE, such as "
                "xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000"
            )
        found[key] = value
    return found


def _search(
    config: Config, topology: Topology, most: int, options: Options, reporter: Reporter, as_json: bool
) -> dict[str, Any]:
    with reporter.task(f"{topology.name}: compiling training steps", most, "programs at most") as meter:

        def before(done: int, total: int, candidate: Candidate) -> None:
            shown = " ".join(f"{key.split('.')[-1]}={value}" for key, value in candidate.overrides().items())
            meter.set(done + most - total, shown)

        tried = search(config, topology, most, options, before)
    if not as_json:
        _line(reporter.console, f"Training step on {topology.name} ({NOTE}; {len(tried)} of {most} tried), best first:")
        _print(reporter.console, report.search_table(tried, topology))
        _line(reporter.console, report.peaks(topology))
        if tried and tried[0].fits:
            best = " ".join(f"{key}={value}" for key, value in tried[0].candidate.overrides().items())
            _line(reporter.console, f"Best: {best}")
    return {"topology": report.topology_dict(topology), "search": report.search_dict(tried)}


def _show(found: Any, console: Console) -> None:
    _line(console, "\n" + report.heading(found))
    _line(console, report.peaks(found.setting.topology))
    if found.programs:
        _line(console, f"\nMemory of a device ({NOTE}):")
        _print(console, report.memory_table(found))
        if any(p.totals is not None for p in found.programs):
            _line(console, f"\nOne execution ({NOTE}):")
            _print(console, report.cost_table(found))
    for text in [*report.remarks(found), *report.round_lines(found)]:
        _line(console, text)


def _print(console: Console, table: Table) -> None:
    (console if console.is_terminal else Console(width=180, file=console.file)).print(table)


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
