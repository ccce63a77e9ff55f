"""The `selfevo` command."""

from __future__ import annotations

from rich.console import Console

from selfevo_jax import process
from selfevo_jax.cli import forks, runs, tools  # noqa: F401 - they bring their commands to `app`
from selfevo_jax.cli.common import app
from selfevo_jax.errors import SelfevoError
from selfevo_jax.progress import plain


def main() -> None:
    """Entry point: a user's error is one clear line and exit code 2; 75 says that the same command goes on.

    After an error the process ends at once: threads of Orbax wait five minutes for each other after a failed save.
    """
    process.prepare()
    try:
        app()
    except SelfevoError as error:
        Console(stderr=True).print(plain(f"error: {error}"), style="red", highlight=False, markup=False, soft_wrap=True)
        process.leave_now(error.exit_code)
