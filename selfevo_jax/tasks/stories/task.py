"""The embedded task: counting stories, made by a generator with a seed."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from selfevo_jax.config import Config
from selfevo_jax.data import EvaluationRow, MetaRow, PromptRow, QARow
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.scorers import Scorer
from selfevo_jax.scorers.number import Number
from selfevo_jax.tasks.base import Answer, BuiltMeta, Cut, Questions
from selfevo_jax.tasks.stories import generate as stories
from selfevo_jax.text import cut_run_on


class Stories:
    """Counting stories from the generator; skeletons of the splits are disjoint, which is checked here."""

    name, has_meta = "stories", True

    def __init__(self, config: Config) -> None:
        settings = config.data.stories
        assert settings is not None
        self._settings = settings
        self._changes, self._seed = settings.changes, config.seed
        self._per_round, self._rounds = config.data.prompts_per_round, config.rounds.number
        split = settings.evaluation_split
        self._questions = stories.make_stories("meta", settings.meta_questions, changes=self._changes, seed=self._seed)
        # evaluation stories do not depend on the run's seed, so that seeds are compared on the same rows
        rows = stories.make_stories(split, settings.evaluation_rows, changes=self._changes)
        self.scorer: Scorer = Number()
        self._evaluation = EvaluationSet([_with_answer(row) for row in rows], (self.scorer,))
        texts = [row.text for number in range(1, self._rounds + 1) for row in self._stories(number)]
        stories.check_disjoint(
            meta=[row.text for row in self._questions], prompts=texts, evaluation=[row.text for row in rows]
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

    def files(self) -> dict[str, str]:
        return {}

    def questions(self) -> Questions:
        rows = [PromptRow(story.id, story.text) for story in self._questions]
        return Questions(rows, self._settings.responses_per_question)

    def meta_rows(self, answers: Sequence[Answer]) -> BuiltMeta:
        """The base's own responses with feedback by the generator's annotator, and enough right ones, or the critic
        learns to say `incorrect` to everything."""
        by_id = {story.id: story for story in self._questions}
        rows = []
        for answer in answers:
            story, response = by_id[answer.id], answer.text.strip()
            found = stories.feedback_text(story, response)
            if found is not None:
                right = stories.answer_text(story.answer)
                rows.append(MetaRow(f"{story.id}-{answer.sample}", story.text, response, found[0], right, found[1]))
        read = len(rows)
        for story in self._questions:
            right = stories.answer_text(story.answer)
            found = stories.feedback_text(story, right)
            assert found is not None
            rows += [
                MetaRow(f"{story.id}-right{copy}", story.text, right, found[0], right, True)
                for copy in range(self._settings.right_copies)
            ]
        return BuiltMeta(rows, {"answers read": read, "answers not read": len(answers) - read})

    @staticmethod
    def cut_for(config: Config) -> Cut | None:
        return cut_run_on


def _with_answer(story: stories.Story) -> EvaluationRow:
    return EvaluationRow(story.id, story.text, {"answer": str(story.answer)})
