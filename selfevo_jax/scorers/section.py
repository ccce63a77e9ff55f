"""An evaluation set in the config: where its rows are, and what grades the answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from selfevo_jax.errors import shown
from selfevo_jax.scorers.base import ScorerSection
from selfevo_jax.section import Section


def _scorer(value: Any) -> Any:
    tree = ScorerSection.written_out(value)
    if not isinstance(tree, dict) or not isinstance(tree.get("kind"), str):
        found = "a section without `kind`" if isinstance(tree, dict) else shown(value)
        raise ValueError(f"found {found}, expected {ScorerSection.in_words}")
    return ScorerSection.of(tree).model_validate(tree)


AnyScorer = Annotated[SerializeAsAny[ScorerSection], BeforeValidator(_scorer)]


class EvaluationSection(Section):
    """Rows with gold answers, and the scorers that read them. A file alone is a set whose answers are numbers."""

    source: str
    """A file of rows: JSONL, a shipped slice (`builtin:`) or `tfds:`."""
    scorers: tuple[AnyScorer, ...] = Field(default=("number",), validate_default=True)
    """Kinds, or sections of a kind with its settings. The first is the primary one: accuracy, votes and gains are by
    it."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name of a column -> the file's: `{prompt: problem, answer: target}`."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, tree: Any) -> Any:
        return cls.written_out(tree)

    @classmethod
    def written_out(cls, value: Any) -> Any:
        """From a file alone."""
        return {"source": value} if isinstance(value, str) else value

    @field_validator("scorers", mode="before")
    @classmethod
    def _one_alone(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | dict) else value

    @field_validator("scorers")
    @classmethod
    def _told_apart(cls, scorers: tuple[ScorerSection, ...]) -> tuple[ScorerSection, ...]:
        if not scorers:
            raise ValueError(f"names none; expected a list, each {ScorerSection.in_words}")
        names = [scorer.name for scorer in scorers]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two scorers are called '{twice}'; give one of them another `name`")
        return scorers

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> Any:
        """A file alone, where nothing else is set."""
        return self.source if self == EvaluationSection(source=self.source) else whole(self)
