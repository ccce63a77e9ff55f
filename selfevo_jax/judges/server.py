"""The settings of a server that answers questions."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from selfevo_jax.section import Positive, Section

WHERE_AND_HOW = (
    "url",
    "key_variable",
    "max_tokens_name",
    "concurrency",
    "retries",
    "answer_seconds",
    "longest_wait_seconds",
)
"""Keys that say where a server is and how it is asked; the others say who answers, and how."""
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]


class EndpointSection(Section):
    """An OpenAI-compatible server of chat completions."""

    url: str
    """As `https://HOST/v1`. Keys do not belong here."""
    model: Annotated[str, Field(pattern=r"\S")]
    """Its name there."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. It is read when the server is asked, and written nowhere."""
    temperature: float | None = Field(default=0.0, ge=0.0)
    """null leaves it to the server."""
    max_tokens: Positive = 1024
    """Of an answer."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls that limit."""
    concurrency: Annotated[int, Field(gt=0, le=4096)] = 16
    """Questions side by side at most. It is halved where the server is busy (429), and grows again."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 8
    """More tries of a question that met a busy or broken server."""
    answer_seconds: Seconds = 120.0
    """Of one try."""
    longest_wait_seconds: Seconds = 300.0
    """What the server may ask to wait (Retry-After); where it asks for more, the asking ends."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            there = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port or an address that cannot be
            there = False
        if not there or not url.isascii() or re.search(r"\s", url):
            raise ValueError(f"found {url!r}, expected a URL such as https://HOST/v1")
        if parts.path.rstrip("/").endswith("/completions"):
            raise ValueError(f"found {url!r}, expected the part before /chat/completions, such as https://HOST/v1")
        return url.rstrip("/")

    @field_validator("key_variable")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:  # it may be a key: it is not repeated
            raise ValueError("expected the name of an environment variable; the key itself does not belong here")
        return name
