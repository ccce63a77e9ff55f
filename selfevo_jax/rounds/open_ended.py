"""Each checkpoint's answers to open-ended prompts, judged beside another side's and rated; every text is kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.evaluate import OpenFigures, open_figures
from selfevo_jax.judges import BASE, SELF, Pair
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.open_sets import OpenSet
from selfevo_jax.rounds.texts import Kept, Models, Said
from selfevo_jax.rounds.winrate import (
    ModelJudge,
    Rated,
    ServerJudge,
    TextJudge,
    answers_of,
    compared,
    lengths,
    rated,
    to_row,
)
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.journal import Row, by_id

_ANSWER, _OTHER = "answer", "answer of the other side"
_MODEL, _AGAINST = "the model", "the other side"
_INHERITED = {f"{_ANSWER}/": f"{_OTHER}/", f"rating of {_MODEL}/": f"rating of {_AGAINST}/"}
"""What was said of the base's answers where it was the model -> where it is the other side."""


class OpenEnded:
    """Measures the checkpoints of one run."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._models = _RunModels(loop)

    def measure(self, name: str) -> None:
        """Figures of a checkpoint on every set, into the run directory, with every text."""
        loop, dir = self._loop, self._loop.dir
        file, sets = dir.open_ended(name), loop.open_sets
        if not sets:
            return
        record: dict[str, Any] = dir.load(file) or {}
        for set_name, of in sets.items():
            kept = dir.judged(name, set_name), dir.said(name, set_name)
            if set_name in record and not any(dir.lost(path) for path in kept):
                continue
            figures = self._measured(name, set_name, of)
            dir.write_json(file, record := record | {set_name: figures})
        self._models.release()
        if not loop.method.keeps_base and name != BASE:
            loop.checkpoints.release_base()

    def _measured(self, name: str, set_name: str, of: OpenSet) -> dict[str, Any]:
        loop, dir, said = self._loop, self._loop.dir, self._loop.dir.said(name, set_name)
        known = [] if name == BASE else list(_inherited(self._texts(BASE, set_name), of))
        whole = dir.finished(said)
        with nullcontext() if whole else dir.journal(said) as journal:
            loop.tell_notes()
            rows = self._texts(name, set_name) if whole else []
            self._models.begin(name, Kept(journal, [*known, *rows]), of, f"{set_name}, ")
            found = _judged(self._models, name, of, loop.reporter)
            if journal is not None:
                rows = sorted(journal.rows, key=by_id)
        if not whole:
            dir.write_rows(said, rows)
        dir.write_rows(dir.judged(name, set_name), found.rows(of))
        return hosts.agree(f"figures of {name} on {set_name}", lambda: asdict(found.figures(of)))

    def _texts(self, name: str, set_name: str) -> list[Row]:
        """What was said in a measurement that is finished, the same on every process."""
        path = self._loop.dir.said(name, set_name)
        self._loop.dir.require(path)
        return hosts.agree(f"texts of {name} on {set_name}", lambda: read_rows(path))


def _inherited(rows: Sequence[Row], of: OpenSet) -> Iterator[Row]:
    """What the base's measurement holds of the other side: nothing of it is sampled or asked again."""
    for row in rows:
        if of.given is not None and row["id"].startswith(f"rating of {_AGAINST}/") and of.section.stays:
            yield row
        for before, after in _INHERITED.items() if of.given is None else ():
            if row["id"].startswith(before) and (of.section.stays or before == f"{_ANSWER}/"):
                yield {**row, "id": after + row["id"].removeprefix(before)}


class _RunModels(Models):
    """The base and a checkpoint of a run, in its own sampler; and a model that judges alone, in one of its own."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop.config, Kept(None), loop.reporter, self._lengths)
        self._loop = loop
        self._own: dict[str, Callable[[], Any]] = {}
        self._set: OpenSet | None = None

    def begin(self, name: str, kept: Kept, of: OpenSet, on: str) -> None:
        """Begins a measurement of a checkpoint on a set."""
        self._own = {one: functools.partial(self._loop.checkpoints.decoding, one) for one in (BASE, name)}
        self.kept, self._set, self.on = kept, of, on

    @property
    def record(self) -> Callable[[dict[str, Any]], None] | None:
        """Takes what texts have cost."""
        return self._loop.bench.record

    def _lengths(self, bench: Workbench) -> Iterator[int]:
        assert self._set is not None
        return lengths(bench, self._set.rows, self._set.section.ratings)

    def _open(self, source: str) -> Workbench:
        if source in self._own:
            return self._loop.bench
        return replace(super()._open(source), record=self._loop.bench.record)

    def _loaded(self, bench: Workbench, source: str) -> Any:
        return self._own[source]() if source in self._own else super()._loaded(bench, source)


@dataclass(frozen=True)
class _Judged:
    """What was said of one checkpoint's answers."""

    answers: Mapping[str, Said]
    pairs: Sequence[Pair] | None
    """None for the base beside itself."""
    marks: Sequence[Mapping[str, Rated]]
    """Of the answers, and of the other side's, where there are any."""

    def rows(self, of: OpenSet) -> list[dict[str, Any]]:
        """Prompt by prompt, for people."""
        if self.pairs is not None:
            return [to_row(pair, self.marks) for pair in self.pairs]
        marks = self.marks[0] if self.marks else {}
        return [
            {"id": row.id, "prompt": row.prompt, "model": self.answers[row.id].text}
            | ({"ratings": {"model": asdict(marks[row.id])}} if marks else {})
            for row in of.rows
        ]

    def figures(self, of: OpenSet) -> OpenFigures:
        told = [{id: one.rating for id, one in marks.items()} for marks in self.marks]
        return open_figures(
            {row.id: None if (one := self.answers[row.id]).error is not None else one.text for row in of.rows},
            sum(one.finish in ("length", "cache") for one in self.answers.values()),
            self.pairs,
            told[0] if told else None,
            told[1] if len(told) > 1 else None,
            of.section.judged_by,
            of.section.against.source,
        )


def _judged(models: _RunModels, name: str, of: OpenSet, reporter: Reporter) -> _Judged:
    """Asks for all that is not there yet."""
    section, rows, kept = of.section, of.rows, models.kept
    answers = answers_of(models, name, _ANSWER, rows)
    other: Mapping[str, Said] | None = None
    if of.given is not None:
        other = {id: Said(text) for id, text in of.given.items()}
    elif name != BASE:
        other = {row.id: kept[f"{_OTHER}/{row.id}"] for row in rows}
    judge: TextJudge
    if section.endpoint is not None:
        title = f"{models.on}{name}: judgements by {section.endpoint.model}"
        judge = ServerJudge(section.endpoint, kept, reporter, title, models.record)
    else:
        judge = ModelJudge(models, name if section.judge == SELF else section.judge, section.brief)
    pairs = None if other is None else compared(judge, rows, answers, other)
    sides = {_MODEL: answers} | ({_AGAINST: other} if other is not None else {}) if section.ratings else {}
    return _Judged(answers, pairs, [rated(judge, rows, texts, side) for side, texts in sides.items()])
