"""What Google Cloud tells a machine of itself."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping


def metadata(key: str) -> str | None:
    """A value below `instance/` of this machine's metadata server, or None where there is no such key or server.

    Source: cloud.google.com/compute/docs/metadata. GCE_METADATA_IP names another server.
    """
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{server}/computeMetadata/v1/instance/{key}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except (OSError, urllib.error.URLError, ValueError):
        return None


def is_worth_asking(environ: Mapping[str, str]) -> bool:
    """Whether there may be a server: JAX sets this variable when it is imported on a machine without TPU chips."""
    return environ.get("TPU_SKIP_MDS_QUERY") is None


def attribute(key: str) -> str | None:
    """An attribute of this machine on Google Cloud; None elsewhere."""
    return metadata(f"attributes/{key}")
