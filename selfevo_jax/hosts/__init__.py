"""Several processes as one run: who is there, meeting points with a limit, a watch, and an end that all share."""

from selfevo_jax.hosts.metadata import MetadataError, is_worth_asking, metadata
from selfevo_jax.hosts.place import Place, find_place
from selfevo_jax.hosts.secret import SECRET_FILE, Secret
from selfevo_jax.hosts.session import (
    agree,
    barrier,
    blind,
    check_devices,
    count,
    gather,
    is_active,
    is_writer,
    leave_hosts,
    peers,
    share,
    start_hosts,
    together,
    working,
)
from selfevo_jax.hosts.wire import HostError, Peer

__all__ = [
    "SECRET_FILE",
    "HostError",
    "MetadataError",
    "Peer",
    "Place",
    "Secret",
    "agree",
    "barrier",
    "blind",
    "check_devices",
    "count",
    "find_place",
    "gather",
    "is_active",
    "is_worth_asking",
    "is_writer",
    "leave_hosts",
    "metadata",
    "peers",
    "share",
    "start_hosts",
    "together",
    "working",
]
