"""The processes of this run, as the rest of the package sees them. Alone, all of it does nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.hosts.member import Member
from selfevo_jax.hosts.place import find_place
from selfevo_jax.hosts.registry import Registry, free_port, listening_host
from selfevo_jax.hosts.relay import Relay
from selfevo_jax.hosts.secret import VARIABLE, Secret, secret_of_environment
from selfevo_jax.hosts.threads import THREADS, cpu_devices, threads_of_all
from selfevo_jax.hosts.wire import SILENT_SECONDS, Peer
from selfevo_jax.process import leave_now

T = TypeVar("T")

START_SECONDS = 300.0
"""How long a process waits for the others to start."""
BARRIER_SECONDS = 1800.0
"""How long a process waits for the others at a meeting point, where they may still compile or read a model. That one
has died or hangs is found by the watch, and much sooner."""
SEEN_SECONDS = 20.0
"""How long what process 0 has written to shared storage may take to be seen by the others."""
CULPRIT_SECONDS = 10.0
"""How long an error inside a computation is held back until it is known whether another process caused it."""
_STATUS_CODES = frozenset({"ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNKNOWN"})
_JAX_HEARTBEAT = 600
"""Seconds of JAX's own watch, which ends a process without words: ours must be long over."""
_JAX_SHUTDOWN = 30
_AT_ONCE = 256
"""Values in a message of `share`."""


@dataclass
class _Session:
    member: Member
    registry: Registry | None
    relay: Relay | None
    limit: float
    """Of a meeting point, in seconds."""
    own_jax: bool
    """Whether JAX's processes were brought together here."""


_session: _Session | None = None


def start_hosts(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    limit: float = START_SECONDS,
    *,
    secret: Callable[[], Secret] | None = None,
    barrier_limit: float = BARRIER_SECONDS,
    silent_limit: float = SILENT_SECONDS,
) -> None:
    """Brings the processes together, before anything else of JAX is used; does nothing for a process that is alone.

    Args:
      coordinator, processes, process_id: HOST:PORT of process 0, how many there are, which one this is; what is left
        out comes from the environment (see `find_place`).
      limit: seconds until all must have started.
      secret: gives the run's secret where SELFEVO_SECRET is not set; not called for a process that is alone.
      barrier_limit: seconds that the processes wait for each other later.
      silent_limit: seconds without a sign of life, after which a process counts as lost.

    Raises:
      ConfigError: a place that cannot be, or no secret.
      MetadataError: a TPU machine could not be asked whether it belongs to a pod.
      HostError: process 0 has another secret, a process is absent (named by its id), two have the same id, or their
        versions differ.
    """
    global _session  # noqa: PLW0603
    place = find_place(coordinator, processes, process_id)
    if place is None:
        return
    if _session is not None:
        raise SelfevoError("start_hosts: the processes of this run are together already; call it once")
    key = secret_of_environment() or (secret() if secret is not None else None)
    if key is None:
        raise ConfigError(
            f"several processes: {VARIABLE} is not set; give all of them the same secret there, made for example with: "
            "openssl rand -hex 32"
        )
    first, registry = place.process_id == 0, None
    if first:
        registry = Registry(place.host, place.port, place.processes, limit, key, free_port(), silent_limit)
    try:
        member = Member(place, limit, key, _versions(), silent_limit)
    except BaseException:
        if registry is not None:
            registry.close()
        raise
    _session = _Session(member, registry, None, barrier_limit, not _jax_has_processes())
    if _session.own_jax:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        threads = threads_of_all(gather("counting CPU devices", cpu_devices(), limit), os.cpu_count() or 1)
        if threads is not None:
            os.environ.setdefault(THREADS, str(threads))
        # SIGTERM ends a process as ever, and the others with it: without this JAX would swallow it
        jax.config.update("jax_enable_preemption_service", False)
        if not first:
            _session.relay = Relay(place.host, member.jax_port)
        jax.distributed.initialize(
            _session.relay.address if _session.relay is not None else f"127.0.0.1:{member.jax_port}",
            place.processes,
            place.process_id,
            cluster_detection_method="deactivate",
            coordinator_bind_address=f"{listening_host(place.host)}:{member.jax_port}",
            initialization_timeout=round(max(30.0, limit)),
            heartbeat_timeout_seconds=_JAX_HEARTBEAT,
            shutdown_timeout_seconds=_JAX_SHUTDOWN,
        )


def _jax_has_processes() -> bool:
    """Whether JAX's processes are together; it is not imported to be asked, which takes seconds."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _versions() -> str:
    names = ("selfevo-jax", "jax", "jaxlib")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def check_devices() -> None:
    """Whether JAX sees the same processes as we do. Starts JAX's backend. Raises SelfevoError where it does not."""
    if _session is None:
        return
    import jax

    here, found = (_session.member.place.process_id, count()), (jax.process_index(), jax.process_count())
    if here != found:
        raise SelfevoError(
            f"this is process {here[0]} of {here[1]}, but JAX's {jax.default_backend()} devices say {found[0]} of "
            f"{found[1]}; on a TPU pod give no --process-id, or the worker's own number"
        )


def is_active() -> bool:
    """Whether this process is one of several that `start_hosts` brought together."""
    return _session is not None


def count() -> int:
    """How many processes there are."""
    return 1 if _session is None else len(_session.member.peers)


