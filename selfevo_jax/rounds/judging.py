"""A round's batch judge: what it says of each finished chain, asked once and stored as it comes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from selfevo_jax import hosts
from selfevo_jax.chains import Rollout
from selfevo_jax.data import EvaluationRow
from selfevo_jax.errors import ConfigError, SelfevoError, first_line
from selfevo_jax.judges import Assessment, BatchJudge, Case, JudgePrompt
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.dealing import gold_of
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.texts import Kept, Said, sample_left, tell_lost
from selfevo_jax.rounds.winrate import ServerJudge, TextJudge, judge_requests, opened
from selfevo_jax.rounds.workbench import Prompt, Workbench
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.journal import by_id
from selfevo_jax.run.names import name_of
from selfevo_jax.scorers import grades_of
from selfevo_jax.tasks import Task

T = TypeVar("T")
_LOOKED_AT = 64
"""Prompts, at the start, whose questions are measured."""
Replies = Callable[[JudgePrompt, Mapping[str, str]], Mapping[str, Said]]
"""From questions to what was said to each."""


@dataclass(frozen=True)
class SampledJudge:
    """The model that made a round's chains, with `sampling.feedback`; draws are keyed by the round and the question."""

    bench: Workbench
    params: Callable[[], Any]
    """Asked for where something is to be sampled."""
    kept: Kept
    reporter: Reporter
    title: str
    round: int
    brief: bool

    def said(self, stage: str, prompt: JudgePrompt, shown: Mapping[str, str]) -> dict[str, Said]:
        params = self.bench.stages().feedback
        requests = judge_requests(self.bench, prompt, shown, params, self.brief, self.round, stage)
        sample_left(self.bench, self.params, self.kept, stage, requests, self.reporter, self.title)
        found = {key: self.kept[f"{stage}/{key}"] for key in shown}
        limit = "sampling.feedback.max_new_tokens"
        tell_lost(list(found.values()), f"{self.title}: ", "judgements", limit, self.reporter)
        return {key: opened(said, prompt) for key, said in found.items()} if self.brief else found


