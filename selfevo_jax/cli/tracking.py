"""The command that shows a run in a tracker."""

from __future__ import annotations

from typing import Annotated

import typer

from selfevo_jax.cli.common import RunPath, app, say


@app.command("log")
def log_command(
    run: RunPath,
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings of the tracker, such as project=mine.", show_default=False)
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="tensorboard, wandb, trackio, mlflow, or module:name; default: those of the run's `track`."),
    ] = None,
    dir: Annotated[str | None, typer.Option(help="Folder for what the tracker keeps; default: in the run.")] = None,
) -> None:
    """Show the figures of a run in a tracker: all that is finished, the same as while it went on.

    What the tracker has already is not shown again, so the command may be called at any time. Keys and passwords come
    from the environment alone.

    Example:

        selfevo log runs/quickstart --to tensorboard && tensorboard --logdir runs
        selfevo log runs/mine --to wandb project=mine entity=my-team
    """
    from selfevo_jax.run import RunDir, replay
    from selfevo_jax.run.following import trackers_of

    found = RunDir(run)
    for key, section in trackers_of(found, to, dir, settings or []):
        new, there = replay(found, section, key)
        say(f"{run}: {section.kind}: {new} events are shown, {there} were there already")
