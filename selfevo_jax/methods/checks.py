"""Settings with which a method could do nothing, or that it does not read, said before a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import Any

from selfevo_jax.config import Config, RoundsSection
from selfevo_jax.config.methods import DEFAULTS
from selfevo_jax.errors import ConfigError, Faults
from selfevo_jax.judges import BatchSection, JudgeSection
from selfevo_jax.section import Section
from selfevo_jax.train import Objective, TrainSection
from selfevo_jax.train.objectives.base import MADE

REPLAY = tuple(
    f"learn.{key}" for key in ("w_feedback", "w_refine", "w_direct", "direct_share", "qa_share", "meta_share")
)
"""Of the examples of D_meta and D_QA that a round learns beside its own."""
JUDGED = ("rounds.controls", "rounds.controls_warn_above", "judge.batch", "judge.batch.ties")
"""Of what is judged in a round."""
BY_METHOD = (
    *("rounds.turns", "rounds.select", "rounds.pass_rate", "rounds.per_prompt", "judge.top_share"),
    *JUDGED,
    *REPLAY,
)
"""Keys that some methods read and others do not. All others of `rounds`, `judge` and `learn` are read whatever the
method is, or are refused by their own section."""
_SECTIONS: Mapping[str, type[Section]] = {
    "rounds": RoundsSection,
    "judge": JudgeSection,
    "judge.batch": BatchSection,
    "learn": TrainSection,
}
_NOTHING: Mapping[str, tuple[Any, ...]] = {"rounds.controls": (0,), "rounds.per_prompt": (None,)}
"""Values that ask for nothing, and so are right where a key is not read."""

PAIRS = ("refinement", "samples", "both")
"""What pairs are made of."""


def check_fixed(config: Config, method: str, keys: Iterable[str]) -> None:
    """Raises ConfigError, with all of them, where some of these keys have another value than the method's own."""
    faults = Faults()
    for key in keys:
        found, wanted = attrgetter(key)(config), DEFAULTS[method][key]
        if found != wanted:
            faults.add(ConfigError(f"{key}: found {found}, but {method} takes {wanted}; set it to that"))
    faults.refuse()


def check_read(config: Config, method: str, reads: Mapping[str, str]) -> None:
    """Raises ConfigError for keys that are set and not read. `reads`: each key of BY_METHOD and of `method.settings`
    that the method reads -> empty, or in which other setting it does not."""
    faults = Faults()
    keys = {key: _found(config, key) for key in BY_METHOD}
    given = {key: found for key, found in keys.items() if found not in (_usual(method, key), *_NOTHING.get(key, ()))}
    own = {f"method.settings.{key}": value for key, value in config.method.settings.items()}
    for key, found in (given | own).items():
        why = reads.get(key, "" if key in own else None)
        if why == "":
            continue
        shown = getattr(found, "kind", list(found) if isinstance(found, tuple) else found)
        told = f"{method} with {why}" if why else method
        other = "".join(f" or set it to {'null' if of is None else of}" for of in _NOTHING.get(key, ()))
        faults.add(ConfigError(f"{key}: found {shown}, but {told} does not read it; leave it out{other}"))
    faults.refuse()
    smoothing = config.learn.objective.settings.get("label_smoothing")
    if smoothing == "controls" and reads.get("rounds.controls") != "":
        raise ConfigError(
            f"learn.objective.settings.label_smoothing: found controls, but {method} plants none; give a number below "
            "0.5"
        )


def _found(config: Config, key: str) -> Any:
    section, _, name = key.rpartition(".")
    of = attrgetter(section)(config)
    return _default(key) if of is None else getattr(of, name)


def _usual(method: str, key: str) -> Any:
    return DEFAULTS.get(method, {}).get(key, _default(key))


def _default(key: str) -> Any:
    section, _, name = key.rpartition(".")
    return _SECTIONS[section].model_fields[name].get_default(call_default_factory=True)


def without(reads: Mapping[str, str], *keys: str) -> dict[str, str]:
    """`reads` of a method that does not read these."""
    return {key: why for key, why in reads.items() if key not in keys}


def _check_refines(config: Config, method: str, key: str, needs: str, without: str) -> None:
    """Raises ConfigError where a round makes no refinements. `key`: what `needs` them, and goes `without`."""
    if DEFAULTS.get(method, {}).get("rounds.turns") == 0:
        raise ConfigError(f"{key}: {needs}, but {method} makes none; {without}")
    if config.rounds.turns == 0:
        raise ConfigError(f"rounds.turns: found 0, but {needs}; set it to 1 or more")


