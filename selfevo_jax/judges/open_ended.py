"""A set of open-ended prompts in the config: who judges the answers, and beside whose."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from selfevo_jax.judges.server import EndpointSection
from selfevo_jax.section import ROW_FILES, RowsSection, names_rows

BASE, SELF = "base", "self"


class OpenSection(RowsSection):
    """Prompts without gold answers. Each checkpoint's answers are judged beside those of another side, in both orders,
    and each alone by a mark from 1 to 10. A file alone is a set judged by the base, beside the base's answers."""

    in_words = "a file, or a section such as {source: FILE, against: base, judge: base}"

    against: RowsSection = RowsSection(source=BASE)
    """The other side: `base` (M_0), or a file of answers, one for each prompt; or a section of it and the names of its
    columns."""
    judge: Annotated[str, Field(pattern=r"\S")] = BASE
    """`base`: one judge for all checkpoints, so that their figures can be compared. A model that is sampled for
    nothing else (a checkpoint, a Hugging Face directory, a `.gguf` file) stays the same too. `self`: each checkpoint
    judges itself, so that a change of its figures may be one of the judge alone."""
    endpoint: EndpointSection | None = None
    """A server that judges in place of `judge`."""
    ratings: bool = True
    """Also ask for a mark of each answer alone."""
    brief: bool = False
    """A judging model gives its verdict at once, without an explanation: for small ones, which seldom keep to the form
    of a verdict."""

    @model_validator(mode="after")
    def _one_judge(self) -> OpenSection:
        if self.endpoint is not None and (self.judge != BASE or self.brief):
            key = "brief" if self.brief else "judge"
            raise ValueError(f"{key} stands beside endpoint; remove one of the two")
        if self.against.source != BASE and not self.has_answers:
            raise ValueError(
                f"against: found '{self.against.source}', expected base, or a file of answers ({', '.join(ROW_FILES)})"
            )
        if "://" in self.judge and not self.judge.startswith("gs://"):
            raise ValueError(f"judge: '{self.judge}' is a server; set endpoint: {{url: ..., model: NAME}} instead")
        return self

    @property
    def has_answers(self) -> bool:
        """Whether the other side is a file."""
        return names_rows(self.against.source)

    @property
    def judging_model(self) -> str | None:
        """The model that judges and is no checkpoint of the run; None where there is none."""
        return None if self.endpoint is not None or self.judge in (BASE, SELF) else self.judge

    @property
    def judged_by(self) -> str:
        """The judge, for people."""
        return f"{self.endpoint.model} at {self.endpoint.url}" if self.endpoint is not None else self.judge

    @property
    def stays(self) -> bool:
        """Whether one judge judges every checkpoint."""
        return self.endpoint is not None or self.judge != SELF
