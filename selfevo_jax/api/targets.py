"""What a command or a call is about: a config, a run, a checkpoint of a run, or a model alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfevo_jax.config import Config

# A faulty config is refused before JAX starts: what needs it is imported behind.


def is_config(target: str) -> bool:
    """Whether a target names a config file."""
    from selfevo_jax.storage import place

    if target.endswith((".yaml", ".yml")):
        return True
    return place(target).is_file() and not target.endswith(".gguf")


def target_config(target: str, overrides: Sequence[str] | None, model: str | None = None) -> Config:
    """The config of a target, with its checkpoint as the model; `model` in its place is any source, or RUN@POINT.

    Of a run the config is the run's own. A model alone has one that asks it by its chat template.
    """
    from selfevo_jax.config.secrets import refuse_secrets

    refuse_secrets({"model": target, "--model": model})
    given = list(overrides or [])
    if model is not None:
        given += of_model(model)
    if is_config(target):
        from selfevo_jax.config import load_config

        return load_config(target, given)
    from selfevo_jax.run.chosen import choose, config_of

    chosen = choose(target)
    if chosen.run is not None:
        return config_of(chosen, given)
    from selfevo_jax.rounds.alone import config_alone

    return config_alone(chosen.source, given)


def of_model(model: str) -> list[str]:
    """The overrides that put a model in place of a config's: RUN and RUN@POINT with the tokenizer that it has."""
    from selfevo_jax.run.chosen import of_a_run

    found = of_a_run(model)
    if found is None:
        return [f"model.source={json.dumps(model)}"]
    tokenizer = "null" if found.tokenizer is None else json.dumps(found.tokenizer)
    return [f"model.source={json.dumps(found.source)}", f"model.tokenizer={tokenizer}"]


def model_and_tokenizer(model: str, tokenizer: str | None = None) -> tuple[str, str | None]:
    """The model source that RUN or RUN@POINT names, with the tokenizer that the run names unless another is given;
    other sources are as they are."""
    from selfevo_jax.run.chosen import of_a_run

    found = of_a_run(model)
    return (model, tokenizer) if found is None else (found.source, tokenizer or found.tokenizer)


def tokenizers_of(models: Iterable[str]) -> dict[str, str]:
    """Of RUN and RUN@POINT among models: source -> the tokenizer that the run names for it, where it names one."""
    from selfevo_jax.run.chosen import of_a_run
    from selfevo_jax.section import names_rows

    found = [of_a_run(model) for model in models if not names_rows(model)]
    return {one.source: one.tokenizer for one in found if one is not None and one.tokenizer is not None}


def source_of(model: str) -> str:
    """The model source that RUN or RUN@POINT names; other sources, and files of answers, are as they are."""
    from selfevo_jax.section import names_rows

    return model if names_rows(model) else model_and_tokenizer(model)[0]
