"""What Google Cloud tells a machine of itself."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from selfevo_jax.errors import SelfevoError, first_line

ASK_SECONDS = 60.0
"""How long a question that failed is asked again."""
_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 8.0
_TIMEOUT = 5.0
_MOST = 1 << 20
"""Bytes of an answer that are read."""
_NO_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
# the server is on this machine's own network: what a proxy says is another's answer
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class MetadataError(SelfevoError):
    """The metadata server could not be asked: nothing is known of the machine. That is not an answer."""


def metadata(key: str) -> str | None:
    """A value below `instance/` of this machine's metadata server, or None where there is no such key or server.

    Asks once, and no proxy. Raises MetadataError for everything that is neither a value nor a plain no (404, no such
    name, nothing listens): a busy server, no answer in time, a broken one.
    Source: cloud.google.com/compute/docs/metadata. GCE_METADATA_IP names another server.
    """
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{server}/computeMetadata/v1/instance/{key}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with _opener.open(request, timeout=_TIMEOUT) as answer:
            text: str = answer.read(_MOST).decode()
            return text
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.client.NOT_FOUND:
                return None
        raise MetadataError(f"{url}: HTTP {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, socket.gaierror) and cause.errno in _NO_NAME:
            return None
        if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
            return None
        said = first_line(cause) if isinstance(cause, BaseException) else str(cause)
        raise MetadataError(f"{url}: {said}") from error


def surely(
    ask: Callable[[str], str | None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[str], str | None]:
    """`ask` with an answer: asks again, at longer and longer intervals. Raises MetadataError after ASK_SECONDS."""

    def answer(key: str) -> str | None:
        until, pause = clock() + ASK_SECONDS, _BACK_OFF
        while True:
            try:
                return ask(key)
            except MetadataError as error:
                if clock() + pause > until:
                    raise MetadataError(
                        f"{error}, asked for {ASK_SECONDS:g} s: it is not known whether this machine is a worker of a "
                        "TPU pod. Try again, or give --coordinator, --processes and --process-id, or --processes 1 for "
                        "one that works alone"
                    ) from error
            sleep(pause)
            pause = min(2 * pause, _LONGEST_BACK_OFF)

    return answer


def is_worth_asking(environ: Mapping[str, str]) -> bool:
    """Whether there may be a server: JAX sets this variable when it is imported on a machine without TPU chips."""
    return environ.get("TPU_SKIP_MDS_QUERY") is None


def attribute(key: str) -> str | None:
    """An attribute of this machine on Google Cloud; None elsewhere. Raises MetadataError as `metadata`."""
    return metadata(f"attributes/{key}")
