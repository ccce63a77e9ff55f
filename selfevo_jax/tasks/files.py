"""Rows of the user's own files."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence

from selfevo_jax.config import Config
from selfevo_jax.data import (
    DataSection,
    EvaluationRow,
    KnownGold,
    MetaRow,
    PromptRow,
    QARow,
    Tell,
    read_evaluation,
    read_gold,
    read_meta,
    read_prompts,
    read_qa,
)
from selfevo_jax.errors import Faults
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.scorers import EvaluationSection, Scorer, open_scorers
from selfevo_jax.tasks.base import Answer, BuiltMeta, Cut, Questions
from selfevo_jax.tasks.equations import build_meta, read_problems
from selfevo_jax.tasks.overlap import Prompt, check_overlap, plain, shared
from selfevo_jax.tasks.solutions import build_meta_rows


class Files:
    """Rows from files, shipped slices and data sets. Everything is read, and so checked, at the start.

    Raises DataError naming file, line and field of rows that cannot be used: the first ones of every file.
    """

    name = "files"

    def __init__(self, config: Config) -> None:
        data, seed = config.data, config.seed
        assert data.prompts is not None
        self._data, self._seed, self._rounds = data, seed, config.rounds.number
        faults, pile = Faults(), data.prompts
        self._said: list[str] = []
        tell = self._said.append
        self._prompts = faults.of(lambda: read_prompts(pile.source, columns=pile.columns, tell=tell)) or []
        self._evaluation = faults.of(lambda: read_sets(data, tell)) or {}
        self._meta = faults.of(lambda: _given_meta(data, seed, tell)) or []
        equations = data.meta_from_equations
        self._problems = (
            None if equations is None else faults.of(lambda: read_problems(equations.source, equations.columns))
        )
        self._qa = faults.of(lambda: given_qa(data, tell)) or []
        open_ended = faults.of(lambda: open_rows(data, tell)) or {}
        faults.refuse()
        opened = [of.scorers[0] for of in self._evaluation.values()]
        self.scorer: Scorer = opened[0] if opened else data.primary.scorers[0]
        self._gold = read_gold(pile.source, self.scorer, columns=data.primary.columns, own=pile.columns)
        meta = "meta_from_solutions" if data.meta_skill is None else "meta_skill"
        self._supervised: dict[str, Sequence[Prompt]] = {meta: self._meta, "qa": self._qa}
        if self._problems is not None:
            self._supervised["meta_from_equations"] = self._problems.usable
        check_overlap(
            {f"evaluation.{name}": of.rows for name, of in self._evaluation.items()}
            | {f"open_ended.{name}": rows for name, rows in open_ended.items()},
            {"prompts": self._prompts, **self._supervised},
            self.files() | {f"data.open_ended.{name}": of.source for name, of in data.open_ended.items()},
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
        found = [*self._said, *_of_gold(self._gold), *set_notices(self._evaluation)]
        if self._problems is not None and (said := self._problems.notice("data.meta_from_equations")) is not None:
            found.append(said)
        found += [
            f"{len(both)} of the {len(self._prompts)} rows of data.prompts are also in data.{kind} (such as "
            f"{min(both)[:80]!r}): the model was trained on an answer to them, and rounds teach less with them"
            for kind, rows in self._supervised.items()
            if (both := shared(rows, self._prompts))
        ]
        copies = len(self._prompts) - len({plain(row.prompt) for row in self._prompts})
        if copies:
            found.append(f"{copies} of the {len(self._prompts)} rows of data.prompts are copies of others")
        each, size = self._data.prompts_per_round, len(self._prompts)
        rounds = sum(self._data.to_write(number) < each for number in range(1, self._rounds + 1))
        if (wanted := min(each, size) * rounds) > size:
            found.append(
                f"{rounds} rounds with given prompts (rounds.number {self._rounds}) and data.prompts_per_round {each} "
                f"take {wanted} prompts, but data.prompts has {size}: prompts come up again. "
                "More prompts, or a lower data.prompts_per_round, give each round new ones"
            )
        return found

    def evaluation(self) -> dict[str, EvaluationSet]:
        return self._evaluation

    def files(self) -> dict[str, str]:
        data = self._data
        keys = ("prompts", "meta_skill", "qa", "meta_from_solutions", "meta_from_equations")
        found = {key: rows.source for key in keys if (rows := getattr(data, key)) is not None}
        found |= {f"evaluation.{name}": of.source for name, of in data.evaluation.items()}
        return {f"data.{name}": source for name, source in found.items()}

    @property
    def has_meta(self) -> bool:
        return bool(self._meta) or self._problems is not None

    def questions(self) -> Questions | None:
        section = self._data.meta_from_equations
        if self._problems is None or section is None:
            return None
        rows = [PromptRow(problem.id, problem.prompt) for problem in self._problems.usable]
        return Questions(rows, section.responses, section.response_temperature)

    def meta_rows(self, answers: Sequence[Answer]) -> BuiltMeta:
        section = self._data.meta_from_equations
        if self._problems is None or section is None:
            return BuiltMeta(self._meta)
        return build_meta(self._problems.usable, answers, section, self._data.meta_rows, self._seed)

    @staticmethod
    def cut_for(config: Config) -> Cut | None:
        return config.data.primary.scorers[0].cut if config.judge.reads == "verdict" else None

    def qa_rows(self) -> list[QARow]:
        return self._qa


def _given_meta(data: DataSection, seed: int, tell: Tell) -> list[MetaRow]:
    """D_meta that is made of rows alone; none where there is none, or it needs answers of the base."""
    if (given := data.meta_skill) is not None:
        return read_meta(given.source, limit=data.meta_rows, columns=given.columns, tell=tell)
    if (solved := data.meta_from_solutions) is not None:
        return build_meta_rows(read_qa(solved.source, columns=solved.columns, tell=tell), seed, limit=data.meta_rows)
    return []


def given_qa(data: DataSection, tell: Tell | None = None) -> list[QARow]:
    """D_QA, where the config names it."""
    return [] if data.qa is None else read_qa(data.qa.source, columns=data.qa.columns, tell=tell)


def read_sets(data: DataSection, tell: Tell | None = None) -> dict[str, EvaluationSet]:
    """The evaluation sets that are files, each row checked by its scorers. Raises what is wrong with any of them."""
    faults = Faults()

    def read(name: str, section: EvaluationSection) -> EvaluationSet:
        scorers = open_scorers(section.scorers, f"data.evaluation.{name}.scorers")
        rows = read_evaluation(
            section.source,
            scorers,
            columns=section.columns,
            only=section.only,
            limit=data.evaluation_rows,
            tell=tell,
        )
        return EvaluationSet(rows.rows, scorers, rows.selection)

    found = {name: faults.of(functools.partial(read, name, of)) for name, of in data.evaluation.items()}
    faults.refuse()
    return {name: of for name, of in found.items() if of is not None}


def open_rows(data: DataSection, tell: Tell | None = None) -> dict[str, list[PromptRow]]:
    """The prompts of the open-ended sets. Raises DataError as `read_prompts`."""
    return {
        name: read_prompts(section.source, columns=section.columns, limit=data.evaluation_rows, tell=tell)
        for name, section in data.open_ended.items()
    }


def set_notices(sets: Mapping[str, EvaluationSet]) -> list[str]:
    """Rows that sets leave out; what scorers have to say of the others; once, where several say the same."""
    found = [f"evaluation set '{name}': {of.selection}" for name, of in sets.items() if of.selection is not None]
    found += [
        f"evaluation set '{name}': {said}"
        for name, of in sets.items()
        for scorer in of.scorers
        if (ask := getattr(scorer, "notice", None)) is not None and (said := ask(of.rows)) is not None
    ]
    return list(dict.fromkeys(found))


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
