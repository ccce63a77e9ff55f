"""The settings of prompts that the model writes itself: what it is shown, in which rounds, and what is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from selfevo_jax.section import Positive, RowsSection, Section

Words = Annotated[str, Field(pattern=r"\S")]
Few = Annotated[int, Field(gt=0, le=100)]
Size = Annotated[int, Field(gt=0, le=100_000)]


class SelfWrittenSection(Section):
    """Rounds from `from_round` on use prompts that the checkpoint before them has written; the defaults of what is
    shown and kept are those of Self-Instruct (arXiv 2212.10560)."""

    seeds: RowsSection | None = None
    """Prompts that are shown as examples: a file as for `data.prompts`, or `builtin:self_instruct/seed_tasks`. None:
    the given prompts of round 1."""
    from_round: Positive = 2
    """The first round with prompts of its own."""
    given_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Of `data.prompts_per_round`, in these rounds: given prompts; the model writes the others."""
    as_text: bool | None = None
    """Whether the examples are a text that the model goes on with, or (false) a turn of a chat that it answers. None:
    by `format.kind`."""
    head: Words = "Come up with a series of tasks:"
    """The line above the examples."""
    examples: Few = 8
    """Prompts that the model is shown."""
    own_examples: Annotated[int, Field(ge=0, le=100)] = 2
    """Of which so many it wrote itself, where there are enough."""
    asked: Few = 8
    """Prompts asked for in one text."""
    at_once: Positive = 32
    """Texts of a batch at most. Examples of a batch are drawn from what was there before it."""
    patience: Few = 10
    """Writing ends after this many times the texts that would do if every prompt were kept; the round goes on with
    fewer prompts then."""
    similarity: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """A prompt whose ROUGE-L with another is above is not kept."""
    least_words: Size = 4
    """Shorter prompts are not kept."""
    most_words: Size = 150
    """Longer prompts are not kept, and seeds of more words are not shown."""
    most_characters: Size = 2000
    """Longer prompts are not kept."""
    unsuitable: tuple[Words, ...] = (
        "image",
        "images",
        "graph",
        "graphs",
        "picture",
        "pictures",
        "file",
        "files",
        "map",
        "maps",
        "draw",
        "plot",
        "go to",
    )
    """Words that ask for more than text; whole words, in any case."""
    unsuitable_starts: tuple[Words, ...] = ("write a program",)
    """Beginnings of prompts that are not kept."""

    @model_validator(mode="after")
    def _fit_together(self) -> SelfWrittenSection:
        if self.own_examples >= self.examples:
            raise ValueError(
                f"own_examples: found {self.own_examples}, expected less than examples ({self.examples}): what the "
                "model wrote is shown beside given prompts"
            )
        if self.most_words < self.least_words:
            raise ValueError(f"most_words: found {self.most_words}, expected {self.least_words} (least_words) or more")
        return self
