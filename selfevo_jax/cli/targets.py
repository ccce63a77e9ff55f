"""What a command is about: a config, a run, a checkpoint of a run, or a model alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selfevo_jax.api.targets import is_config, model_and_tokenizer, source_of, target_config, tokenizers_of

if TYPE_CHECKING:
    from selfevo_jax.rounds.generate import Length
    from selfevo_jax.run import RunDir

__all__ = [
    "RunTarget",
    "Target",
    "is_config",
    "model_and_tokenizer",
    "run_of",
    "source_of",
    "target_config",
    "tokenizers_of",
]

Target = Annotated[
    str,
    typer.Argument(
        help="A YAML config; or RUN (its newest checkpoint), RUN@ROUND, RUN@meta, RUN@base, or a model source.",
        show_default=False,
    ),
]

RunTarget = Annotated[
    str,
    typer.Argument(
        help="A run directory, here or on gs://; RUN@ROUND, a checkpoint inside it and its config name it too.",
        show_default=False,
    ),
]


def length_of(target: str) -> Length:
    """What becomes of `sampling.cache_length` where a target answers prompts: a model alone has no wish of its own."""
    from selfevo_jax.run.chosen import choose

    return "raise" if is_config(target) or choose(target).run is not None else "fit"


def run_of(text: str) -> RunDir:
    """The run that a command is about; see `run_named`."""
    from selfevo_jax.run.chosen import run_named

    return run_named(text)
