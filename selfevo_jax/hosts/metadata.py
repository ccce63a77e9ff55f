"""What Google Cloud tells a machine of itself."""

from __future__ import annotations

import os
import urllib.error
import urllib.request


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


def attribute(key: str) -> str | None:
    """An attribute of this machine on Google Cloud; None elsewhere."""
    return metadata(f"attributes/{key}")
