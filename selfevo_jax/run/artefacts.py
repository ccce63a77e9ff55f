"""What a run makes, phase by phase, and which keys of its config each of these artefacts rests on.

One table serves `selfevo fork` (which keys are free from a point on) and `selfevo study` (which phases two runs share).
A key that the table does not name is one that everything rests on, until somebody has said what does not.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfevo_jax import plugins
from selfevo_jax.config import Config, RoundsSection
from selfevo_jax.config.forms import fields, section_at
from selfevo_jax.run.identity import flat, is_safe_to_change
from selfevo_jax.run.names import COMMITTED, EVALUATIONS, META, OPEN, REFERENCES, REMOVED, name_of
from selfevo_jax.run.names import ORDINARY as FOLDER

ANSWERS, META_DATA, META_SKILL = "answers", "D_meta", "M_meta"
"""What is computed before the rounds: the base's own answers that D_meta is written about, D_meta, M_meta."""
EVALUATION, OPEN_ENDED, ORDINARY = "evaluation", "open-ended evaluation", "ordinary answers"
ROLLOUTS, JUDGED, CONTROLS, ROUND = "rollouts", "judged", "controls", "round"
"""What is measured, with gold answers, by a judge, and by held-out answers of people; and what a round makes: rollouts,
what a batch judge says of them, planted controls, the rest (D_self, M_t, its record)."""
PROMPTS = "prompts"
"""What the model writes for a round before its rollouts."""
_MEASURED = frozenset((EVALUATION, OPEN_ENDED, ORDINARY))
_ALL = _MEASURED | {ANSWERS, META_DATA, META_SKILL, ROLLOUTS, JUDGED, CONTROLS, ROUND, PROMPTS}
_SAMPLED = frozenset((ANSWERS, EVALUATION, OPEN_ENDED, ROLLOUTS, JUDGED, CONTROLS))


@dataclass(frozen=True)
class _Read:
    by: frozenset[str]
    """What reads the key itself."""
    why: str = "the kept files"
    """What came from it, for who wants to change it."""


def _read(*by: str, why: str = "the kept files") -> _Read:
    return _Read(frozenset(by), why)


_READ: dict[str, _Read] = {
    "rounds.controls_warn_above": _read(),
    "seed": _Read(_ALL - _MEASURED, "the draws and the order of the rows"),
    "model": _Read(_ALL, "the base model"),
    "tokenizer": _Read(_ALL, "the base model"),  # a fingerprint
    "format": _Read(_ALL - {META_DATA}, "the prompts that M_meta was trained on"),
    "judge": _Read(_SAMPLED - {ANSWERS, OPEN_ENDED}, "the verdicts of the kept rounds"),
    "judge.top_share": _read(CONTROLS, ROUND, why="what was kept of the rounds"),
    "judge.batch": _read(JUDGED, CONTROLS),
    "data.prompts": _read(ROLLOUTS),
    "data.prompts_per_round": _read(ROLLOUTS),
    "data.samples_per_prompt": _read(ROLLOUTS),
    "data.self_written": _read(PROMPTS),
    "data.meta_skill": _read(META_DATA, why="D_meta"),
    "data.meta_rows": _read(META_DATA, why="D_meta"),
    "data.meta_feedback": _read(META_DATA, why="D_meta"),
    "data.qa": _read(META_SKILL, ROUND, why="D_QA"),
    "data.evaluation": _read(EVALUATION),
    "data.open_ended": _read(OPEN_ENDED),
    "data.ordinary": _read(ORDINARY),
    "data.evaluation_rows": _read(EVALUATION, OPEN_ENDED, ORDINARY),
    "sampling": _Read(_SAMPLED),
    # evaluation is greedy, or has a temperature of its own, as the answers for D_meta have
    "sampling.respond": _Read(_SAMPLED - {JUDGED, CONTROLS}),
    "sampling.respond.temperature": _read(ROLLOUTS),
    "sampling.feedback": _Read(_SAMPLED - {ANSWERS}),
    "sampling.feedback.temperature": _read(ROLLOUTS, JUDGED, CONTROLS),
    "sampling.refine": _read(EVALUATION, ROLLOUTS),
    "sampling.refine.temperature": _read(ROLLOUTS),
    "sampling.write": _read(PROMPTS),
    "meta": _read(META_SKILL, why="the training of M_meta"),
    "learn": _read(ROUND),
    "method": _read(ROLLOUTS, CONTROLS, ROUND),
    "rounds": _read(ROLLOUTS, CONTROLS, ROUND),
    **dict.fromkeys(("rounds.turns", "rounds.prompts", "rounds.order", "rounds.order_rounds"), _read(ROLLOUTS)),
    "rounds.controls": _read(CONTROLS),
    **dict.fromkeys(("rounds.variant", "rounds.pool", "rounds.select"), _read(ROUND)),
    **dict.fromkeys(("rounds.per_prompt", "rounds.minimum_kept", "rounds.pass_rate", "rounds.decay"), _read(ROUND)),
    **dict.fromkeys((f"rounds.{key}" for key in RoundsSection.of_policy), _read(ROUND)),
    "evaluate": _read(EVALUATION),
    # what phases read of several keys together: see `inputs`
    "whether rounds judge": _read(ROLLOUTS, JUDGED, CONTROLS),
    "whether chains refine what is good": _read(ROLLOUTS),
    "what a method from outside may read": _read(ROLLOUTS, CONTROLS),
    "what feedback ends in": _Read(_SAMPLED),  # a task cuts answers by it
    "the judge's default text": _Read(
        _ALL - {META_DATA, OPEN_ENDED, ORDINARY}, "the prompts that M_meta was trained on"
    ),
    "the scorer of the prompts": _Read((_SAMPLED - {OPEN_ENDED}) | {ROUND}),
    "turns of evaluation": _read(EVALUATION),
    "seed of evaluation": _read(EVALUATION),
}
"""Keys of a config (and, by the same names, fingerprints); the longest that a key lies below counts, and nothing is
read of those that are safe to change. What reads the settings of a task is said where they are declared
(`Section.read_by`)."""


