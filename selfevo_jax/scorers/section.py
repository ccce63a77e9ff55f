"""An evaluation set in the config: where its rows are, and what grades the answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
)

from selfevo_jax.errors import shown
from selfevo_jax.scorers.base import ScorerSection
from selfevo_jax.section import RowsSection


def _scorer(value: Any) -> Any:
    tree = ScorerSection.written_out(value)
    if not isinstance(tree, dict) or not isinstance(tree.get("kind"), str):
        found = "a section without `kind`" if isinstance(tree, dict) else shown(value)
        raise ValueError(f"found {found}, expected {ScorerSection.in_words}")
    return ScorerSection.of(tree).model_validate(tree)


AnyScorer = Annotated[SerializeAsAny[ScorerSection], BeforeValidator(_scorer)]


Values = Annotated[
    tuple[StrictStr | StrictInt | StrictFloat | StrictBool, ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value]),
    Field(min_length=1),
]
"""One value, or a list of several."""


class EvaluationSection(RowsSection):
    """Rows with gold answers, and the scorers that read them. A file alone is a set whose answers are numbers."""

    only: dict[str, Values] = Field(default_factory=dict)
    """Column, as the scorers see it -> its values: rows with others are left out, and counted. Of a column of lists all
    values must be among them: `{instruction_id_list: [startend:end_checker, keywords:existence]}`."""

    scorers: tuple[AnyScorer, ...] = Field(default=("number",), validate_default=True)
    """Kinds, or sections of a kind with its settings. The first is the primary one: accuracy, votes and gains are by
    it."""

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
