"""Where rows come from: the embedded counting stories, or files. Gold answers leave this room for evaluation alone."""

from __future__ import annotations

import functools

from selfevo_jax.config import Config, DataSection
from selfevo_jax.data import (
    KnownGold,
    MetaRow,
    PromptRow,
    QARow,
    build_meta_rows,
    read_gold,
    read_meta,
    read_prompts,
    read_qa,
    read_scored,
    stories,
)
from selfevo_jax.errors import DataError


class FilePools:
    """Rows from JSONL files and shipped slices. Everything is read, and so checked, at the start."""

    def __init__(self, data: DataSection, seed: int, rounds: int) -> None:
        assert data.prompts is not None
        self._data, self._rounds = data, rounds
        self._prompts = read_prompts(data.prompts)
        self._gold = read_gold(data.prompts)
        self._evaluation = {
            name: read_scored(source, limit=data.evaluation_rows) for name, source in data.evaluation.items()
        }
        if data.meta_skill is not None:
            self._meta = read_meta(data.meta_skill, limit=data.meta_rows)
        else:
            assert data.meta_from_solutions is not None
            self._meta = build_meta_rows(read_qa(data.meta_from_solutions), seed, limit=data.meta_rows)
        self._qa = [] if data.qa is None else read_qa(data.qa)
        check_overlap(self._evaluation, {"prompts": self._prompts, "meta_skill": self._meta, "qa": self._qa})

    def prompts(self, round: int) -> list[PromptRow]:
        """The round's part of the pile; where the pile is too small for fresh ones, it begins again."""
        wanted = min(self._data.prompts_per_round, len(self._prompts))
        start = (round - 1) * wanted
        return [self._prompts[(start + i) % len(self._prompts)] for i in range(wanted)]

    def gold(self, round: int) -> dict[str, str]:
        """Prompt id -> gold answer, where one is known: to measure with, after the round has chosen."""
        return self._gold.answers

    def notice(self) -> str | None:
        """What the user should know of the pile of prompts."""
        found = _of_gold(self._gold)
        wanted = self._data.prompts_per_round * self._rounds
        if wanted > len(self._prompts):
            found.append(
                f"{self._rounds} rounds of {self._data.prompts_per_round} prompts want {wanted}, but data.prompts has "
                f"{len(self._prompts)}: prompts come up again"
            )
        return "; ".join(found) or None

    def evaluation(self) -> dict[str, list[QARow]]:
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
        self._evaluation = [QARow(row.id, row.text, str(row.answer)) for row in rows]
        texts = [row.text for number in range(1, self._rounds + 1) for row in self._stories(number)]
        stories.check_disjoint(
            meta=[row.text for row in self.meta_questions], prompts=texts, evaluation=[row.text for row in rows]
        )
        self._texts = texts

    @functools.cached_property
    def coverage(self) -> float:
        """Share of the prompt split's skeletons that the rounds use."""
        return len({stories.read_skeleton(text) for text in self._texts}) / stories.space_size(self._changes, "prompts")

    def notice(self) -> str | None:
        return None

    def _stories(self, round: int) -> list[stories.Story]:
        found = stories.make_stories("prompts", self._per_round, changes=self._changes, seed=1000 * self._seed + round)
        # the same story may come up in two rounds; its id tells them apart
        return [stories.Story(f"r{round}-{row.id}", row.text, row.skeleton, row.answer) for row in found]

    def prompts(self, round: int) -> list[PromptRow]:
        return [PromptRow(row.id, row.text) for row in self._stories(round)]

    def gold(self, round: int) -> dict[str, str]:
        return {row.id: str(row.answer) for row in self._stories(round)}

    def evaluation(self) -> dict[str, list[QARow]]:
        return {"stories": self._evaluation}

    def qa_rows(self) -> list[QARow]:
        return []


def _of_gold(gold: KnownGold) -> list[str]:
    """What the user should know of the gold answers in the prompts' own file."""
    known, bad, found = len(gold.answers), gold.unscorable, []
    rows = known + gold.missing + len(bad)
    if bad:
        found.append(
            f"{len(bad)} of the {rows} rows of data.prompts have a gold answer that cannot be scored; it counts as not "
            f"known (the first: {bad[0]})"
        )
    if gold.missing and (known or bad):
        found.append(f"{gold.missing} of the {rows} rows of data.prompts have no gold answer; it counts as not known")
    return found


def check_overlap(evaluation: dict[str, list[QARow]], used: dict[str, list]) -> None:
    """Raises DataError with the count when an evaluation prompt is also a prompt of the loop or of its data."""
    for name, rows in evaluation.items():
        held_out = {" ".join(row.prompt.split()) for row in rows}
        for kind, others in used.items():
            shared = {" ".join(row.prompt.split()) for row in others} & held_out
            if shared:
                raise DataError(
                    f"data.evaluation.{name}",
                    None,
                    "prompt",
                    f"{len(shared)} of its {len(held_out)} prompts are also in data.{kind} (such as "
                    f"{min(shared)[:80]!r}); remove them from one of the two",
                )


def open_pools(config: Config) -> FilePools | StoryPools:
    """Reads and checks every row of the config. Raises DataError naming file, line and field of a bad one."""
    return (
        StoryPools(config)
        if config.data.stories is not None
        else FilePools(config.data, config.seed, config.rounds.number)
    )
