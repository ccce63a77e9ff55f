"""Pages as files."""

from __future__ import annotations

from collections.abc import Sequence

from selfevo_jax.progress import Reporter
from selfevo_jax.report.page.document import document
from selfevo_jax.report.page.embedded import Limits
from selfevo_jax.report.page.payload import payload
from selfevo_jax.run.run_dir import RunDir


def page_of(runs: Sequence[RunDir], limits: Limits | None = None, sets: Sequence[str] = ()) -> bytes:
    """The page of a run, or of several side by side. Raises as `payload` does."""
    figures, chains = payload(runs, limits, sets)
    names = [run["name"] for run in figures["runs"]]
    lines = [told for run in figures["runs"] for told in run["sentences"]]
    if len(names) > 1:
        lines = [f"{run['name']}: {told}" for run in figures["runs"] for told in run["sentences"]]
    return document(", ".join(names), lines, figures, chains)


def write_page(run: RunDir, reporter: Reporter) -> bool:
    """The page of a run into its directory, by the process that owns it. What goes wrong is a warning: the run has come
    to its end without it."""
    try:
        run.put_page(page_of([run]))
    except Exception as error:  # whatever it is
        reporter.warn(f"{run.page_file}: not written ({type(error).__name__}: {error}); the run itself is whole")
        return False
    return True
