"""Where this process stands among the others: from flags, from the environment, or from a TPU pod's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from selfevo_jax.errors import ConfigError
from selfevo_jax.hosts.metadata import attribute, is_worth_asking, surely

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""What the flags --coordinator, --processes and --process-id stand for; JAX and its launchers use the same names."""
POD_PORT = 8482
"""Where process 0 of a TPU pod waits for the others, unless JAX_COORDINATOR_PORT says another."""


@dataclass(frozen=True)
class Place:
    """This process among the others. Process 0 is the one at `host`."""

    host: str
    port: int
    processes: int
    process_id: int

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find_place(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    environ: Mapping[str, str] | None = None,
    metadata: Callable[[str], str | None] | None = None,
) -> Place | None:
    """The place of this process; None when it is alone.

    What is given goes before the environment (`VARIABLES`), and that before a TPU pod's own (`tpu_pod`).
    `processes=1` is alone whatever the environment says. Raises ConfigError for a place that cannot be, and
    MetadataError where a TPU machine could not be asked for its place.
    """
    known = os.environ if environ is None else environ
    coordinator = coordinator or known.get(VARIABLES[0]) or None
    processes = _number(known, VARIABLES[1]) if processes is None else processes
    process_id = _number(known, VARIABLES[2]) if process_id is None else process_id
    if processes == 1 and process_id in (None, 0):
        return None
    if None in (coordinator, processes, process_id):
        pod = tpu_pod(known, metadata)
        if pod is not None:
            coordinator = coordinator or pod.address
            processes = pod.processes if processes is None else processes
            process_id = pod.process_id if process_id is None else process_id
    given = {"--coordinator": coordinator, "--processes": processes, "--process-id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if coordinator is None or processes is None or process_id is None:
        names = " and ".join(f"{name} ({VARIABLES[list(given).index(name)]})" for name in missing)
        raise ConfigError(f"several hosts: {names} must be given too; each process gets all three")
    host, port = _split(coordinator)
    if processes < 1:
        raise ConfigError(f"--processes {processes}: expected 1 or more")
    if not 0 <= process_id < processes:
        raise ConfigError(f"--process-id {process_id}: expected 0 to {processes - 1} (--processes {processes})")
    return Place(host, port, processes, process_id) if processes > 1 else None


def tpu_pod(environ: Mapping[str, str], metadata: Callable[[str], str | None] | None = None) -> Place | None:
    """The place that a TPU pod gives its workers; None on one host.

    GKE names the workers in TPU_WORKER_HOSTNAMES (or TPU_PROCESS_ADDRESSES) and this one in TPU_WORKER_ID; a TPU VM's
    metadata server has both under other names; several slices are told apart by MEGASCALE_* variables. They are
    ordered as the TPU runtime orders them, so process 0 is its worker 0.
    """
    names = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    worker = environ.get("TPU_WORKER_ID")
    megascale: Mapping[str, str] = environ
    if not names:
        if metadata is None and not is_worth_asking(environ):
            return None
        ask = surely(metadata or attribute)
        names, worker = ask("worker-network-endpoints"), ask("agent-worker-number")
        if not names:
            return None
        pairs = (line.partition(":") for line in (ask("tpu-env") or "").splitlines())
        megascale = {key.strip(): value.strip().strip("'") for key, _, value in pairs} | dict(environ)
    workers = [_worker(name) for name in names.split(",") if name.strip()]
    slices = _number(megascale, "MEGASCALE_NUM_SLICES") or 1
    if len(workers) * slices <= 1:
        return None
    if worker is None or not worker.strip().isdigit():
        raise ConfigError(
            f"a TPU pod of {len(workers)} workers, but TPU_WORKER_ID is {worker!r}; expected a number (of the metadata "
            "server: agent-worker-number), or --process-id"
        )
    number = (_number(megascale, "MEGASCALE_SLICE_ID") or 0) * len(workers) + int(worker)
    first = (megascale.get("MEGASCALE_COORDINATOR_ADDRESS") or workers[0]).split(":")[0]
    return Place(first, _number(environ, "JAX_COORDINATOR_PORT") or POD_PORT, len(workers) * slices, number)


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    return host == "localhost" or host.startswith("127.")


def _worker(name: str) -> str:
    """The address in `host`, `host:port` or (older metadata) `name:id:address`."""
    parts = name.strip().split(":")
    return parts[2] if len(parts) == 3 else parts[0]


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if not text.isdigit():
        raise ConfigError(f"{name}={text}: expected a whole number")
    return int(text)


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"--coordinator {address}: expected HOST:PORT of process 0, such as 10.0.0.2:8482")
    return host, int(port)
