"""The secret of a run of several processes, in the folder that they share."""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING

from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.storage import place, storage_of
from selfevo_jax.untrusted import read_bounded

if TYPE_CHECKING:
    from selfevo_jax.hosts import Secret

WRITTEN_SECONDS = 5.0
"""In which whoever has made the file has also written it."""


def shared_secret(folder: str | os.PathLike[str]) -> Secret:
    """What `.selfevo-secret` in a folder holds, readable by its owner alone.

    Whichever process comes first makes it, and it stays: the next start finds the same.

    Raises ConfigError where it cannot be made or read.
    """
    from selfevo_jax.hosts import SECRET_FILE, Secret

    file = place(folder) / SECRET_FILE
    else_given = "or give all processes the same SELFEVO_SECRET"
    until = time.monotonic() + WRITTEN_SECONDS
    try:
        storage_of(file).claim(file, f"{secrets.token_hex(32)}\n".encode())
        while not (found := read_bounded(file, 1 << 12, ConfigError, f"remove it, {else_given}").strip()):
            if time.monotonic() > until:
                break
            time.sleep(0.1)
    except OSError as error:
        raise ConfigError(
            f"{file}: unreadable ({error.strerror or error}); run all processes as one user, {else_given}"
        ) from error
    except SelfevoError as error:
        raise ConfigError(f"{error}; {else_given}") from error
    return Secret(found, str(file))
