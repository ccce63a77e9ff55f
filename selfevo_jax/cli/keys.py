"""The command that lists the keys of the config."""

from __future__ import annotations

from typing import Annotated

import typer

from selfevo_jax.cli.common import app, say


@app.command("keys")
def keys_command(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A section (data, data.stories), a key (learn.steps), or a part of a name; default: all.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the keys of the config: what each may be, its default, and what it is for.

    The name that another program has for a key leads to it. Beside the config's own sections there are `rows` (of a
    file), `scorer`, `tracker`, and `annotate` (of `selfevo annotate --settings`).

    Example:

        selfevo keys
        selfevo keys data.stories
        selfevo keys learn.steps
        selfevo keys batch_size
    """
    from selfevo_jax.api.keys import listed

    for line in listed(name):
        say(line)
