"""Where rows come from: the embedded counting stories, or files. Gold answers leave this room for evaluation alone."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from selfevo_jax.config import Config, DataSection
from selfevo_jax.data import (
    EvaluationRow,
    KnownGold,
    MetaRow,
    PromptRow,
    QARow,
    build_meta_rows,
    read_evaluation,
    read_gold,
    read_meta,
    read_prompts,
    read_qa,
    stories,
)
from selfevo_jax.errors import DataError
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.scorers import Scorer, open_scorers
from selfevo_jax.scorers.number import Number


class Prompt(Protocol):
    """What rows of all kinds have."""

    @property
    def prompt(self) -> str: ...


class FilePools:
    """Rows from JSONL files and shipped slices. Everything is read, and so checked, at the start."""

    def __init__(self, data: DataSection, seed: int, rounds: int) -> None:
        assert data.prompts is not None
        self._data, self._seed, self._rounds = data, seed, rounds
        self._prompts = read_prompts(data.prompts)
        self._evaluation = dict[str, EvaluationSet]()
        for name, section in data.evaluation.items():
            scorers = open_scorers(section.scorers, f"data.evaluation.{name}.scorers")
            rows = read_evaluation(section.source, scorers, columns=section.columns, limit=data.evaluation_rows)
            self._evaluation[name] = EvaluationSet(rows, scorers)
        self.scorer, columns = primary(data, self._evaluation)
        self._gold = read_gold(data.prompts, self.scorer, columns=columns)
        if data.meta_skill is not None:
            self._meta = read_meta(data.meta_skill, limit=data.meta_rows)
        elif data.meta_from_solutions is not None:
            self._meta = build_meta_rows(read_qa(data.meta_from_solutions), seed, limit=data.meta_rows)
        else:
            self._meta = []
        self._qa = [] if data.qa is None else read_qa(data.qa)
        meta = "meta_from_solutions" if data.meta_skill is None else "meta_skill"
        self._supervised: dict[str, Sequence[Prompt]] = {meta: self._meta, "qa": self._qa}
        check_overlap(
            {name: of.rows for name, of in self._evaluation.items()}, {"prompts": self._prompts, **self._supervised}
        )

    def prompts(self, round: int) -> list[PromptRow]:
        """The round's part of the pile, which is shuffled with the run's seed. No row comes twice before all came once,
        nor twice in a round; each pass over the pile has an order of its own."""
        wanted, passes = min(self._data.prompts_per_round, len(self._prompts)), 0
        order: list[int] = []
        for _ in range(round):
            order = order[wanted:]
            if len(order) < wanted:
                fresh, passes = self._pass(passes), passes + 1
                # what is left of the pass before is this round's too: it comes last in the next
                order += sorted(fresh, key=set(order).__contains__)
        return [self._prompts[i] for i in order[:wanted]]

    def _pass(self, number: int) -> list[int]:
        size = len(self._prompts)
        return random.Random(f"prompts {self._seed} {number}").sample(range(size), size)

    def gold(self, round: int) -> dict[str, EvaluationRow]:
        """Prompt id -> row, where its gold answer is known: to measure with, after the round has chosen."""
        return self._gold.rows

    def notices(self) -> list[str]:
        """What the user should know of the pile of prompts, with the counts."""
        found = _of_gold(self._gold)
        found += [
            f"{len(shared)} of the {len(self._prompts)} rows of data.prompts are also in data.{kind} (such as "
            f"{min(shared)[:80]!r}): the model was trained on an answer to them, and rounds teach less with them"
            for kind, rows in self._supervised.items()
            if (shared := _shared(rows, self._prompts))
        ]
        copies = len(self._prompts) - len({_plain(row.prompt) for row in self._prompts})
        if copies:
            found.append(f"{copies} of the {len(self._prompts)} rows of data.prompts are copies of others")
        wanted = self._data.prompts_per_round * self._rounds
        if wanted > len(self._prompts):
            found.append(
                f"rounds.number {self._rounds} with data.prompts_per_round {self._data.prompts_per_round} takes "
                f"{wanted} prompts, but data.prompts has {len(self._prompts)}: prompts come up again"
            )
        return found

    def evaluation(self) -> dict[str, EvaluationSet]:
        return self._evaluation

    def meta_rows(self) -> list[MetaRow]:
        return self._meta

    def qa_rows(self) -> list[QARow]:
        return self._qa


class StoryPools:
    """Counting stories from the generator; skeletons of the splits are disjoint, which is checked here."""

    def __init__(self, config: Config) -> None:
        settings = config.data.stories
        assert settings is not None
        self._changes, self._seed = settings.changes, config.seed
        self._per_round, self._rounds = config.data.prompts_per_round, config.rounds.number
        split = settings.evaluation_split
        self.meta_questions = stories.make_stories(
            "meta", settings.meta_questions, changes=self._changes, seed=self._seed
        )
        # evaluation stories do not depend on the run's seed, so that seeds are compared on the same rows
        rows = stories.make_stories(split, settings.evaluation_rows, changes=self._changes)
        self.scorer: Scorer = Number()
        self._evaluation = EvaluationSet([_with_answer(row) for row in rows], (self.scorer,))
        texts = [row.text for number in range(1, self._rounds + 1) for row in self._stories(number)]
        stories.check_disjoint(
            meta=[row.text for row in self.meta_questions], prompts=texts, evaluation=[row.text for row in rows]
        )
        self._texts = texts

    @functools.cached_property
    def coverage(self) -> float:
        """Share of the prompt split's skeletons that the rounds use."""
        return len({stories.read_skeleton(text) for text in self._texts}) / stories.space_size(self._changes, "prompts")

    def notices(self) -> list[str]:
        return []

    def _stories(self, round: int) -> list[stories.Story]:
        found = stories.make_stories("prompts", self._per_round, changes=self._changes, seed=1000 * self._seed + round)
        # the same story may come up in two rounds; its id tells them apart
        return [stories.Story(f"r{round}-{row.id}", row.text, row.skeleton, row.answer) for row in found]

    def prompts(self, round: int) -> list[PromptRow]:
        return [PromptRow(row.id, row.text) for row in self._stories(round)]

    def gold(self, round: int) -> dict[str, EvaluationRow]:
        return {row.id: _with_answer(row) for row in self._stories(round)}

    def evaluation(self) -> dict[str, EvaluationSet]:
        return {"stories": self._evaluation}

    def qa_rows(self) -> list[QARow]:
        return []


