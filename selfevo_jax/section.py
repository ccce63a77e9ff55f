"""What a section of the config is. Each room declares its own; `selfevo_jax.config` is their union."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the config: frozen, unknown keys are errors, and so are numbers that are not finite. A section without
    keys is that of the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    in_words: ClassVar[str] = ""
    """What a message says is expected; empty: a section with such keys."""

    in_place_of: ClassVar[Mapping[str, str]] = {}
    """Key -> another that says the same thing otherwise: an override of the first takes the second out."""
    read_by: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Of a task's settings: key -> the artefacts of a run that are made of it (`selfevo_jax.run.artefacts` names them);
    every artefact is made of a key that is not named."""

    @classmethod
    def written_out(cls, value: Any) -> Any:
        """The section as a mapping, from a short form where it has one. Raises ValueError for one that it has not."""
        return value

    @classmethod
    def of(cls, value: Any) -> type[Self]:
        """The section itself, or of several kinds the one that a mapping is."""
        return cls

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Yes and no are no numbers, and numbers and texts are no yes; pydantic would take one for the other."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if value is None and isinstance(kind, type) and issubclass(kind, Section):
            return {}
        truths = kind is bool or bool in get_args(kind)
        if isinstance(value, bool) != truths and (truths or isinstance(value, bool)) and value is not None:
            raise PydanticCustomError("kind", "another kind of value")
        return value


ROW_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""What the names of files of rows end in."""


def names_rows(text: str) -> bool:
    """Whether a text that may name a model names rows: a file of them, or a data set."""
    return text.lower().endswith(ROW_FILES) or text.startswith(("hf:", "tfds:"))


class RowsSection(Section):
    """Rows of a file. A file alone, as a text, is a section of it."""

    in_words: ClassVar[str] = "a file, or a section such as {source: FILE, columns: {prompt: question}}"

    source: str
    """A file of rows (JSONL, JSON, CSV, TSV, Parquet), a shipped slice (`builtin:`), or a data set: `tfds:NAME/SPLIT`,
    `hf:OWNER/NAME/SPLIT`."""
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

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> Any:
        """A file alone, where nothing else is set."""
        return self.source if self == type(self)(source=self.source) else whole(self)
