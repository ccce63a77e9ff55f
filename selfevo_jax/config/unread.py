"""Keys that are set, and that nothing in a run reads since another key is what it is.

Most such keys are refused by their own section, or by the method (`selfevo_jax.methods.checks`). Those here are told
alone: runs may have been begun with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

from selfevo_jax.config.sections import Config
from selfevo_jax.section import Section

_FILTERS = ("top_k", "top_p", "min_p")
"""Of what is drawn; what is greedy has none."""


def unread(config: Config) -> Iterator[str]:
    """A line for each key that is set and not read, with the reason."""
    for keys, why in _reasons(config):
        for key in keys:
            section, _, name = key.rpartition(".")
            of = attrgetter(section)(config)
            found = of.get(name) if isinstance(of, dict) else getattr(of, name)
            if found != _default(of, name):
                yield f"{key}: found {_shown(found)}, but {why}, so that nothing in the run reads it; leave it out"


def _default(of: Any, name: str) -> Any:
    return type(of).model_fields[name].get_default(call_default_factory=True) if isinstance(of, Section) else None


def _shown(found: Any) -> str:
    return str(found).lower() if isinstance(found, bool) else str(found)


def _reasons(config: Config) -> Iterator[tuple[Iterable[str], str]]:
    """Keys, and why nothing reads them."""
    yield from _of_data(config)
    yield from _of_drawing(config)
    yield from _of_training(config)
    ensemble = config.judge.ensemble
    if config.judge.kind == "ensemble" and ensemble.join != "mean_minus_variance":
        yield ["judge.ensemble.weight"], f"judge.ensemble.join is {ensemble.join}"
    saving = config.saving
    if saving.keep_last is None:
        yield ["saving.keep_every", "saving.keep_best"], "saving.keep_last is null, with which all checkpoints are kept"
    elif config.rounds.stop_when_worse:
        yield ["saving.keep_best"], "rounds.stop_when_worse is true, with which the best checkpoint is kept"


def _of_data(config: Config) -> Iterator[tuple[Iterable[str], str]]:
    data, rounds = config.data, config.rounds
    if not data.has_meta:
        yield ["data.meta_rows", "data.meta_feedback"], "there is no D_meta"
    if not (data.evaluation or data.open_ended or data.ordinary):
        own = " (the task's own are data.instructions.evaluation.rows)" if data.instructions is not None else ""
        yield ["data.evaluation_rows"], f"there is no set in data.evaluation or data.open_ended, nor data.ordinary{own}"
    if (of := data.instructions) is not None:
        for key in ("base", "wordings", "arguments"):
            if key not in of.apart:
                yield [f"data.instructions.evaluation.{key}"], f"data.instructions.apart is without {key}"
        for key, least in (("two_share", 2), ("three_share", 3)):
            if len(of.kinds) < least:
                yield [f"data.instructions.{key}"], f"data.instructions.kinds names {len(of.kinds)}"
    if rounds.number > 0 and all(data.to_write(n) == data.prompts_per_round for n in range(1, rounds.number + 1)):
        yield ["rounds.order", "rounds.order_rounds"], "the model writes the prompts of all rounds itself"


def _of_drawing(config: Config) -> Iterator[tuple[Iterable[str], str]]:
    data, modes = config.data, config.evaluate.modes
    voting = [mode for mode in ("consistency", "both") if mode in modes]
    if not voting:
        yield ["evaluate.k", "evaluate.temperature"], "evaluate.modes has neither consistency nor both"
    # the base's answers for D_meta, and samples that vote, have a temperature of their own
    answered = (data.stories, data.instructions, data.meta_from_equations, data.task)
    drawn = {
        "respond": bool(voting) or any(of is not None for of in answered),
        "feedback": "both" in voting,
        "refine": "both" in voting,
        "write": False,
    }
    for stage, otherwise in drawn.items():
        if getattr(config.sampling, stage).temperature == 0 and not otherwise:
            key = f"sampling.{stage}"
            yield [f"{key}.{name}" for name in _FILTERS], f"{key}.temperature is 0, which is greedy"


def _of_training(config: Config) -> Iterator[tuple[Iterable[str], str]]:
    data = config.data
    qa = data.qa is not None or data.task is not None or bool(data.instructions and data.instructions.meta.own_prompts)
    if config.meta.steps != 0 and not data.has_meta:
        weights = ("w_feedback", "w_refine", "w_direct", "direct_share")
        yield [f"meta.{name}" for name in weights], "there is no D_meta"
    yield ["meta.meta_share"], "before the rounds there is no D_self to share with"
    if not (qa and data.has_meta):
        there = "no D_meta to share with" if qa else "no D_QA"
        yield [f"{name}.qa_share" for name in config.trained], f"there is {there}"
    objective = config.learn.objective
    way = objective.settings.get("loss_aggregation", "sequence")
    if objective.name == "grpo" and way != "constant":
        yield ["learn.objective.settings.constant_length"], f"loss_aggregation is {way}"
