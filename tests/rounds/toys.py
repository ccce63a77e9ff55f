"""Parts from outside the package, each as small as can be: a task, judges, a scorer, a chain, a method, an aim."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax.numpy as jnp

from selfevo_jax.chains import Candidate, Generated, Rollout, judging
from selfevo_jax.data import EvaluationRow, MetaRow, PromptRow
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.judges import Assessment, ChainJudge
from selfevo_jax.methods import BASE, Draws, Learning
from selfevo_jax.methods.lessons import self_pool
from selfevo_jax.methods.selection import select
from selfevo_jax.sample import DrawKey, Request
from selfevo_jax.scorers import Grade
from selfevo_jax.tasks import BuiltMeta


class Letters:
    """Scorer: a text is as right as its share of a letter that the row names."""

    name = "letters"

    def faults(self, rows):
        return [None for _ in rows]

    def grades(self, rows, texts):
        return [
            Grade(text.count(row.columns["letter"]) / max(1, len(text))) for row, text in zip(rows, texts, strict=True)
        ]

    def keys(self, rows, texts):
        return [text[:1] or None for text in texts]

    def spoil(self, row, text, rng):
        return text + "!"


class Diary:
    """Tracker: a line of its file for each event."""

    def __init__(self, fails_at=None):
        self._fails_at = fails_at

    def start(self, about):
        about.dir.mkdir(parents=True, exist_ok=True)
        self._file = about.dir / "diary"
        self._there = len(self._file.read_text().splitlines()) if self._file.exists() else 0
        return self._there

    def write(self, events):
        for event in events:
            if self._there == self._fails_at:
                raise OSError("no room for more")
            with self._file.open("a") as out:
                out.write(json.dumps([type(event).__name__, vars(event)]) + "\n")
            self._there += 1

    settings = scalars = texts = write

    def finish(self):
        pass


class Shouting:
    """Task: say something with a letter in it."""

    name, has_meta, scorer = "shouting", True, Letters()

    def __init__(self, config):
        self._count = config.data.settings["prompts"]

    def prompts(self, round):
        return [PromptRow(f"{round}-{i}", f"Say {i} things.") for i in range(self._count)]

    def gold(self, round):
        return {row.id: EvaluationRow(row.id, row.prompt, {"letter": "1"}) for row in self.prompts(round)}

    def evaluation(self):
        return {"held": EvaluationSet([EvaluationRow("h", "Say something.", {"letter": "1"})], (self.scorer,))}

    def meta_rows(self, answers):
        return BuiltMeta([MetaRow(f"m{i}", f"Say {i}.", "1", "loud", "1", True) for i in range(8)], {"made up": 8})

    def notices(self):
        return ["shouting is loud"]

    def files(self):
        return {}

    def qa_rows(self):
        return []

    def questions(self):
        return None

    @staticmethod
    def cut_for(config):
        return None


@dataclass(frozen=True)
class Loudness(ChainJudge):
    """Judge: whatever the model says of an answer, it is good, unless it says a word."""

    word: str
    name: str = "loudness"
    instruction: str = "Is it loud?"

    def read(self, feedback):
        return SimpleNamespace(good=self.word not in feedback, rating=None, end=None)

    def bare(self, feedback, good):
        return feedback


def loudest(bench, row, stages, round, sample):
    """Chain: three answers side by side; the longest is judged, and chosen whatever is said of it."""
    start = bench.format.respond(row.prompt)
    keys = [DrawKey(round, f"answer-{n}", row.id, sample) for n in range(3)]
    drawn = yield [Request(tuple(start), stages.respond, key) for key in keys]
    answers = [Candidate(own.text, own.finish, own.tokens, end=own.end, logprobs=own.scores) for own in drawn]
    best = max(range(3), key=lambda n: len(answers[n].text))
    key = DrawKey(round, "feedback", row.id, sample)
    answered = [*start, *answers[best].tokens]
    judged = yield from judging(bench.judge, answered, bench.format, stages.feedback, bench.tokenizer.decode, key)
    answers[best] = replace(answers[best], feedback=judged.feedback)
    return Rollout(row.id, sample, row.prompt, tuple(answers), best, judged.error)


@dataclass(frozen=True)
class Brief:
    """Judge of finished chains: an answer is good that is short enough. It asks nobody."""

    most: int
    name: str = "brief"
    reads_labels: bool = False
    compares: bool = False
    brief: bool = False
    server: None = None
    prompt: None = None

    def shown(self, case):
        return {}

    def assessed(self, case, replies):
        return [Assessment(None if text is None else len(text) <= self.most) for text in case.texts]


@dataclass(frozen=True)
class Twice:
    """Method: the loudest answers are learnt from the base on, whatever their feedback."""

    config: object
    factor: int
    name: str = "twice"
    reads_labels: bool = True
    judges: bool = True
    draws: Draws = Draws(respond=3, feedback=1)
    filters: bool = False
    keeps_base: bool = True

    def chain(self, bench, row, stages, *, round, sample):
        return Generated(f"{row.id}/{sample}", loudest(bench, row, stages, round, sample))

    def select(self, rollouts, round):
        return select(rollouts, "none", 0)

    def learning(self, made, round):
        kept = self.select(made.rollouts(round), round).kept
        pool = [replace(e, extras={"long": float(len(e) > 20)}) for e in self_pool(kept, made.format)]
        return Learning(BASE, {"self": pool * self.factor}, ("learnt twice",), Margin(0.5))


@dataclass(frozen=True)
class Margin:
    """Objective: each sequence is to be likelier than a margin, long ones less so."""

    margin: float
    name: str = "margin"
    reads: tuple[str, ...] = ("long",)
    linear: bool = False

    def loss(self, logps, targets):
        found = targets.sequences(logps)
        short_of = jnp.log(self.margin) * (1 + found.extras["long"]) - found.logps
        return (found.there * jnp.logaddexp(0.0, short_of)).sum(), found.there.sum()
