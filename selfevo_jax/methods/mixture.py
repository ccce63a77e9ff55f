"""What a fine-tuning draws from: its groups of examples, and the share of each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from selfevo_jax.data import Unit, fit_length
from selfevo_jax.errors import EmptySelectionError
from selfevo_jax.progress import Reporter
from selfevo_jax.train import TrainSection

PoolMap = dict[str, tuple[Sequence[Unit], float]]
"""Name -> examples (and groups) and their share of the examples drawn."""

SELF, META, DIRECT, QA = "self", "meta", "direct", "qa"
"""Groups of examples: D_self; D_meta as feedback with refinement, and as direct answers; D_QA."""


Row = TypeVar("Row")


def faded(rows: Sequence[Row], decay: float, age: int, seed: str) -> list[Row]:
    """Of the rows of a round `age` rounds back the share `decay` to the power of `age`, rounded, in the order given.
    Drawn by `seed`, so that what is taken at a greater age is among what is taken at a smaller one."""
    count = int(len(rows) * decay**age + 0.5)
    return [rows[at] for at in sorted(random.Random(seed).sample(range(len(rows)), len(rows))[:count])]


def mixture(groups: Mapping[str, Sequence[Unit]], section: TrainSection) -> PoolMap:
    """Groups of examples with their shares of the examples drawn, which sum to 1; a share of 0 leaves a group out.

    `meta_share` divides D_meta and D_QA from D_self, `qa_share` D_QA from D_meta, `direct_share` the direct answers
    from feedback with refinement. Each is set by hand, or null: in proportion to the numbers of examples. With all
    three null each example is drawn as often as any other: SELF's `restart` pools D_meta and all D_self so far in this
    way (arXiv 2310.00533).
    """
    sizes = {name: len(examples) for name, examples in groups.items()}
    shares = {SELF: 1.0, QA: 1.0, DIRECT: 1.0, META: 1.0}
    splits = (
        (section.meta_share, (META, DIRECT, QA), (SELF,)),
        (section.qa_share, (QA,), (META, DIRECT)),
        (section.direct_share, (DIRECT,), (META,)),
    )
    for given, these, others in splits:
        share = _share(given, sum(sizes.get(n, 0) for n in these), sum(sizes.get(n, 0) for n in others))
        for name in these:
            shares[name] *= share
        for name in others:
            shares[name] *= 1.0 - share
    return {name: (examples, shares[name]) for name, examples in groups.items() if shares[name] > 0}


def _share(given: float | None, these: int, others: int) -> float:
    """The share of `these` against `others`; what has no examples leaves all to the other side."""
    if not these or not others:
        return 1.0 if these else 0.0
    return these / (these + others) if given is None else given


def fitted(
    groups: Mapping[str, Sequence[Unit]], section: TrainSection, reporter: Reporter, key: str
) -> dict[str, Sequence[Unit]]:
    """The groups that the mixture draws from, without examples that are longer than a row, which are counted aloud.

    Raises EmptySelectionError where none of a group is left; `key` is the section's in the config (`meta`, `learn`).
    """
    out: dict[str, Sequence[Unit]] = {}
    for name, (examples, _) in mixture(groups, section).items():
        try:
            out[name], dropped = fit_length(examples, section.length)
        except EmptySelectionError as error:
            raise EmptySelectionError(f"{key}.length {section.length}: {name}: {error}") from error
        if dropped:
            reporter.warn(
                f"{name}: {dropped} of {len(examples)} examples are longer than {section.length} tokens; dropped"
            )
    return out
