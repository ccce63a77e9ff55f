"""A whole run by one call."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfevo_jax import hosts, notice
from selfevo_jax.api.given import path_text, require_settings
from selfevo_jax.api.records import Run
from selfevo_jax.api.settings import as_overrides, as_tree
from selfevo_jax.config import Config, load_config, override, parse_config, set_key
from selfevo_jax.errors import EmptySelectionError, SelfevoError
from selfevo_jax.progress import Reporter
from selfevo_jax.report import summarize, write_page
from selfevo_jax.rounds import Controller
from selfevo_jax.run import RunDir, verify
from selfevo_jax.run.files import to_json
from selfevo_jax.run.session import told


def evolve(
    config: str | Path | Mapping[str, Any] | Config, settings: Mapping[str, Any] | None = None, *, quiet: bool = False
) -> Run:
    """Makes a run, or what is left of it: meta-skill learning, then rounds. The same call goes on where it stopped.

    Args:
      config: a YAML file, its sections as a mapping, or a config that was read.
      settings: keys with dots, in place of its own: `{"rounds.number": 2}`.
      quiet: nothing is printed but warnings.

    In the main thread SIGTERM ends the run at its next safe point with Preempted, as `selfevo evolve` does.

    Raises ConfigError for a faulty config or another run in its run_dir, and SelfevoError, or a kind of it, for what
    stops a run, with the remedy; what was made until then stays.
    """
    require_settings(settings)
    loaded = _loaded(config, settings or {})
    reporter = Reporter(quiet=quiet)
    main = threading.current_thread() is threading.main_thread()
    run = RunDir(loaded.run_dir)
    there = run.has(run.config_file)
    heeded = notice.heeded() if main else contextlib.nullcontext()
    with heeded, contextlib.closing(Controller(loaded, reporter)) as controller:
        try:
            finish(controller, there, reporter)
        except EmptySelectionError:
            _keep(controller.dir, reporter)
            raise
        _keep(controller.dir, reporter)
    return Run(run)


def _loaded(config: str | Path | Mapping[str, Any] | Config, settings: Mapping[str, Any]) -> Config:
    given = as_overrides(settings)
    if not isinstance(config, Mapping | Config):
        return load_config(path_text("config", config), given)
    tree = config.model_dump(mode="json") if isinstance(config, Config) else as_tree(config)
    for text in given:
        set_key(tree, *override(text))
    return parse_config(tree)


def finish(controller: Controller, there: bool, reporter: Reporter) -> None:
    """Makes what is left of an open run. One that is complete is checked, and the reporter is told how to go on.

    Args:
      there: whether the run was begun before it was opened.

    Raises SelfevoError for files that are not as they were written, and what stops a run.
    """
    run = controller.dir

    def is_over() -> str | None:
        """How to go on with a run that is complete."""
        found = summarize(run)
        if not found.complete:
            return None
        return "Raise rounds.number" if found.stopped is None else "Set rounds.stop_when_worse=false"

    whole = there and not run.lost()
    over = hosts.agree("whether the run is complete", is_over) if whole else None
    if over is not None:
        hosts.agree("checking the run", lambda: _require_whole(run))
        reporter.line(f"{run.root}: this run is complete. {over} to go on, or choose another run_dir.")
        return
    if there:
        reporter.line(f"{run.root}: going on with the run that is here.")
    with told(run, reporter):
        controller.run()


def _keep(run: RunDir, reporter: Reporter) -> None:
    """The table of a run, as JSON, and its page."""
    run.write(run.report_file, lambda: to_json(summarize(run).to_dict()))
    keep_page(run, reporter)


def keep_page(run: RunDir, reporter: Reporter) -> None:
    """Writes the page of a run beside it, and names it. By process 0; the others do not wait."""
    if hosts.is_writer() and write_page(run, reporter):
        reporter.line(f"Its page: {run.page_file}")


def _require_whole(run: RunDir) -> None:
    """Raises SelfevoError with every file of a run that is not as it was written."""
    if faults := verify(run).faults:
        raise SelfevoError(f"{run.root}: {len(faults)} fault(s):\n  " + "\n  ".join(faults))