def check_selection(config: Config, method: str, compares: bool) -> None:
    """Raises ConfigError for a selection that has nothing to select by. `compares`: whether the method learns better
    answers beside worse ones."""
    rounds, judge = config.rounds, config.judge
    if rounds.select in ("best_of_n", "threshold") and not judge.scores:
        raise ConfigError(
            f"rounds.select: {rounds.select} ranks by scores, but the judge gives verdicts alone; set judge.kind to "
            "confidence, likelihood, rating or ensemble, or rounds.select to feedback"
        )
    if rounds.select == "improvement":
        needs = "improvement compares refinements"
        _check_refines(config, method, "rounds.select", needs, "set it to feedback")
    if rounds.select == "best_of_n" and config.data.samples_per_prompt < 2:
        raise ConfigError(
            "data.samples_per_prompt: found 1, but best_of_n chooses among the samples of a prompt; set it to 2 or more"
        )
    if rounds.select == "extremes" and not compares:
        raise ConfigError(
            f"rounds.select: extremes keeps answers that score badly too, and {method} would learn them as good ones; "
            "set it to best_of_n, or take a method that compares answers"
        )


def check_drawn(config: Config, judges: bool) -> None:
    """Raises ConfigError where texts of which several are drawn would all be the same. `judges`: whether feedback is
    asked for."""
    samples, sampling, judge = config.data.samples_per_prompt, config.sampling, config.judge
    if samples > 1 and sampling.respond.temperature == 0:
        raise ConfigError(
            f"sampling.respond.temperature: found 0, but data.samples_per_prompt is {samples}, and all samples of a "
            "prompt would be the same; set it above 0"
        )
    several = judge.kind == "ensemble" and judge.texts > len(set(judge.ensemble.texts))
    if judges and several and sampling.feedback.temperature == 0:
        raise ConfigError(
            "sampling.feedback.temperature: found 0, but judge.ensemble draws several texts of one instruction, which "
            "would be the same; set it above 0"
        )


def check_pass_rate(config: Config) -> None:
    """Raises ConfigError for a window of pass rates that no prompt can be in."""
    (least, most), samples = config.rounds.pass_rate, config.data.samples_per_prompt
    if not any(least <= good / read <= most for read in range(1, samples + 1) for good in range(read + 1)):
        raise ConfigError(
            f"rounds.pass_rate: found [{least:g}, {most:g}], but of {samples} responses to a prompt no share called "
            "good is between these; widen it, or raise data.samples_per_prompt"
        )


def lacking(objective: Objective, carries: Collection[str]) -> list[str]:
    """The numbers of examples that an objective reads and a method's examples do not carry."""
    return [name for name in objective.reads if name not in (*MADE, *carries)]


def check_objective(objective: Objective, method: str, carries: Collection[str], other: str | None) -> None:
    """Raises ConfigError for an objective that reads numbers which the method's examples do not carry. `other`: a
    method whose examples do."""
    if found := lacking(objective, carries):
        own = DEFAULTS.get(method, {}).get("learn.objective.name", "sft")
        raise ConfigError(
            f"learn.objective.name: found {objective.name}, which reads '{found[0]}' of each example, and those of "
            f"{method} have none; set it to {own}{f', or method.name to {other}' if other else ''}"
        )


def check_shown(config: Config, method: str) -> None:
    """Raises ConfigError where feedback would be shown behind other words than those that it was asked for by."""
    if config.judge.ensemble.instructions:
        told = f"{method} shows one text of feedback behind format.judge; set samples in their place"
        raise ConfigError(f"judge.ensemble.instructions: {told}")


def check_samples(config: Config) -> None:
    """Raises ConfigError where the samples of a prompt are to be compared, and there is one."""
    if config.data.samples_per_prompt < 2:
        raise ConfigError("data.samples_per_prompt: found 1, but samples are compared; set it to 2 or more")


def check_pairs(config: Config, pairs: str, needed: bool = True) -> None:
    """Raises ConfigError for an unknown kind of pairs (see `iterative_dpo`), and where a round has none of it although
    they are needed."""
    turns, samples = config.rounds.turns, config.data.samples_per_prompt
    if pairs not in PAIRS:
        raise ConfigError(f"method.settings.pairs: found {pairs!r}, expected {', '.join(PAIRS)}")
    if not needed:
        return
    if pairs == "samples" and samples < 2:
        raise ConfigError("data.samples_per_prompt: found 1, but pairs of samples need 2 or more")
    if pairs == "samples" and config.judge.pairwise:
        raise ConfigError(
            "method.settings.pairs: found samples, but judge.batch.kind pairwise compares a response with its "
            "refinement, and no samples with each other; set it to refinement, or judge.batch to null"
        )
    if turns == 0 and (pairs == "refinement" or samples < 2):
        raise ConfigError("rounds.turns: found 0, but pairs with a refinement need 1 or more")


def check_batch_judge(config: Config, method: str, refines: bool) -> None:
    """Raises ConfigError for a batch judge that would have nothing to judge. `refines`: whether a second answer of a
    chain is a refinement."""
    if config.judge.pairwise and refines:
        needs = "pairwise compares a refinement with its response"
        _check_refines(config, method, "judge.batch.kind", needs, "set judge.batch to null")
