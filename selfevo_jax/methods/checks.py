"""Settings with which a method could do nothing, said before a run."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from selfevo_jax.config import Config
from selfevo_jax.config.methods import DEFAULTS
from selfevo_jax.errors import ConfigError

PAIRS = ("refinement", "samples", "both")
"""What pairs are made of."""


def check_fixed(config: Config, method: str, keys: Iterable[str]) -> None:
    """Raises ConfigError where one of these keys has another value than the method's own."""
    for key in keys:
        found, wanted = attrgetter(key)(config), DEFAULTS[method][key]
        if found != wanted:
            raise ConfigError(f"{key}: found {found}, but {method} takes {wanted}; set it to that")


def check_selection(config: Config, method: str, compares: bool) -> None:
    """Raises ConfigError for a selection that has nothing to select by. `compares`: whether the method learns better
    answers beside worse ones."""
    rounds, judge = config.rounds, config.judge
    if rounds.select in ("best_of_n", "threshold") and not judge.scores:
        raise ConfigError(
            f"rounds.select: {rounds.select} ranks by scores, but the judge gives verdicts alone; set judge.kind to "
            "confidence, likelihood, rating or ensemble, or rounds.select to feedback"
        )
    if rounds.select == "improvement" and rounds.turns == 0:
        raise ConfigError("rounds.turns: found 0, but improvement compares refinements; set it to 1 or more")
    if rounds.select == "best_of_n" and config.data.samples_per_prompt < 2:
        raise ConfigError(
            "data.samples_per_prompt: found 1, but best_of_n chooses among the samples of a prompt; set it to 2 or more"
        )
    if rounds.select == "extremes" and not compares:
        raise ConfigError(
            f"rounds.select: extremes keeps answers that score badly too, and {method} would learn them as good ones; "
            "set it to best_of_n, or take a method that compares answers"
        )


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
    if turns == 0 and (pairs == "refinement" or samples < 2):
        raise ConfigError("rounds.turns: found 0, but pairs with a refinement need 1 or more")


def check_batch_judge(config: Config, refines: bool) -> None:
    """Raises ConfigError for a batch judge that would have nothing to judge. `refines`: whether a second answer of a
    chain is a refinement."""
    rounds, batch = config.rounds, config.judge.batch
    if batch is not None and not rounds.judges:
        raise ConfigError(
            f"judge.batch: found {batch.kind}, but with rounds.turns 0 and rounds.select none nothing is judged; set "
            "it to null"
        )
    if batch is not None and batch.kind == "pairwise" and rounds.turns == 0 and refines:
        raise ConfigError(
            "judge.batch.kind: pairwise compares a refinement with its response, but with rounds.turns 0 there is "
            "none; set rounds.turns to 1 or more"
        )
