"""The run's secret: whoever knows it is a process of the run. It is proven in both directions and never sent."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from selfevo_jax.errors import ConfigError

VARIABLE = "SELFEVO_SECRET"
SECRET_FILE = ".selfevo-secret"
"""Holds the secret in a folder that all processes share. No record of a run: its name is hidden."""
SHORTEST, LONGEST = 16, 4096
"""Bytes of a secret."""
PROOF_BYTES = 32


@dataclass(frozen=True)
class Secret:
    """A key that all processes of a run have, and where this one has it from."""

    key: bytes = field(repr=False)
    origin: str

    def __post_init__(self) -> None:
        if not SHORTEST <= len(self.key) <= LONGEST:
            raise ConfigError(
                f"{self.origin}: holds a secret of {len(self.key)} bytes, expected {SHORTEST} to {LONGEST}; "
                + (
                    "give all processes the same one, made for example with: openssl rand -hex 32"
                    if self.origin == VARIABLE
                    else "remove the file and start all processes again, which makes a new one"
                )
            )

    def proof(self, by: str, challenge: bytes, answer: bytes) -> bytes:
        """What shows that `by` knows the secret, for one connection: the nonces of its two ends (RFC 2104)."""
        return hmac.digest(self.key, b"\0".join((by.encode(), challenge, answer)), "sha256")


def secret_of_environment(environ: Mapping[str, str] = os.environ) -> Secret | None:
    """What SELFEVO_SECRET holds; None where it is not set. Raises ConfigError where it is too short."""
    text = environ.get(VARIABLE, "").strip()
    return Secret(os.fsencode(text), VARIABLE) if text else None