def peers() -> list[Peer]:
    """All processes, in the order of their ids; empty for one that is alone."""
    return [] if _session is None else list(_session.member.peers)


def is_writer() -> bool:
    """Whether this process writes the files that all share, and speaks for all: process 0."""
    if _session is not None:
        return _session.member.place.process_id == 0
    if not _jax_has_processes():
        return True
    import jax

    return jax.process_index() == 0


def barrier(name: str, limit: float | None = None) -> None:
    """Waits until every process has come here; `name` says in words what for.

    Raises HostError after `limit` seconds (`start_hosts` has the default) that names the barrier and the processes
    that are missing. (Where JAX's processes were brought together without `start_hosts`, it is JAX's own barrier,
    which has no limit.)
    """
    if _session is None and _jax_has_processes():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
    else:
        gather(name, None, limit)


def gather(name: str, value: T, limit: float | None = None) -> list[T]:
    """A barrier to which each process brings a small JSON value; returns all of them, in the order of the ids."""
    if _session is None:
        return [value]
    return _session.member.meet(name, value, _session.limit if limit is None else limit)


def agree(name: str, decide: Callable[[], T]) -> T:
    """What process 0 decides, on every process: a small JSON value. `decide` is called there alone.

    Whatever is read from shared files and chooses what is computed next must be agreed on: a slow process could see a
    file that process 0 has written since. The others wait for `decide` as long as it takes.
    """
    if _session is None:
        return decide()
    decided: T | None = None
    if is_writer():
        with working(name):
            decided = decide()
    return gather(name, decided)[0]  # type: ignore[return-value]


def share(name: str, items: Sequence[T]) -> list[T]:
    """What process 0 has, on every process: JSON values, however many; those of the others are not looked at."""
    if _session is None:
        return list(items)
    size, found = gather(f"{name}: how many", len(items))[0], list[T]()
    for start in range(0, size, _AT_ONCE):
        part = list(items[start : start + _AT_ONCE]) if is_writer() else None
        found += gather(f"{name}: {start} of {size}", part)[0] or []
    return found


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Work of this process that may take long: the others wait for it without a limit, as long as it lives."""
    if _session is None:
        yield
    else:
        with _session.member.working(what):
            yield


def blind(name: str, sees: Callable[[], bool], limit: float | None = None) -> list[Peer]:
    """The processes that do not see, within SEEN_SECONDS, what process 0 has written to storage that all share."""
    if _session is None:
        return []
    until = time.monotonic() + (SEEN_SECONDS if limit is None else limit)
    with working(name):
        while not (seen := sees()) and time.monotonic() < until:
            time.sleep(0.2)
    return [peer for peer, well in zip(peers(), gather(name, seen), strict=True) if not well]


def leave_hosts() -> None:
    """The good end of a run: waits for all, and lets go of JAX's processes and ours."""
    global _session  # noqa: PLW0603
    if _session is None:
        return
    barrier("the end of the run")
    _session.member.leave()
    if _session.own_jax:
        import jax

        jax.distributed.shutdown()
    _session.member.close()
    if _session.relay is not None:
        _session.relay.close()
    if _session.registry is not None:
        _session.registry.close()
        _say_refused(_session.registry)
    _session = None


def _say_refused(registry: Registry) -> None:
    if registry.refused is not None:
        print(f"warning: {registry.refused}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def together(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    limit: float = START_SECONDS,
    secret: Callable[[], Secret] | None = None,
    **limits: float,
) -> Iterator[None]:
    """A command of several processes: `start_hosts` (with its arguments), and an end that all share.

    An error in one of them ends all: it is printed where it happened, and its last line, with the name of the process,
    by the others. The exit code is 2 for a user's error, 130 for Ctrl-C, else 1, on all of them. Alone, nothing is
    caught.
    """
    start_hosts(coordinator, processes, process_id, limit, secret=secret, **limits)
    try:
        yield
        leave_hosts()
    except BaseException as error:
        if _session is None:
            raise
        if _session.registry is not None:
            _say_refused(_session.registry)
        _end_all(_session.member, error)


def _of_computing(error: BaseException) -> bool:
    """Whether XLA says it: as JaxRuntimeError, or (gloo's failures) as ValueError that begins with a status code."""
    import jax

    code = str(error).partition(":")[0]
    return isinstance(error, jax.errors.JaxRuntimeError) or (isinstance(error, ValueError) and code in _STATUS_CODES)


def _end_all(member: Member, error: BaseException) -> None:
    """Ends this process, and with it all others; does not return."""
    found = member.finding(CULPRIT_SECONDS if _of_computing(error) else 0.0)
    if isinstance(error, SelfevoError):
        why, code = str(error), error.exit_code
    elif found is not None:  # the error came after the fact: a collective that lost a process
        why, code = found
    elif isinstance(error, KeyboardInterrupt):
        why, code = "stopped by the user (Ctrl-C)", 130
    elif isinstance(error, SystemExit):
        why, code = f"ended early, exit code {error.code}", error.code if isinstance(error.code, int) else 1
    else:
        traceback.print_exception(error)
        why, code = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1], 1
    if found is not None and isinstance(error, SelfevoError) and why == found[0]:
        code = found[1]
    member.say_once(why)
    if found is None:
        member.tell(why, code)
    leave_now(code)
