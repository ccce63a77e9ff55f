"""The settings of judges that have some of their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from selfevo_jax.judges.base import ChainJudge
from selfevo_jax.judges.rating import RatingJudge
from selfevo_jax.judges.verdict import VerdictJudge
from selfevo_jax.section import Count, Positive, Section


class EndpointSection(Section):
    """An OpenAI-compatible server of chat completions."""

    url: str
    """As `https://HOST/v1`. Keys do not belong here."""
    model: str
    """Its name there."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. It is read when the server is asked, and written nowhere."""
    temperature: float | None = Field(default=0.0, ge=0.0)
    """null leaves it to the server."""
    max_tokens: Positive = 1024
    """Of an answer."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls that limit."""
    concurrency: Positive = 16
    """Questions side by side at most. It is halved where the server is busy (429), and grows again."""
    retries: Count = 8
    """More tries of a question that met a busy or broken server."""
    answer_seconds: float = Field(default=120.0, gt=0.0, allow_inf_nan=False)
    """Of one try."""
    longest_wait_seconds: float = Field(default=300.0, gt=0.0, allow_inf_nan=False)
    """What the server may ask to wait (Retry-After); where it asks for more, the asking ends."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"found {url!r}, expected a URL such as https://HOST/v1")
        return url.rstrip("/")


class JudgeSection(Section):
    """What the loop believes of an answer: feedback of the model's own, as a turn of the chain."""

    kind: Literal["verdict", "rating"] = "verdict"
    good_rating: float = 10.0
    """With `rating`: the least rating that lets a row through."""
    scale: float = 10.0
    """With `rating`: the top mark."""


def open_judge(section: JudgeSection) -> ChainJudge:
    """Raises ConfigError for settings that cannot be."""
    return VerdictJudge() if section.kind == "verdict" else RatingJudge(section.good_rating, section.scale)
