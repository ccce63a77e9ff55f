"""The settings of judges of finished chains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from selfevo_jax import plugins
from selfevo_jax.judges.server import EndpointSection
from selfevo_jax.section import Section

BATCH_GROUP = "selfevo_jax.batch_judges"
KINDS = {"endpoint": ("endpoint", "form", "instruction"), "pairwise": ("endpoint", "ties", "brief"), "scorer": ()}
"""Kind -> the settings that it reads."""


class BatchSection(Section):
    """A judge of finished chains, in a phase of its own: it decides which candidate is chosen and whether it is kept.
    The feedback inside a chain stays the model's own; it leads the refinement."""

    kind: str
    """`endpoint` (a server judges each candidate), `pairwise` (the refinement against the response, in both orders, by
    the model itself or a server), `scorer` (the task's scorer reads gold answers: a baseline, no self-improvement), one
    of an installed package (entry points `selfevo_jax.batch_judges`), or `module:name`."""
    endpoint: EndpointSection | None = None
    """The server that is asked. With `pairwise` None asks the model that made the chains."""
    form: Literal["verdict", "rating"] = "verdict"
    """With `endpoint`: what its text ends in; a rating is good from `judge.good_rating` on."""
    instruction: str | None = None
    """With `endpoint`: the question, around `{prompt}` and `{answer}`. None takes a default for the form."""
    ties: Literal["drop", "keep"] = "drop"
    """With `pairwise`: what becomes of a refinement that is as good as its response."""
    brief: bool = False
    """With `pairwise` by the model itself: it gives its verdict at once, without an explanation. For small models, that
    do not keep to the form by themselves."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a judge from outside the package."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        plugins.check_name(BATCH_GROUP, kind, tuple(KINDS))
        return kind

    @model_validator(mode="after")
    def _fits_the_kind(self) -> BatchSection:
        read = ("kind", *KINDS.get(self.kind, ("settings",)))
        for key, field in type(self).model_fields.items():
            if key not in read and getattr(self, key) != field.get_default(call_default_factory=True):
                raise ValueError(f"judge.batch.{key}: {self.kind} reads no such setting; leave it out")
        if self.kind == "endpoint" and self.endpoint is None:
            raise ValueError("judge.batch.endpoint: missing; name the server, as {url: https://HOST/v1, model: NAME}")
        if self.brief and self.endpoint is not None:
            raise ValueError("judge.batch.brief: only for a model that is sampled here, not for a server; leave it out")
        return self

    @property
    def reads_labels(self) -> bool:
        """Whether it is known to read gold answers, without a look at code from outside the package."""
        return self.kind == "scorer"

    @property
    def scores(self) -> bool:
        """Whether it gives scores that rows can be ranked by, as far as the config tells."""
        return self.kind != "pairwise" and (self.kind != "endpoint" or self.form == "rating")

    @property
    def compares(self) -> bool:
        """Whether chains may refine what is good, as far as the config tells."""
        return self.kind not in ("endpoint", "scorer")

    def questions(self, candidates: int) -> int:
        """Questions about a chain of so many candidates at most, as far as the config tells."""
        if self.kind == "endpoint":
            return candidates
        return 2 if self.kind == "pairwise" and candidates > 1 else 0

    @property
    def by(self) -> str:
        """Who judges, in words."""
        if self.endpoint is not None:
            return f"{self.kind}, by {self.endpoint.model}"
        return f"{self.kind}, which reads labels" if self.reads_labels else self.kind
