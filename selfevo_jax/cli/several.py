"""Commands that several processes make together, and their options."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

from selfevo_jax.cli.common import A_DAY, console, finite, say
from selfevo_jax.cli.secret import shared_secret


@dataclass(frozen=True)
class Hosts:
    """What a command is told of the processes that make it together."""

    coordinator: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of process 0, where several hosts make one run (or JAX_COORDINATOR_ADDRESS)."),
    ] = None
    processes: Annotated[int | None, typer.Option(help="How many processes there are (or JAX_NUM_PROCESSES).")] = None
    process_id: Annotated[int | None, typer.Option(help="Which one this is, from 0 (or JAX_PROCESS_ID).")] = None
    start_limit: Annotated[
        float,
        typer.Option(help="Seconds until all processes must have started.", min=1.0, max=A_DAY, callback=finite),
    ] = 300.0

    @contextlib.contextmanager
    def together(self, shared: Callable[[], str | os.PathLike[str]]) -> Iterator[None]:
        """A command of one process or of several: process 0 speaks for all, and an error in one ends all.

        `shared` names the folder that several processes share: without SELFEVO_SECRET their secret is kept there.
        """
        from selfevo_jax import hosts

        told = (self.coordinator, self.processes, self.process_id, self.start_limit)
        with hosts.together(*told, lambda: shared_secret(shared())):
            console.quiet = not hosts.is_writer()
            if hosts.is_active():
                say(f"{hosts.count()} processes: {', '.join(f'{p.host} (pid {p.pid})' for p in hosts.peers())}")
            yield


def with_hosts(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for each field of its argument `group`."""
    kinds, named = get_type_hints(Hosts, include_extras=True), inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(field.name, named, default=field.default, annotation=kinds[field.name])
        for field in dataclasses.fields(Hosts)
    ]
    signature = inspect.signature(command, eval_str=True)
    own = [given for given in signature.parameters.values() if given.name != "group"]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        group = Hosts(**{option.name: given.pop(option.name) for option in options})
        command(**given, group=group)

    seen: Any = run
    seen.__signature__ = signature.replace(parameters=[*own, *options])
    seen.__annotations__ = {given.name: given.annotation for given in (*own, *options)}
    return run
