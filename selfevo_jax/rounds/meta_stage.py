"""Meta-skill learning: D_meta, and M_meta fine-tuned on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selfevo_jax.data import MetaRow, QARow, meta_balance, read_meta, read_qa
from selfevo_jax.errors import DataError, EmptySelectionError
from selfevo_jax.judges import ChainJudge
from selfevo_jax.methods.lessons import supervised_examples
from selfevo_jax.progress import Reporter, in_words
from selfevo_jax.rounds.limits import clipped
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.references import references_file
from selfevo_jax.run.names import BASE, COMMITTED, META, META_COUNTS, OWN_ANSWERS
from selfevo_jax.tasks import Answer


def meta_rows(loop: Loop) -> list[MetaRow]:
    """D_meta, as stored in the run directory; none where the config names none."""
    if not loop.task.has_meta:
        return []
    file, beside = loop.dir.meta("meta_skill.jsonl"), [loop.dir.meta(name) for name in (META_COUNTS, OWN_ANSWERS)]
    if not loop.dir.has(file) or any(loop.dir.lost(path) for path in beside):
        _make(loop, file)
    loop.dir.require(file)
    return read_meta(file)


def _make(loop: Loop, file: Path) -> None:
    """D_meta and what is kept beside it: all of it, or where D_meta is there what is lost of the other files."""
    built, first = loop.task.meta_rows(_answers(loop)), not loop.dir.has(file)
    counts, rows = dict(built.counts), built.rows
    if not rows:
        told = f" ({in_words(counts)})" if counts else ""
        raise EmptySelectionError(
            f"D_meta: the base gives no response that can be read{told}; check the base checkpoint"
        )
    if loop.config.data.meta_feedback == "verdict":
        rows = verdicts_alone(rows, loop.bench.judge)
    if counts and (first or loop.dir.lost(loop.dir.meta(META_COUNTS))):
        loop.reporter.line(f"  D_meta is made of: {in_words(counts)}")
        loop.dir.write_json(loop.dir.meta(META_COUNTS), counts)
    if built.own and (first or loop.dir.lost(loop.dir.meta(OWN_ANSWERS))):
        loop.dir.write_rows(loop.dir.meta(OWN_ANSWERS), built.own)
    if first:
        loop.dir.write_rows(file, rows)


def qa_rows(loop: Loop) -> list[QARow]:
    """D_QA: the rows that the config names, and the base's own answers that were made with D_meta."""
    file = loop.dir.meta(OWN_ANSWERS)
    return [*loop.task.qa_rows(), *(read_qa(file) if loop.dir.has(file) else [])]


def _answers(loop: Loop) -> list[Answer]:
    """The base's own answers to the questions of D_meta. The critic must see the model's own mistakes: planted ones
    alone teach it nothing about them."""
    questions = loop.task.questions()
    if questions is None:
        return []
    bench, title = loop.bench, "responses of the base for D_meta"
    stages = bench.stages(temperature=questions.temperature)
    chains = [
        bench.chain(row, stages, round=0, sample=sample, judge=False)
        for row in questions.rows
        for sample in range(questions.samples)
    ]
    sampled = bench.roll_out(loop.checkpoints.decoding(BASE), chains, loop.reporter, title)
    for line in clipped(sampled, loop.config.sampling):
        loop.reporter.warn(f"{title}: {line}")
    responses = [(r, r.candidates[0]) for r in sampled if r.error is None]
    return [Answer(r.id, r.sample, response.text, response.finished) for r, response in responses]


def meta_stage(loop: Loop) -> None:
    """M_0 on D_meta (and D_QA) gives M_meta."""
    done, config = loop.dir.meta(COMMITTED), loop.config
    if loop.dir.has(done) and loop.dir.complete(META) and not loop.dir.lost(done.parent):
        return
    loop.reporter.line("Meta-skill learning")
    rows = meta_rows(loop)
    if rows:
        warn_unbalanced(rows, loop.reporter)
    if not loop.dir.complete(META) and config.meta.steps == 0:
        loop.reporter.line("  meta.steps is 0: M_meta is the model as it is")
        loop.checkpoints.save_base(META)
    elif not loop.dir.complete(META) or loop.dir.lost(references_file(loop.dir, META)):
        groups = supervised_examples(rows, qa_rows(loop), loop.bench.format, config.meta)
        base, origin = loop.checkpoints.base(), loop.bench.source.origin
        loop.checkpoints.train(META, base, origin, groups, config.meta, config.seed)
    loop.checkpoints.finish(META)
    loop.dir.write_json(done, {"checkpoint": META, "training": loop.dir.training(META)})


def check_verdicts(rows: Sequence[MetaRow], judge: ChainJudge, source: str = "D_meta") -> None:
    """Raises DataError with the source, the count and the first row's number when the verdict that feedback gives in
    words is not the row's own."""
    wrong = [at for at, row in enumerate(rows) if judge.read(row.feedback).good != row.good]
    if wrong:
        first = rows[wrong[0]]
        found = judge.read(first.feedback).good
        said = "cannot be parsed" if found is None else "is " + ("good" if found else "bad")
        raise DataError(
            source,
            None,
            "feedback",
            f"in {len(wrong)} of {len(rows)} rows (from number {wrong[0] + 1} on) the verdict in words is not the "
            f"field 'good'; first in row '{first.id}': its verdict {said}, good is {str(first.good).lower()}. End "
            "feedback in 'Verdict: correct' or 'Verdict: incorrect' (or in a rating, by judge.kind)",
        )


def verdicts_alone(rows: Sequence[MetaRow], judge: ChainJudge) -> list[MetaRow]:
    """D_meta without the words of its feedback: the verdict, or the rating, is all that is left."""
    return [replace(row, feedback=judge.bare(row.feedback, row.good)) for row in rows]


def warn_unbalanced(rows: Sequence[MetaRow], reporter: Reporter) -> None:
    balance = meta_balance(rows)
    reporter.line(f"  D_meta: {balance.rows} rows, {balance.right} right and {balance.wrong} wrong responses")
    for line in balance.warnings:
        reporter.warn(line)
