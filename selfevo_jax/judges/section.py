"""The settings of judges that have some of their own."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, JsonValue, field_validator

from selfevo_jax import plugins
from selfevo_jax.errors import ConfigError
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

    @field_validator("key_variable")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:  # it may be a key: it is not repeated
            raise ValueError("expected the name of an environment variable; the key itself does not belong here")
        return name


GROUP = "selfevo_jax.judges"
BUILT_IN = ("verdict", "rating")


class JudgeSection(Section):
    """What the loop believes of an answer: feedback of the model's own, as a turn of the chain."""

    kind: str = "verdict"
    """`verdict`, `rating`, one of an installed package (entry points `selfevo_jax.judges`), or `module:name`."""
    good_rating: float = 10.0
    """With `rating`: the least rating that lets a row through."""
    scale: float = 10.0
    """With `rating`: the top mark."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a judge from outside the package."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        plugins.check_name(GROUP, kind, BUILT_IN)
        return kind


def open_judge(section: JudgeSection) -> ChainJudge:
    """Raises ConfigError for settings that cannot be."""
    if section.kind in BUILT_IN and section.settings:
        raise ConfigError(f"judge.settings: {section.kind} has none here; set judge.good_rating and judge.scale")
    if section.kind == "verdict":
        return VerdictJudge()
    if section.kind == "rating":
        return RatingJudge(section.good_rating, section.scale)
    judge: ChainJudge = plugins.made(GROUP, section.kind, "judge.kind", BUILT_IN, **section.settings)
    return judge
