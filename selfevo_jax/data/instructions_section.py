"""The settings of the task `instructions`: how many prompts, of which kinds and wordings, and what is set apart."""

from __future__ import annotations

import difflib
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from selfevo_jax.errors import shown
from selfevo_jax.section import Count, Positive, RowsSection, Section, Share

Trait = Literal["base", "wordings", "arguments"]
TAUGHT = (
    "change_case:lowercase",
    "change_case:uppercase",
    "detectable_content:number_placeholders",
    "detectable_content:postscript",
    "detectable_format:json_format",
    "detectable_format:number_bullet_lists",
    "detectable_format:number_highlighted_sections",
    "detectable_format:title",
    "keywords:existence",
    "keywords:forbidden_words",
    "keywords:frequency",
    "length_constraints:number_words",
    "punctuation:no_comma",
    "startend:end_checker",
    "startend:quotation",
    "startend:start_phrase",
)
"""Kinds of verifiable instructions with wordings, feedback and repairs of their own."""
Wordings = Annotated[int, Field(gt=0, le=100)]
Some = Annotated[float, Field(gt=0.0, le=1.0)]


class MetaPart(Section):
    """D_meta: prompts that the base model answers, and the rows that are made of its answers."""

    read_by: ClassVar = {
        **dict.fromkeys(("base", "wordings", "arguments"), ("answers", "D_meta", "rollouts")),
        **dict.fromkeys(("prompts", "responses", "response_temperature"), ("answers", "D_meta")),
        **dict.fromkeys(("demands_per_response", "rows", "right_share", "near_share"), ("D_meta",)),
        "quote_demands": ("D_meta",),
        "own_prompts": ("answers", "D_meta"),
        **dict.fromkeys(("fewest_words", "most_characters"), ("D_meta",)),
    }

    base: Positive = 40
    """Base instructions."""
    wordings: Wordings = 3
    """Of each kind."""
    arguments: Some = 0.4
    """Share of each kind's phrases, words and numbers."""
    prompts: Positive = 240
    """That the base model answers."""
    responses: Positive = 1
    """To each prompt."""
    response_temperature: Annotated[float, Field(ge=0.0)] = 0.5
    """Of these responses: what a small model says at a high one is no text to learn from."""
    demands_per_response: Positive = 4
    """A response serves for so many rows: its own prompt's, and others of the same base instruction."""
    quote_demands: bool = False
    """Whether feedback numbers the demands and repeats each in the prompt's own words before its note on it."""
    own_prompts: Count = 0
    """Prompts of the same base instructions that demand nothing. What the base answers them is taught as it is, beside
    D_QA, so that it keeps its own way of answering."""
    rows: Positive = 1000
    """D_meta rows. Where the answers give fewer of one sort, fewer are taken of all, so that the shares hold."""
    right_share: Share = 0.42
    """Of rows whose response is right."""
    near_share: Share = 0.2
    """Of rows whose response fails by one small thing that a program put there."""
    fewest_words: Count = 4
    """Shorter responses are left out."""
    most_characters: Positive = 220
    """Longer responses, and those that a limit cut off, are shortened to their first whole sentences of so many
    characters, or left out where the first alone is longer."""


class PromptsPart(Section):
    """The prompts of the rounds, on all base instructions that are left."""

    read_by: ClassVar = dict.fromkeys(("wordings", "arguments"), ("answers", "D_meta", "evaluation", "rollouts"))

    wordings: Wordings = 9
    """Of each kind; those of D_meta are among them."""
    arguments: Some = 0.75
    """Share of each kind's phrases, words and numbers; those of D_meta are among them."""


class EvaluationPart(Section):
    """The evaluation set `instructions`, and `instructions_seen`."""

    read_by: ClassVar = {
        **dict.fromkeys(("base", "wordings", "arguments"), ("answers", "D_meta", "evaluation", "rollouts")),
        **dict.fromkeys(("rows", "seen_rows"), ("evaluation",)),
    }

    base: Positive = 33
    """Base instructions."""
    rows: Positive = 200
    """Of the set `instructions`."""
    wordings: Wordings = 3
    """Of each kind; where wordings are not set apart, they are those of the rounds."""
    arguments: Some = 0.25
    """Share of each kind's phrases, words and numbers."""
    seen_rows: Count = 0
    """Rows of `instructions_seen`: the base instructions of the evaluation, in wordings and with arguments of the
    rounds. It tells what is lost to new words alone."""


class InstructionsSection(Section):
    """Prompts with verifiable instructions in the manner of IFEval, made of base instructions by a seed."""

    read_by: ClassVar = dict.fromkeys(
        ("source", "seed", "kinds", "two_share", "three_share", "brief", "apart"),
        ("answers", "D_meta", "evaluation", "rollouts"),
    )

    source: RowsSection = RowsSection(source="builtin:instructions/base")
    """Base instructions: rows of `prompt`, without verifiable instructions of their own."""
    seed: Count = 0
    """Of what is set apart and of the evaluation's rows, so that runs with other seeds are compared on the same rows;
    D_meta and the prompts of the rounds are drawn by the run's own seed."""
    kinds: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "change_case:lowercase",
        "startend:end_checker",
        "startend:start_phrase",
        "keywords:existence",
    )
    """Of verifiable instructions, by their names in IFEval."""
    two_share: Share = 0.5
    """Share of prompts with two verifiable instructions."""
    three_share: Share = 0.0
    """Share of prompts with three. The rest have one."""
    brief: bool = True
    """Whether each prompt asks for a short answer too."""
    apart: tuple[Trait, ...] = ("base", "wordings", "arguments")
    """What the evaluation shares with neither D_meta nor the rounds; base or wordings at least, so that none of its
    prompts is one of theirs."""
    meta: MetaPart = MetaPart()
    prompts: PromptsPart = PromptsPart()
    evaluation: EvaluationPart = EvaluationPart()

    @model_validator(mode="after")
    def _shares(self) -> InstructionsSection:
        if self.two_share + self.three_share > 1 + 1e-9:
            left = 1 - self.two_share
            raise ValueError(
                f"three_share: found {self.three_share:g}, expected at most {left:g}, what two_share leaves"
            )
        return self

    @model_validator(mode="after")
    def _some_of_those(self) -> InstructionsSection:
        for key in ("wordings", "arguments"):
            few, many = getattr(self.meta, key), getattr(self.prompts, key)
            if few > many:
                raise ValueError(f"meta.{key}: found {few:g}, expected at most prompts.{key}, {many:g}")
        if self.evaluation.seen_rows and "base" not in self.apart:
            raise ValueError("evaluation.seen_rows: needs base in `apart`, since it shares all else with the rounds")
        return self

    @field_validator("apart")
    @classmethod
    def _prompts_apart(cls, apart: tuple[str, ...]) -> tuple[str, ...]:
        if not {"base", "wordings"} & set(apart):
            found = ", ".join(apart) or "nothing"
            raise ValueError(f"found {found}, expected base or wordings at least: prompts would be shared")
        return apart

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            if kind not in TAUGHT:
                near = difflib.get_close_matches(kind, TAUGHT, n=1)
                meant = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"found {shown(kind)}, expected some of {', '.join(TAUGHT)}{meant}")
            if kinds.count(kind) > 1:
                raise ValueError(f"'{kind}' is named twice; remove one of the two")
        return kinds

    @property
    def set_names(self) -> list[str]:
        """The evaluation sets that the task makes."""
        return ["instructions", *(["instructions_seen"] if self.evaluation.seen_rows else [])]