def _declared() -> Iterator[tuple[str, _Read]]:
    for name, _ in fields():
        *path, last = name.split(".")
        section = section_at(tuple(path))
        if section is not None and last in section.read_by:
            by = section.read_by[last]
            yield name, _read(*by, why=META_DATA if META_DATA in by else "the kept files")


_READ |= dict(_declared())


def below(key: str, names: Iterable[str]) -> bool:
    """Whether a key is one of these, or lies below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


SETS, ORDINARY_SET = ("data.evaluation", "data.open_ended"), "data.ordinary"
"""The sections of what is measured: two whose entries the user names, and one set by itself."""


def entry_of(key: str, folders: Iterable[str], names: Iterable[str]) -> str | None:
    """Which of these entries of folders a key is of; None for none. Names may hold dots: of two that fit it is the
    longer one."""
    return max((name for name in names if below(key, [f"{of}.{name}" for of in folders])), key=len, default=None)


def _found(key: str) -> _Read:
    if is_safe_to_change(key):
        return _read()
    while key:
        if key in _READ:
            return _READ[key]
        key = key.rpartition(".")[0]
    return _Read(_ALL)


def is_read_by(key: str, kinds: Collection[str]) -> bool:
    """Whether one of these kinds of artefacts reads a key, or a file of that key's fingerprint, itself."""
    return not _found(key).by.isdisjoint(kinds)


def came_from(key: str) -> str:
    """What came from a key, in words."""
    return _found(key).why


def _scorer_of_prompts(config: Config) -> dict[str, Any]:
    """What cuts and spoils answers, and measures the data of rounds: the primary scorer of the first set."""
    first = config.data.primary
    return {"scorer": first.scorers[0].model_dump(mode="json"), "columns": first.columns}


@functools.cache
def _offered() -> list[str]:
    """Methods of installed packages."""
    return plugins.known("selfevo_jax.methods")


def _of_outside(config: Config) -> dict[str, Any] | None:
    """The settings of rounds and of their fine-tuning, where chains may be made by them in a way that is not known."""
    name = config.method.name
    if ":" not in name and name not in _offered():
        return None
    read = {"rounds": config.rounds.model_dump(mode="json"), "learn": config.learn.model_dump(mode="json")}
    return {key: value for key, value in flat(read) if _found(key).by}


