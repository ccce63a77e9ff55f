"""The task `instructions`, as a run sees it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

from pydantic import PrivateAttr

from selfevo_jax.config import Config
from selfevo_jax.data import EvaluationRow, PromptRow, QARow, read_prompts
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.scorers import ScoredRow, Scorer
from selfevo_jax.scorers.constraints import Constraints
from selfevo_jax.tasks.base import Answer, BuiltMeta, Cut, Questions
from selfevo_jax.tasks.files import given_qa, open_rows, read_sets, set_notices
from selfevo_jax.tasks.instructions.crafts import Demand, missed
from selfevo_jax.tasks.instructions.generate import InstructionRow, make_rows, without_demands
from selfevo_jax.tasks.instructions.meta import build_meta, own_answers
from selfevo_jax.tasks.instructions.splits import KEY, Part, check_apart, split
from selfevo_jax.tasks.overlap import check_overlap


class Asked(Constraints):
    """The scorer `constraints`, which knows what the prompts of the rounds ask: wrong answers for controls are near
    misses. What is asked is in the prompt's own words, so that no label is read."""

    _asked: Mapping[str, tuple[Demand, ...]] = PrivateAttr(default_factory=dict)

    @classmethod
    def asking(cls, rows: Sequence[InstructionRow]) -> Asked:
        found = cls()
        found._asked = {row.prompt: row.demands for row in rows}
        return found

    def spoil(self, row: ScoredRow, text: str, rng: random.Random) -> str | None:
        demands = self._asked.get(row.prompt)
        return None if demands is None else missed(demands, text, rng)


class Instructions:
    """Prompts with verifiable instructions, made by a seed. What is set apart is checked on the rows themselves."""

    name, has_meta = "instructions", True

    def __init__(self, config: Config) -> None:
        data, section = config.data, config.data.instructions
        assert section is not None
        self._data, self._section, self._seed = data, section, config.seed
        self._parts = split(read_prompts(section.source.source, columns=section.source.columns), section)
        self._questions = self._rows(self._parts.meta, section.meta.prompts, f"{config.seed}/meta", "meta")
        self._plain = without_demands(self._parts.meta, section.meta.own_prompts, str(config.seed))
        number = data.prompts_per_round * config.rounds.last_given
        self._rounds = self._rows(self._parts.prompts, number, f"{config.seed}/rounds", "round")
        sets = {"instructions": self._evaluated(self._parts.evaluation, section.evaluation.rows, "test")}
        check_apart([*self._questions, *self._rounds], sets["instructions"], section.apart)
        if section.evaluation.seen_rows:
            sets["instructions_seen"] = self._evaluated(self._parts.seen, section.evaluation.seen_rows, "seen")
            apart = [trait for trait in section.apart if trait == "base"]
            check_apart([*self._questions, *self._rounds], sets["instructions_seen"], apart)
        self.scorer: Scorer = Asked.asking(self._rounds)
        both = (Constraints(), Constraints(loose=True))
        self._evaluation = {name: EvaluationSet([_row(row) for row in rows], both) for name, rows in sets.items()}
        self._said: list[str] = []
        tell = self._said.append
        self._qa = given_qa(data, tell)
        files = read_sets(data, tell)
        check_overlap(
            {f"evaluation.{name}": of.rows for name, of in files.items()}
            | {f"open_ended.{name}": rows for name, rows in open_rows(data, tell).items()},
            {"instructions": [*self._questions, *self._plain, *self._rounds], "qa": self._qa},
        )
        self._evaluation |= files

    def _rows(self, part: Part, number: int, seed: str, tag: str) -> list[InstructionRow]:
        made = make_rows(part, self._section, seed, f"{tag}-")
        return list(itertools.islice(made, number))

    def _evaluated(self, part: Part, number: int, tag: str) -> list[InstructionRow]:
        return self._rows(part, number, f"{self._section.seed}/{tag}", tag)

    def notices(self) -> list[str]:
        return [*self._said, *set_notices(self._evaluation)]

    def files(self) -> dict[str, str]:
        found = {f"data.evaluation.{name}": of.source for name, of in self._data.evaluation.items()}
        if self._data.qa is not None:
            found["data.qa"] = self._data.qa.source
        return {f"{KEY}.source": self._section.source.source, **found}

    def _of_round(self, round: int) -> list[InstructionRow]:
        number = self._data.prompts_per_round
        return self._rounds[(round - 1) * number : round * number]

    def prompts(self, round: int) -> list[PromptRow]:
        return [PromptRow(row.id, row.prompt) for row in self._of_round(round)]

    def gold(self, round: int) -> dict[str, EvaluationRow]:
        return {row.id: _row(row) for row in self._of_round(round)}

    def evaluation(self) -> dict[str, EvaluationSet]:
        return self._evaluation

    def qa_rows(self) -> list[QARow]:
        return self._qa

    def questions(self) -> Questions:
        meta = self._section.meta
        rows = [PromptRow(row.id, row.prompt) for row in self._questions]
        return Questions([*rows, *self._plain], meta.responses, meta.response_temperature)

    def meta_rows(self, answers: Sequence[Answer]) -> BuiltMeta:
        prompts = {row.id: row.prompt for rows in (self._questions, self._plain) for row in rows}
        responses: dict[str, list[Answer]] = {}
        for answer in answers:
            responses.setdefault(prompts[answer.id], []).append(answer)
        built = build_meta(self._questions, responses, self._parts.meta, self._section, self._seed)
        own = own_answers(self._plain, responses, self._section.meta)
        return BuiltMeta(built.rows, {**built.counts, **({"answers without demands": len(own)} if own else {})}, own)

    @staticmethod
    def cut_for(config: Config) -> Cut | None:
        return None


def _row(row: InstructionRow) -> EvaluationRow:
    return EvaluationRow(row.id, row.prompt, row.columns)
