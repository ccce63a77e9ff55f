"""A round's chains: sampled once, each stored as it ends."""

from __future__ import annotations

from pathlib import Path

from selfevo_jax.chains import Rollout
from selfevo_jax.rounds.dealing import gold_of
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.prompts import prompts_of
from selfevo_jax.rounds.workbench import Prompt
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.journal import by_id
from selfevo_jax.run.names import SCORES, name_of


def rollouts(loop: Loop, round: int) -> list[Rollout]:
    """The round's rollouts in one order, whatever the slots and interruptions; those that are there are read, never
    sampled again."""
    dir = loop.dir
    manifest, part = dir.round(round, "rollouts/manifest.json"), dir.round(round, "rollouts/part-00000.jsonl")
    if dir.load(manifest) is None and dir.finished(part):
        _count(loop, manifest, part)
    if dir.load(manifest) is not None and dir.has(part):
        dir.require(part)
        with understood(part):
            return [Rollout.from_dict(row) for row in read_rows(part)]
    rows = _sample(loop, round, part)
    dir.write_rows(part, rows)
    _count(loop, manifest, part)
    return [Rollout.from_dict(row) for row in rows]


def _sample(loop: Loop, round: int, part: Path) -> list[dict[str, object]]:
    """Runs the chains that the journal has not, and writes the log-probabilities beside it."""
    dir, reporter, beside = loop.dir, loop.reporter, loop.dir.round(round, SCORES)
    prompts, stages = asked_about(loop, round), loop.bench.stages()
    with dir.journal(part) as journal, dir.journal(beside, {by_id(r) for r in journal.rows}) as scores:
        loop.tell_notes()

        def done(rollout: Rollout) -> None:
            scores.append(rollout.scores())  # first, so that each finished rollout has them
            journal.append(rollout.to_dict())

        have = {by_id(row) for row in journal.rows}
        if have:
            reporter.line(f"  {len(have)} finished rollouts are kept")
        chains = [
            loop.method.chain(loop.bench, row, stages, round=round, sample=sample)
            for row in prompts
            for sample in range(loop.config.data.samples_per_prompt)
            if (row.id, sample) not in have
        ]
        title = f"round {round}: respond, judge, refine"
        loop.bench.roll_out(loop.checkpoints.decoding(name_of(round - 1)), chains, reporter, title, done)
        rows = sorted(journal.rows, key=by_id)
        scored = {by_id(row): row for row in scores.rows}
    if lacking := sum(by_id(row) not in scored for row in rows):
        reporter.warn(f"round {round}: {lacking} of {len(rows)} rollouts have no row in {beside}")
    dir.write_rows(beside, [scored[by_id(row)] for row in rows if by_id(row) in scored])
    return rows


def asked_about(loop: Loop, round: int) -> list[Prompt]:
    """The rows of a round, as its method sees them."""
    gold = gold_of(loop.config, loop.task, round) if loop.method.reads_labels else {}
    return [gold.get(row.id, row) for row in prompts_of(loop, round)]


def _count(loop: Loop, manifest: Path, part: Path) -> None:
    """The last file of a round's rollouts: how many there are."""
    loop.dir.write_json(manifest, loop.dir.counted(part))
