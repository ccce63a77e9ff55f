"""A round's filter: what its method keeps, whether that is enough, and D_self as a file."""

from __future__ import annotations

from collections.abc import Sequence

from selfevo_jax.chains import Rollout
from selfevo_jax.methods.selection import Selection, require, weakness
from selfevo_jax.rounds.limits import clipped, not_run
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.run.names import CURATED


def curate(loop: Loop, round: int, rollouts: Sequence[Rollout]) -> Selection:
    """D_self of the round. Raises EmptySelectionError where it is too small to learn from."""
    method, reporter, sampling = loop.method, loop.reporter, loop.config.sampling
    chosen = method.select(rollouts, round)
    for line in clipped(rollouts, sampling):
        reporter.warn(f"round {round}: {line}")
    lost = not_run(rollouts, sampling)
    require(chosen, loop.config.rounds.minimum_kept, round, lost, loop.way_on(round))
    if lost is not None:
        reporter.warn(f"round {round}: {lost}")
    samples = loop.config.data.samples_per_prompt
    most = loop.config.rounds.most_of_prompt(samples) / samples
    if (weak := weakness(chosen.counts, method.filters, most)) is not None:
        reporter.warn(f"round {round} is weak: {weak}; it is trained on all the same. {loop.way_on(round)}")
    let_through = chosen.counts.kept + chosen.counts.duplicates + chosen.counts.over_cap
    if method.filters and chosen.counts.judged_good == let_through == chosen.counts.sampled:
        reporter.warn(f"round {round}: the critic calls every row good; the filter keeps all")
    if method.filters and chosen.counts.drawn_by_lot == chosen.counts.judged_good > 0:
        reporter.warn(
            f"round {round}: more rows than judge.top_share takes have the best score, {chosen.counts.least_score:g}; "
            "which of them are kept is drawn by lot"
        )
    rows = [
        {
            "id": r.id,
            "sample": r.sample,
            "prompt": r.prompt,
            "answer": r.candidates[r.chosen].text,
            "refined": r.chosen > 0,
        }
        for r in chosen.kept
    ]
    loop.dir.write_rows(loop.dir.round(round, CURATED), rows)
    return chosen