def inputs(config: Config) -> dict[str, Any]:
    """Every dotted key with its value, and what phases read of several keys together."""
    voting = {"consistency", "both"} & set(config.evaluate.modes)
    own_text = config.format.kind == "chat" and config.format.judge is None
    return dict(flat(config.model_dump(mode="json"))) | {
        "whether rounds judge": config.rounds.judges,
        "whether chains refine what is good": batch.kind if (batch := config.judge.batch) and batch.compares else None,
        "what a method from outside may read": _of_outside(config),
        "what feedback ends in": config.judge.reads,
        "the judge's default text": config.judge.reads if own_text else None,
        "the scorer of the prompts": _scorer_of_prompts(config),
        "turns of evaluation": max(1, config.rounds.turns),
        "seed of evaluation": config.seed if voting else None,
    }


@dataclass(frozen=True)
class Artefact:
    """Files of a run that a phase finishes together."""

    name: str
    """For people."""
    kinds: frozenset[str]
    """It and all that it is made from."""
    mark: str
    """The file that is there when it is finished."""
    files: tuple[str, ...]
    """Names of its files and folders."""
    others: tuple[str, ...] = ()
    """Below these: files of other artefacts."""
    checkpoint: str | None = None

    def of(self, names: Collection[str]) -> list[str]:
        """Its files among the finished ones of a run; none where it is not finished, or its arrays are removed."""
        if self.mark not in names or (self.checkpoint and f"{self.checkpoint}/{REMOVED}" in names):
            return []
        return [name for name in names if _within(name, self.files) and not _within(name, self.others)]

    def rests_on(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Of the `inputs` of a config those that it rests on: equal ones make equal artefacts."""
        return {key: value for key, value in given.items() if is_read_by(key, self.kinds)}


def _within(name: str, folders: Iterable[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def artefacts(config: Config) -> Iterator[Artefact]:
    """All that the run of a config makes, in its order."""
    yield from _measured("base", frozenset(), config)
    data = frozenset((META_DATA,) if config.data.meta_from_file else (ANSWERS, META_DATA))
    mark = f"meta/{COMMITTED}"
    read = f"meta/{REFERENCES}"
    yield Artefact("D_meta", data, "meta/meta_skill.jsonl", ("meta",), (mark, read))
    made = data | {META_SKILL}
    yield Artefact("M_meta", made, mark, (mark, read, f"checkpoints/{META}"), checkpoint=f"checkpoints/{META}")
    yield from _measured(META, made, config)
    for number in range(1, config.rounds.number + 1):
        name = name_of(number)
        folder, checkpoint = f"rounds/{name}", f"checkpoints/{name}"
        own, sampled, planted = f"{folder}/prompts", f"{folder}/rollouts", f"{folder}/controls.json"
        said, asked = f"{folder}/judged", f"{folder}/controls"
        if config.data.to_write(number):
            # they begin with given prompts, and are held against the rows of evaluations
            made |= {PROMPTS, ROLLOUTS, *_MEASURED}
            yield Artefact(f"prompts of round {number}", made, f"{own}/manifest.json", (own,))
        made |= {ROLLOUTS}
        yield Artefact(f"rollouts of round {number}", made, f"{sampled}/manifest.json", (sampled,))
        made |= {JUDGED}
        if config.judge.batch is not None:
            yield Artefact(f"judged rows of round {number}", made, f"{said}/manifest.json", (said,))
        made |= {CONTROLS}
        yield Artefact(f"controls of round {number}", made, planted, (planted, asked))
        made |= {ROUND}
        mark, files = f"{folder}/{COMMITTED}", (folder, checkpoint)
        yield Artefact(f"M_{number}", made, mark, files, (own, sampled, said, planted, asked), checkpoint)
        yield from _measured(name, made, config)


def _measured(name: str, made: frozenset[str], config: Config) -> Iterator[Artefact]:
    shown = {"base": "base", META: "M_meta"}.get(name, f"M_{int(name)}" if name.isdecimal() else name)
    told = [("evaluation", EVALUATION, EVALUATIONS)]
    if config.data.open_ended:
        told.append(("open-ended evaluation", OPEN_ENDED, OPEN))
    if config.data.ordinary is not None:
        told.append(("ordinary answers", ORDINARY, FOLDER))
    for what, kind, folder in told:
        figures, texts = f"{folder}/{name}.json", f"{folder}/{name}"
        yield Artefact(f"{what} of {shown}", made | {kind}, figures, (figures, texts))
