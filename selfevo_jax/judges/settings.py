"""The settings of the judges `ensemble` and `likelihood`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from selfevo_jax.judges.ensemble import Join
from selfevo_jax.section import Section, Share


class EnsembleSection(Section):
    """Several texts of feedback on each answer, joined to one score."""

    member: Literal["verdict", "rating"] = "verdict"
    """What each text gives: a verdict, which is a vote of 1 or 0, or a rating."""
    samples: Annotated[int, Field(gt=0, le=64)] | None = None
    """Texts of each instruction. None: 3, and with `instructions` 1."""
    instructions: tuple[Annotated[str, Field(pattern=r"\S")], ...] = ()
    """What asks for feedback, each in its own words, in place of `format.judge`; none: that alone."""
    join: Join = "mean"
    """`mean`, `min` (the worst one), or `mean_minus_variance`."""
    weight: Annotated[float, Field(ge=0.0)] = 0.5
    """Of the variance."""
    least_read: Annotated[int, Field(gt=0, le=4096)] | None = None
    """Texts that must be readable for a score. None: more than half. The others are counted, and are no votes."""

    @property
    def texts(self) -> tuple[str | None, ...]:
        """What asks for each text of feedback."""
        asks: tuple[str | None, ...] = self.instructions or (None,)
        samples = self.samples or (1 if self.instructions else 3)
        return tuple(text for text in asks for _ in range(samples))

    @model_validator(mode="after")
    def _are_several(self) -> EnsembleSection:
        n = len(self.texts)
        if n < 2:
            raise ValueError(
                "judge.ensemble.samples and judge.ensemble.instructions give one text of feedback on each answer, "
                f"expected two or more; or judge.kind: {self.member}"
            )
        if len(set(self.instructions)) < len(self.instructions):
            raise ValueError(
                "judge.ensemble.instructions: found one of them twice; set samples to ask with each several times"
            )
        if self.least_read is not None and self.least_read > n:
            raise ValueError(
                f"judge.ensemble.least_read: found {self.least_read}, but each answer has {n} texts of feedback"
            )
        return self


class LikelihoodSection(Section):
    """The probability of the good one of two words, where the feedback gives its verdict."""

    lead: Annotated[str, Field(pattern=r"\S")] = "Verdict:"
    """What stands before the word in feedback; D_meta's has it too."""
    good: Annotated[str, Field(pattern=r"\S")] = "correct"
    """The word of a good verdict."""
    bad: Annotated[str, Field(pattern=r"\S")] = "incorrect"
    """The word of a bad verdict."""
    least_mass: Share = 0.5
    """Probability of both words together below which feedback cannot be read: the model would have said another."""

    @field_validator("lead", "good", "bad")
    @classmethod
    def _is_bare(cls, text: str) -> str:
        if text != text.strip():
            raise ValueError(f"found {text!r}, expected no white space around it")
        return text

    @model_validator(mode="after")
    def _differ(self) -> LikelihoodSection:
        if self.good == self.bad:
            raise ValueError(f"judge.likelihood.good and judge.likelihood.bad are one word, {self.good!r}; name two")
        return self
