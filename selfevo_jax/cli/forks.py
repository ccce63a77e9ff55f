"""The command that begins a run from a finished point of another one."""

from __future__ import annotations

import json
import shlex
from typing import Annotated

import typer

from selfevo_jax.cli.common import Overrides, RunPath, app, console, say


@app.command("fork")
def fork_command(
    run: RunPath,
    new: Annotated[str, typer.Argument(help="Directory of the new run, here or on gs://.", show_default=False)],
    overrides: Overrides = None,
    point: Annotated[str, typer.Option("--from", help="base, meta, or the number of a finished round.")] = "meta",
) -> None:
    """Begin a new run with what another one has finished, and other settings from there on.

    Finished files are checked, then linked or copied. Every key may change but those that the kept files rest on:
    from meta on the model, the format, D_meta and the training of M_meta; from a round on also how feedback is read.
    With another method.name set the keys that it wants otherwise, too: all are named.

    Examples:

        selfevo fork runs/first runs/second --from meta learn.steps=400 sampling.respond.temperature=1.0
        selfevo fork runs/first runs/third --from 2 rounds.select=none
        selfevo evolve runs/third/config.yaml
    """
    from selfevo_jax.config import load_config
    from selfevo_jax.methods import open_method
    from selfevo_jax.progress import Reporter
    from selfevo_jax.run import RunDir, fork

    found = RunDir(run)
    found.read_config()
    loaded = load_config(found.config_file, [*(overrides or []), f"run_dir={json.dumps(new)}"])
    open_method(loaded)  # a run that could not go on is not begun
    made = fork(found, loaded, point, Reporter(console))
    say(f"{new}: a run from {point} of {run}, with {made.files} of its files")
    for line in made.changed:
        say(f"  {line}")
    if made.measured_again:
        say("  figures of the kept checkpoints rest on a changed key: they are measured again")
    say(f"Go on with: selfevo evolve {shlex.quote(new.rstrip('/') + '/config.yaml')}")
