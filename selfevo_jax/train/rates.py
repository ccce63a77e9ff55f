"""Learning rates that are usual for a model's size: a place to begin from, not tuned ones.

They are those that `configs/` have been run with (0.35 and 135 million parameters), and the usual ones for full
fine-tuning of larger models; adapters take ten times as much, up to the 1e-3 that they have been run with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from selfevo_jax.train.section import TrainSection

_RATES = ((2e6, 2e-3, 1e-3), (3e7, 6e-4, 3e-4), (3e8, 3e-4, 2e-4), (1.2e9, 2e-5, 2e-5))
"""Parameters below, learning rate of meta-skill learning, that of a round."""
_LARGE_RATE = 1e-5
_LORA_TIMES, _LORA_MOST = 10.0, 1e-3
_FAR = 3.0
"""Times the usual rate, above which a default is no place to begin from."""


@dataclass(frozen=True)
class UsualRates:
    """Peaks of the learning rate."""

    meta: float
    learn: float


def usual_rates(parameters: int, adapters: bool) -> UsualRates:
    """`adapters`: whether low-rank adapters are trained in place of the parameters."""
    meta, learn = next(((a, b) for most, a, b in _RATES if parameters < most), (_LARGE_RATE, _LARGE_RATE))
    if adapters:
        meta, learn = (min(_LORA_MOST, _LORA_TIMES * rate) for rate in (meta, learn))
    return UsualRates(meta, learn)


def rate_notices(sections: Mapping[str, TrainSection], parameters: int) -> Iterator[str]:
    """A line for each fine-tuning whose config leaves the learning rate at a default that is far above what is usual
    for a model of so many parameters. `sections`: by name, `meta` and `learn`."""
    for name, section in sections.items():
        usual = getattr(usual_rates(parameters, section.lora is not None), name)
        if "learning_rate" not in section.model_fields_set and section.learning_rate > _FAR * usual:
            yield (
                f"{name}.learning_rate is not set, and its default {section.learning_rate:g} is for models of less "
                f"than a million parameters; for one of {parameters:,} {usual:g} is usual"
                f"{'' if section.lora is None else ' with adapters'}: set {name}.learning_rate={usual:g}, or the model "
                "may lose what it knows"
            )