def judged(loop: Loop, round: int, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The round's rollouts with what its batch judge says of them, and the candidates that it chooses; as they are
    where there is none, or chains are not judged at all. What is there is read, never asked again."""
    judge, dir = loop.bench.batch, loop.dir
    if judge is None or not loop.method.judges:
        return list(rollouts)
    manifest, part = dir.round(round, "judged/manifest.json"), dir.round(round, "judged/part-00000.jsonl")
    if dir.load(manifest) is not None and dir.has(part):
        dir.require(part)
        with understood(part):
            rows = read_rows(part)
    else:
        title = f"round {round}: judged by {judge.name}"
        cases = [case_of(r) for r in rollouts]
        found = _assessed(loop, round, judge, cases, rollouts, "judged", title)
        rows = [
            {"id": r.id, "sample": r.sample, "candidates": [asdict(a) for a in of]}
            for r, of in zip(rollouts, found, strict=True)
        ]
        dir.write_rows(part, rows)
        dir.write_json(manifest, dir.counted(part) | {"judge": judge.name, "reads_labels": judge.reads_labels})
    with understood(part):
        by_candidate = [[Assessment(**a) for a in row["candidates"]] for row in rows]
    return [r.assessed(of) for r, of in zip(rollouts, by_candidate, strict=True)]


def judged_controls(loop: Loop, round: int, planted: Sequence[tuple[Rollout, str]]) -> list[Assessment]:
    """What the batch judge says of answers made wrong on purpose; one that compares is shown each as a refinement of
    the answer that it was made of."""
    judge = loop.bench.batch
    assert judge is not None
    cases = []
    for r, wrong in planted:
        answer = r.candidates[r.chosen].text
        cases.append(Case(f"{r.id}/{r.sample}", r.prompt, (answer, wrong) if judge.compares else (wrong,)))
    title = f"round {round}: judge planted answers"
    return [of[-1] for of in _assessed(loop, round, judge, cases, [r for r, _ in planted], "controls", title)]


def record(loop: Loop, rollouts: Sequence[Rollout]) -> dict[str, Any] | None:
    """What a round's record says of its batch judge; None where there is none."""
    judge = loop.bench.batch
    if judge is None or not loop.method.judges:
        return None
    decided = [[c.assessment for c in r.candidates if c.assessment is not None] for r in rollouts]
    unread = Counter(a.unread for of in decided for a in of if a.unread is not None)
    return {
        "name": judge.name,
        "reads_labels": judge.reads_labels,
        "judged": sum(any(a.good is not None for a in of) for of in decided),
        "unread": dict(sorted(unread.items())),
    }


def case_of(rollout: Rollout) -> Case:
    """A chain as a judge is shown it: without texts that are empty or were cut at a limit."""
    texts = [c.text if c.finished and c.text.strip() else None for c in rollout.candidates]
    return Case(f"{rollout.id}/{rollout.sample}", rollout.prompt, tuple(texts))


def assess(judge: BatchJudge, cases: Sequence[Case], replies: Replies) -> list[list[Assessment]]:
    """What a judge says of each text of each case."""
    shown = {case.key: _of_judge(judge, case, lambda case: dict(judge.shown(case))) for case in cases}
    asked = {f"{key}/{name}": text for key, questions in shown.items() for name, text in questions.items()}
    if asked and judge.prompt is None:
        raise ConfigError(f"judge.batch.kind: {judge.name} shows questions, but has no prompt that asks them")
    said = replies(judge.prompt, asked) if judge.prompt is not None and asked else {}

    def assessed(case: Case) -> list[Assessment]:
        return list(judge.assessed(case, {name: said[f"{case.key}/{name}"] for name in shown[case.key]}))

    found = [_of_judge(judge, case, assessed) for case in cases]
    for case, of in zip(cases, found, strict=True):
        if len(of) != len(case.texts):
            raise ConfigError(
                f"judge.batch.kind: {judge.name} says {len(of)} things of the {len(case.texts)} texts of '{case.key}', "
                "expected one of each"
            )
    return found


def _of_judge(judge: BatchJudge, case: Case, call: Callable[[Case], T]) -> T:
    """What a judge, whose code may be the user's, makes of a case. Raises ConfigError, with the case, for a failure."""
    try:
        return call(case)
    except SelfevoError:
        raise
    except Exception as error:
        raise ConfigError(
            f"judge.batch.kind: {judge.name} fails on '{case.key}': {type(error).__name__}: {first_line(error)}"
        ) from error


def text_judge(
    bench: Workbench, kept: Kept, reporter: Reporter, title: str, params: Callable[[], Any], round: int = 0
) -> TextJudge:
    """Who answers the questions of the batch judge."""
    judge = bench.batch
    assert judge is not None
    if judge.server is not None:
        return ServerJudge(judge.server, kept, reporter, title, bench.record)
    return SampledJudge(bench, params, kept, reporter, title, round, judge.brief)


def judged_aloud(bench: Workbench, params: Any, rollout: Rollout) -> list[str]:
    """What the batch judge says of one chain, outside of any run, a line for each candidate that it speaks of; nothing
    where there is none, or it reads labels."""
    judge = bench.batch
    if judge is None or judge.reads_labels:
        return []
    asker = text_judge(bench, Kept(None), Reporter(quiet=True), judge.name, lambda: params)
    (found,) = assess(judge, [case_of(rollout)], lambda prompt, asked: asker.said("chat", prompt, asked))
    lines = []
    for number, one in enumerate(found):
        if one.good is not None or one.unread is not None:
            lines.append(f"{judge.name} on {'answer' if number == 0 else 'refined'}: {one.in_words()}")
    return lines or [f"{judge.name}: there is nothing to judge"]


def check_judge(bench: Workbench, task: Task, first: Sequence[Prompt]) -> None:
    """Raises ConfigError for a batch judge that could not work; `first` are the prompts of the first round."""
    judge = bench.batch
    if judge is None:
        return
    if judge.reads_labels:
        require_gold(gold_of(bench.config, task, 1), first, 1)
        if bench.config.data.self_written is not None:
            raise ConfigError(
                f"judge.batch.kind: {judge.name} reads gold answers, but data.self_written prompts have none; leave it "
                "out, or choose a judge that reads no labels"
            )
    if judge.server is None and judge.prompt is not None:
        shown = {n: judge.shown(Case("", row.prompt, ("a", "b"))) for n, row in enumerate(first[:_LOOKED_AT])}
        texts = {f"{n}/{name}": text for n, of in shown.items() for name, text in of.items()}
        requests = judge_requests(bench, judge.prompt, texts, bench.stages().feedback, judge.brief, 0, "")
        least, room = min((len(request.tokens) for request in requests.values()), default=0), bench.engine.cache_length
        if least > room:
            raise ConfigError(
                f"sampling.cache_length: found {room}, but what the judge {judge.name} asks has {least} tokens without "
                "the answers; raise it"
            )


def require_gold(gold: Mapping[str, EvaluationRow], rows: Sequence[Prompt], round: int) -> None:
    """Raises ConfigError where a judge that reads labels would find none for a prompt of a round."""
    lacking = [row.id for row in rows if row.id not in gold]
    if lacking:
        raise ConfigError(
            f"judge.batch.kind: this judge reads gold answers, but {len(lacking)} of the {len(rows)} prompts of "
            f"round {round} have none that can be scored (the first: '{lacking[0]}'); add them, or choose a judge that "
            "reads no labels"
        )


def _assessed(
    loop: Loop,
    round: int,
    judge: BatchJudge,
    cases: Sequence[Case],
    rows: Sequence[Rollout],
    folder: str,
    title: str,
) -> list[list[Assessment]]:
    """By a judge of a run; `rows` are the rollouts that the cases are made of. What is asked is kept in a folder of the
    round. Process 0 reads what was said, and the others are given it."""
    answers = loop.dir.round(round, f"{folder}/answers.jsonl")
    if judge.reads_labels:
        require_gold(gold_of(loop.config, loop.task, round), rows, round)
        grades: list[list[float | None]] = []
        if hosts.is_writer():
            with hosts.working(title):
                grades = _grades(loop, round, cases, rows)
        grades = hosts.share(f"{title}: grades", grades)
        cases = [replace(case, grades=tuple(of)) for case, of in zip(cases, grades, strict=True)]

    def replies(prompt: JudgePrompt, asked: Mapping[str, str]) -> Mapping[str, Said]:
        return _kept_replies(loop, round, answers, folder, title, prompt, asked)

    found = assess(judge, cases, replies)
    return [[Assessment(**a) for a in of] for of in hosts.share(title, [[asdict(a) for a in of] for of in found])]


def _kept_replies(
    loop: Loop, round: int, path: Path, stage: str, title: str, prompt: JudgePrompt, asked: Mapping[str, str]
) -> dict[str, Said]:
    """Each reply is in the journal before the next is waited for; those that could not be had are in the finished file
    too."""
    with loop.dir.journal(path) as journal:
        loop.tell_notes()
        if journal.rows:
            loop.reporter.line(f"  {len(journal.rows)} judgements are kept")
        kept = Kept(journal if hosts.is_writer() else None)
        params = functools.partial(loop.checkpoints.decoding, name_of(round - 1))
        said = text_judge(loop.bench, kept, loop.reporter, title, params, round).said(stage, prompt, asked)
        rows = {by_id(row): row for row in journal.rows}
    lost = {(f"{stage}/{key}", 0): {"id": f"{stage}/{key}", "sample": 0, **asdict(one)} for key, one in said.items()}
    loop.dir.write_rows(path, [row for _, row in sorted((lost | rows).items())])
    return said


def _grades(loop: Loop, round: int, cases: Sequence[Case], rows: Sequence[Rollout]) -> list[list[float | None]]:
    """Of the texts of each case, by the task's scorer."""
    gold = gold_of(loop.config, loop.task, round)
    there = [(gold[r.id], text) for r, c in zip(rows, cases, strict=True) for text in c.texts if text is not None]
    grades = iter(grades_of(loop.task.scorer, [row for row, _ in there], [text for _, text in there]))
    return [[None if text is None else next(grades).value for text in case.texts] for case in cases]