def _with_answer(story: stories.Story) -> EvaluationRow:
    return EvaluationRow(story.id, story.text, {"answer": str(story.answer)})


def primary(data: DataSection, sets: Mapping[str, EvaluationSet]) -> tuple[Scorer, Mapping[str, str]]:
    """The scorer that reads the gold answers of the prompts, where they have any, and the names of their columns: those
    of the first evaluation set."""
    for name, section in data.evaluation.items():
        return sets[name].scorers[0], section.columns
    return Number(), {}


def _of_gold(gold: KnownGold) -> list[str]:
    """What the user should know of the gold answers in the prompts' own file."""
    known, bad, found = len(gold.rows), gold.unscorable, []
    rows = known + gold.missing + len(bad)
    if bad:
        found.append(
            f"{len(bad)} of the {rows} rows of data.prompts have a gold answer that cannot be scored; it counts as not "
            f"known (the first: {bad[0]})"
        )
    if gold.missing and (known or bad):
        found.append(f"{gold.missing} of the {rows} rows of data.prompts have no gold answer; it counts as not known")
    return found


def _plain(prompt: str) -> str:
    return " ".join(prompt.split())


def _shared(rows: Sequence[Prompt], others: Sequence[Prompt]) -> list[str]:
    """The prompts of `others`, one a row, that are among those of `rows`, whatever their white space."""
    known = {_plain(row.prompt) for row in rows}
    return [text for row in others if (text := _plain(row.prompt)) in known]


def check_overlap(evaluation: Mapping[str, Sequence[Prompt]], used: Mapping[str, Sequence[Prompt]]) -> None:
    """Raises DataError with the count when an evaluation prompt is also a prompt of the loop or of its data."""
    for name, rows in evaluation.items():
        for kind, others in used.items():
            if shared := _shared(others, rows):
                raise DataError(
                    f"data.evaluation.{name}",
                    None,
                    "prompt",
                    f"{len(shared)} of its {len(rows)} prompts are also in data.{kind} (such as "
                    f"{min(shared)[:80]!r}); remove them from one of the two",
                )


def open_pools(config: Config) -> FilePools | StoryPools:
    """Reads and checks every row of the config. Raises DataError naming file, line and field of a bad one."""
    return (
        StoryPools(config)
        if config.data.stories is not None
        else FilePools(config.data, config.seed, config.rounds.number)
    )
