"""The settings of the task: how many prompts, of which kinds, in how many wordings, and what is set apart."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from selfevo_jax.section import Count, Positive, Section, Share
from selfevo_jax.tasks.instructions.wordings import WORDINGS

Trait = Literal["base", "wordings", "arguments"]
Some = Annotated[float, Field(gt=0.0, le=1.0)]


class MetaPart(Section):
    """D_meta: prompts that the base model answers, and the rows that are made of its answers."""

    base: Positive = 40
    """Base instructions."""
    wordings: Positive = 3
    """Of each kind."""
    arguments: Some = 0.4
    """Share of each kind's phrases, words and numbers."""
    prompts: Positive = 240
    """That the base model answers."""
    demands_per_response: Positive = 4
    """A response serves for so many rows: its own prompt's, and others of the same base instruction."""
    rows: Positive = 1000
    """D_meta rows. Where the answers give fewer of one sort, fewer are taken of all, so that the shares hold."""
    right_share: Share = 0.42
    """Of rows whose response is right."""
    near_share: Share = 0.2
    """Of rows whose response fails by one small thing that a program put there."""
    fewest_words: Count = 4
    """Shorter responses are left out."""
    most_characters: Positive = 220
    """Longer responses are left out."""


class PromptsPart(Section):
    """The prompts of the rounds, on all base instructions that are left."""

    wordings: Positive = 9
    """Of each kind; those of D_meta are among them."""
    arguments: Some = 0.75
    """Share of each kind's phrases, words and numbers; those of D_meta are among them."""


class EvaluationPart(Section):
    """The evaluation set `instructions`, and `instructions_seen`."""

    base: Positive = 33
    rows: Positive = 200
    wordings: Positive = 3
    """Of each kind; where wordings are not set apart, they are those of the rounds."""
    arguments: Some = 0.25
    seen_rows: Count = 0
    """Rows of `instructions_seen`: the base instructions of the evaluation, in wordings and with arguments of the
    rounds. It tells what is lost to new words alone."""


class InstructionsSection(Section):
    """Prompts with verifiable instructions in the manner of IFEval, made of base instructions by a seed."""

    source: str = "builtin:instructions/base"
    """Base instructions: JSONL of `prompt`, without verifiable instructions of their own."""
    seed: Count = 0
    """Of what is set apart and of the evaluation's rows, so that runs with other seeds are compared on the same rows;
    D_meta and the prompts of the rounds are drawn by the run's own seed."""
    kinds: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "change_case:lowercase",
        "startend:end_checker",
        "startend:start_phrase",
        "keywords:existence",
    )
    two_share: Share = 0.5
    """Share of prompts with two verifiable instructions; the others have one."""
    brief: bool = True
    """Whether each prompt asks for a short answer too."""
    apart: tuple[Trait, ...] = ("base", "wordings", "arguments")
    """What the evaluation shares with neither D_meta nor the rounds."""
    meta: MetaPart = MetaPart()
    prompts: PromptsPart = PromptsPart()
    evaluation: EvaluationPart = EvaluationPart()

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [kind for kind in kinds if kind not in WORDINGS]:
            raise ValueError(f"found '{unknown[0]}', expected some of {', '.join(WORDINGS)}")
        if len(set(kinds)) < len(kinds):
            raise ValueError("a kind is named twice; remove one of the two")
        return kinds
