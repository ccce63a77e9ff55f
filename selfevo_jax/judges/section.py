"""The settings of judges that have some of their own."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from selfevo_jax import plugins
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges.base import ChainJudge
from selfevo_jax.judges.ensemble import EnsembleJudge
from selfevo_jax.judges.likelihood import LikelihoodJudge
from selfevo_jax.judges.rating import RatingJudge
from selfevo_jax.judges.settings import EnsembleSection, LikelihoodSection
from selfevo_jax.judges.verdict import VerdictJudge
from selfevo_jax.section import Count, Positive, Section, Share


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
BUILT_IN = ("verdict", "rating", "ensemble", "likelihood")


class JudgeSection(Section):
    """What the loop believes of an answer: feedback of the model's own, as a turn of the chain."""

    kind: str = "verdict"
    """`verdict`, `rating`, `ensemble` (several texts of feedback), `likelihood` (the probability of the good verdict),
    one of an installed package (entry points `selfevo_jax.judges`), or `module:name`."""
    good_rating: float = 10.0
    """With `rating`: the least rating that lets a row through."""
    scale: float = 10.0
    """With `rating`: the top mark."""
    good_score: Share | None = None
    """With `likelihood`, and with an ensemble of verdicts: the least probability, or share, that lets a row through.
    None: more than half."""
    top_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Let this share of a round's rows through, those with the best scores, in place of all good ones: of the rows
    whose chosen answer has a score, and at least one. Equal scores at the edge are drawn by the seed. Within a chain,
    before all scores are known, `good_rating` or `good_score` still says which answer is refined no further."""
    ensemble: EnsembleSection = EnsembleSection()
    likelihood: LikelihoodSection = LikelihoodSection()
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a judge from outside the package."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        plugins.check_name(GROUP, kind, BUILT_IN)
        return kind

    @model_validator(mode="after")
    def _fits_the_kind(self) -> JudgeSection:
        for name, section in (("ensemble", self.ensemble), ("likelihood", self.likelihood)):
            usual = type(section)()
            others = [key for key, value in section if value != getattr(usual, key)]
            if self.kind != name and others:
                keys = ", ".join(f"judge.{name}.{key}" for key in others)
                raise ValueError(f"{keys}: of {name}, but judge.kind is {self.kind}; set judge.kind: {name}")
        scored = self.kind == "likelihood" or (self.kind == "ensemble" and self.ensemble.member == "verdict")
        if self.good_score is not None and not scored:
            raise ValueError(f"judge.good_score: found {self.good_score:g}, but {self.kind} gives no score from 0 to 1")
        if self.top_share is not None and self.kind == "verdict":
            raise ValueError("judge.top_share: a verdict is no score to rank by; use rating, ensemble or likelihood")
        return self

    @property
    def reads(self) -> str:
        """What one text of feedback ends in: `verdict` or `rating`; of a judge from outside its name."""
        return {"ensemble": self.ensemble.member, "likelihood": "verdict"}.get(self.kind, self.kind)

    @property
    def texts(self) -> int:
        """Texts of feedback on one answer, of our kinds."""
        return len(self.ensemble.texts) if self.kind == "ensemble" else 1


def open_judge(section: JudgeSection) -> ChainJudge:
    """Raises ConfigError for settings that cannot be."""
    if section.kind in BUILT_IN and section.settings:
        raise ConfigError(f"judge.settings: {section.kind} has none here; its keys are those of judge itself")
    if section.kind == "likelihood":
        of = section.likelihood
        return LikelihoodJudge(of.lead, of.good, of.bad, section.good_score, of.least_mass)
    if section.kind in BUILT_IN:
        rated = section.reads == "rating"
        member: ChainJudge = RatingJudge(section.good_rating, section.scale) if rated else VerdictJudge()
        return member if section.kind == section.reads else _ensemble(section, member, rated)
    judge: ChainJudge = plugins.made(GROUP, section.kind, "judge.kind", BUILT_IN, **section.settings)
    return judge


def _ensemble(section: JudgeSection, member: ChainJudge, rated: bool) -> ChainJudge:
    of = section.ensemble
    least = section.good_rating if rated else section.good_score
    least_read = of.least_read or len(of.texts) // 2 + 1
    return EnsembleJudge(member, of.texts, of.join, of.weight, least, least_read)
