"""The runs of a study, one after another in this process, each beginning with what the others have of equal inputs."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from selfevo_jax import hosts, notice
from selfevo_jax.errors import ConfigError, EmptySelectionError, NonFiniteLossError, SelfevoError
from selfevo_jax.progress import Reporter
from selfevo_jax.report import as_markdown, as_text, compare, summarize, write_page
from selfevo_jax.rounds import Controller
from selfevo_jax.rounds.opening import prepare
from selfevo_jax.run import RunDir, share, shared
from selfevo_jax.run.files import read_json, to_json, write_file
from selfevo_jax.run.identity import config_differences
from selfevo_jax.run.lock import LockError
from selfevo_jax.run.names import STUDY
from selfevo_jax.run.session import told
from selfevo_jax.study.spec import Study, StudyRun

TABLE = "table"
COMPLETE = "complete"
_HONEST = (EmptySelectionError, NonFiniteLossError)
"""Ends of a run that say something of its settings: a row of the table with its reason."""


def conduct(study: Study, reporter: Reporter) -> bool:
    """Makes what is left of a study, each run with its page, and its table. Returns whether there was anything to do.

    Of several processes every one calls it. It can be killed at any instant, and the same call goes on. Raises
    ConfigError, before any work, for a folder that holds a run with another config, or a variant that cannot be
    run.
    """
    left = hosts.agree("what is left of the study", lambda: [run.name for run in study.runs if not _ended(study, run)])
    if left:
        _check(run for run in study.runs if run.name in left)
        reporter.line(f"{study.file}: {len(left)} of {len(study.runs)} runs are left")
    for number, run in enumerate(study.runs, start=1):
        if run.name in left:
            notice.stop_if_given(f"before run {run.name}")
            _make(study, run, f"run {number} of {len(study.runs)}: {run.variant}, seed {run.seed}", reporter)
        elif hosts.is_writer():
            _put_page(RunDir(run.config.run_dir), reporter)
    hosts.agree("writing the table", lambda: _write_table(study))
    return bool(left)


def _make(study: Study, run: StudyRun, title: str, reporter: Reporter) -> None:
    reporter.line(f"\n== {title}")
    there = RunDir(run.config.run_dir)
    begun = hosts.agree("whether the run is begun", there.is_begun)
    hosts.agree("forgetting how a run before it ended", lambda: _forget(study, run))
    taken = hosts.agree("what other runs have for this one", lambda: _share(study, run, reporter))
    for source, names in taken.items():
        reporter.line(f"  from {source}: {', '.join(names)}")
    began = time.monotonic()
    with contextlib.closing(Controller(run.config, reporter)) as controller:
        ended = _ran(controller, reporter)
        found = controller.dir
        found.write(found.report_file, lambda: to_json(summarize(found).to_dict()))
        if ended != COMPLETE:
            reporter.warn(f"{run.name} has ended early, and is in the table with its reason: {ended}")
        if hosts.is_writer():
            write_page(found, reporter)
    # a run that was gone on with has no time of its own worth showing
    seconds = None if begun else round(time.monotonic() - began, 1)
    hosts.agree("noting the end of the run", lambda: _note(study, run, ended, seconds))
    gc.collect()  # parameters of a run that is over make room for those of the next


def _put_page(run: RunDir, reporter: Reporter) -> None:
    """The page of a run that is at its end and has none: the process that made it may have been killed before it."""
    if run.page_file.exists():
        return
    try:
        with run.held():
            write_page(run, reporter)
    except LockError as error:
        reporter.warn(f"{run.page_file}: not written ({error})")


def _ran(controller: Controller, reporter: Reporter) -> str:
    """How a run came to its end."""
    try:
        with told(controller.dir, reporter):
            controller.run()
    except _HONEST as error:
        return str(error)
    return COMPLETE


def _share(study: Study, run: StudyRun, reporter: Reporter) -> dict[str, list[str]]:
    """What a run that is not begun takes from the others: the other run's name -> artefacts."""
    new = RunDir(run.config.run_dir)
    if not new.is_begun():
        share(run.config, [RunDir(other.config.run_dir) for other in study.runs if other is not run], reporter)
    taken: dict[str, list[str]] = {}
    for one in shared(new):
        taken.setdefault(one.source, []).append(one.artefact)
    return taken


# --- what is done


def _records(study: Study) -> dict[str, Any]:
    file = study.out / STUDY
    found: dict[str, Any] = read_json(file)["runs"] if file.exists() else {}
    return found


def _note(study: Study, run: StudyRun, ended: str, seconds: float | None) -> None:
    record = {"ended": ended, "seconds": seconds}
    write_file(study.out / STUDY, to_json({"runs": {**_records(study), run.name: record}}))


def _forget(study: Study, run: StudyRun) -> None:
    """How a run ended is not true of the one that is made in its place, or gone on with: it may be broken off."""
    records = _records(study)
    if records.pop(run.name, None) is not None:
        write_file(study.out / STUDY, to_json({"runs": records}))


def _ended(study: Study, run: StudyRun) -> bool:
    """Whether a run has come to its end. Raises ConfigError where its folder holds another run."""
    there = RunDir(run.config.run_dir)
    if not there.is_begun():
        return False
    begun, wanted = there.read_config(), run.config
    if differences := config_differences(begun, wanted):
        raise ConfigError(
            f"{there.root}: a run with another config is here:\n  "
            + "\n  ".join(differences)
            + f"\nSet these back for variant {run.variant}, remove that folder, or choose another `out`"
        )
    if begun.rounds.number != wanted.rounds.number or begun.rounds.stop_when_worse != wanted.rounds.stop_when_worse:
        return False
    return _stopped(study, run) is not None or summarize(there).complete


def _stopped(study: Study, run: StudyRun) -> str | None:
    """Why a run ended early; None where it did not."""
    ended = _records(study).get(run.name, {}).get("ended", COMPLETE)
    return None if ended == COMPLETE else str(ended)


def _check(runs: Iterable[StudyRun]) -> None:
    """Each variant's data, model and settings, so that what cannot be run is found before any work."""
    silent = Reporter(Console(quiet=True))  # each run says for itself what is to be known
    first, faults = dict[str, StudyRun](), list[str]()
    for run in runs:
        first.setdefault(run.variant, run)
    for name, run in first.items():
        try:
            prepare(run.config, silent)
        except SelfevoError as error:
            faults += [f"variant {name}: {fault}" for fault in error.faults]
    if faults:
        raise ConfigError("\n".join(faults))


def _write_table(study: Study) -> None:
    """The table of what is there; a file that says it already stays as it is."""
    runs = {run.name: (RunDir(run.config.run_dir), _stopped(study, run)) for run in study.runs}
    found = compare(
        [root for root, _ in runs.values()],
        baseline=study.baseline,
        names={str(RunDir(run.config.run_dir).root): run.variant for run in study.runs},
        ended={str(root.root): why for root, why in runs.values() if why is not None},
    )
    contents: Mapping[str, Callable[[], bytes]] = {
        "txt": lambda: as_text(found).encode(),
        "json": lambda: to_json(found.to_dict()),
        "md": lambda: as_markdown(found).encode(),
    }
    for kind, make in contents.items():
        _write_if_other(study.out / f"{TABLE}.{kind}", make())


def _write_if_other(file: Path, content: bytes) -> None:
    if not file.exists() or file.read_bytes() != content:
        write_file(file, content)
