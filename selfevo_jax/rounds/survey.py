"""Which texts a whole run puts through the sampler, whatever phase a process begins with: they choose its shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from selfevo_jax.judges import Case
from selfevo_jax.rounds.measure import UNJUDGED, VOTING
from selfevo_jax.rounds.open_sets import OpenSet
from selfevo_jax.rounds.prompts import Writing, expected, first_asks, writing_rounds
from selfevo_jax.rounds.winrate import judge_requests, judged_lengths
from selfevo_jax.rounds.workbench import Prompt, Workbench
from selfevo_jax.sample import SHARE_FROM, common_prefix
from selfevo_jax.tasks import Task

SURVEYED = 512
"""Chains looked at, about, spread evenly over all that a run samples."""
_QUESTIONS = 2
"""About a chain, of a batch judge that asks the model."""
_ROUNDS = 4
"""Rounds whose prompts are looked at, at most: the others are like them."""


@dataclass(frozen=True)
class Phase:
    """Chains of one kind."""

    rows: Sequence[Prompt]
    samples: int = 1
    """Chains of each row."""
    judge: bool = True
    turns: int | None = None
    """None: those of the rounds."""
    times: float = 1.0
    """How often a run samples them."""
    planted: bool = False
    """Whether they begin with an answer that is given, to be judged (controls)."""

    @property
    def chains(self) -> int:
        return len(self.rows) * self.samples

    def extends(self, bench: Workbench, picks: int) -> Iterator[int]:
        """Token counts of the extends of so many of the chains, spread evenly."""
        stages, before = bench.stages(), list[int]()
        for pick in range(picks if self.rows else 0):
            at = pick * self.chains // picks
            row, sample = self.rows[at // self.samples], at % self.samples
            start = bench.format.respond(row.prompt)
            if self.planted:
                yield len(bench.format.judge(start)) + stages.respond.max_new_tokens * (1 + pick % 4) // 4
                continue
            # a slot still holds what begins like the text before, and may copy another sample's prompt
            copied = sample > 0 and len(start) > SHARE_FROM
            held = len(start) - 1 if copied else min(common_prefix(before, start), len(start) - 1)
            chain = bench.chain(row, stages, round=0, judge=self.judge, turns=self.turns)
            yield from chain.extends(held)
            before = start


@dataclass(frozen=True)
class Alone:
    """Texts that nothing goes on from, with the token counts of their extends."""

    lengths: Sequence[int]
    times: float = 1.0

    @property
    def chains(self) -> int:
        return len(self.lengths)

    def extends(self, bench: Workbench, picks: int) -> Iterator[int]:
        yield from (self.lengths[pick * self.chains // picks] for pick in range(picks if self.lengths else 0))


def open_phases(bench: Workbench, sets: Iterable[OpenSet]) -> list[Alone]:
    """What a run samples about open-ended prompts with its own sampler."""
    found, times = list[Alone](), 2.0 + bench.config.rounds.number
    for of in sets:
        found.append(Alone([len(bench.format.respond(row.prompt)) for row in of.rows], times))
        if of.section.judging_model is not None or of.section.endpoint is not None:
            continue
        judged = judged_lengths(bench, of.rows, of.section.ratings)
        # the beginning of each is held or copied; a pair is shown twice, in both orders, an answer once
        shown = [j.least - j.common + j.answers * (1 + n % 4) // 4 for n, j in enumerate(judged)]
        found.append(Alone(shown, 1.5 * times))
    return found


def evaluation_phases(
    bench: Workbench, rows: Sequence[Prompt], times: float, judge: bool = True, votes: bool = True
) -> list[Phase]:
    """What `measure` samples of an evaluation set, so many times; `votes`: whether its answers can vote."""
    settings, turns = bench.config.evaluate, max(1, bench.config.rounds.turns)
    modes = [mode for mode in settings.modes if judge or mode in UNJUDGED]
    greedy = Phase(rows, judge="refined" in modes, turns=turns, times=times)
    voting = Phase(rows, settings.k, judge="both" in modes, turns=turns, times=times)
    return [greedy, voting] if votes and set(VOTING) & set(modes) else [greedy]


def run_phases(bench: Workbench, task: Task) -> list[Phase | Alone]:
    """All that a run samples: evaluations, responses for D_meta, rounds, controls; by its config and rows alone."""
    config, found = bench.config, list[Phase | Alone]()
    number, judges = config.rounds.number, bench.method.judges
    asks = bench.method.draws.feedback > 0
    for of in task.evaluation().values():
        found += evaluation_phases(bench, of.rows, 1, judge=False, votes=of.votes)
        found += evaluation_phases(bench, of.rows, 1 + number, votes=of.votes)
    if (questions := task.questions()) is not None:
        found.append(Phase(questions.rows, questions.samples, judge=False))
    shown = sorted({1 + i * number // min(number, _ROUNDS) for i in range(min(number, _ROUNDS))})
    section, writing = config.data.self_written, writing_rounds(config)
    if section is not None and writing:
        format = Writing.of(bench, section).format
        found.append(Alone([len(format.respond(ask.text)) for ask in first_asks(config, task, section)], len(writing)))
    for round in shown:
        prompts, times = expected(config, task, round), number / len(shown)
        found.append(Phase(prompts, config.data.samples_per_prompt, judge=asks, times=times))
        if judges and config.rounds.controls:
            found.append(Phase(prompts[: config.rounds.controls], times=times, planted=True))
        if judges and (lengths := _judged(bench, prompts)):
            chains = len(prompts) * config.data.samples_per_prompt
            found.append(Alone(lengths, times * chains * _QUESTIONS / len(lengths)))
    return found


def _judged(bench: Workbench, rows: Sequence[Prompt]) -> list[int]:
    """Of what a batch judge asks the model itself about each prompt: answers of any length, and what a question has in
    common with the one before is held."""
    judge = bench.batch
    if judge is None or judge.prompt is None or judge.server is not None:
        return []
    params, most = bench.stages().feedback, bench.config.sampling.respond.max_new_tokens
    found, before = list[int](), tuple[int, ...]()
    for n, row in enumerate(rows[:: 1 + len(rows) * _QUESTIONS // SURVEYED]):
        shown = judge.shown(Case(row.id, row.prompt, ("a", "b")))
        for request in judge_requests(bench, judge.prompt, shown, params, judge.brief, 0, "").values():
            held = min(common_prefix(before, request.tokens), len(request.tokens) - 1)
            found.append(len(request.tokens) - held + 2 * most * (1 + n % 4) // 4)
            before = request.tokens
    return found


def survey(bench: Workbench, phases: Sequence[Phase | Alone]) -> list[int]:
    """Token counts of the extends to expect, as a histogram over chains that are spread evenly over the phases.

    Equal on all hosts and in every process of a run: it depends on no text that was sampled.
    """
    lengths: list[int] = []
    total = sum(phase.times * phase.chains for phase in phases)
    for phase in phases:
        share = phase.times * phase.chains / total if total else 0.0
        lengths += phase.extends(bench, max(1, round(SURVEYED * share)))
    return [length for length in lengths if 0 < length <= bench.engine.cache_length]


def fit_lengths(bench: Workbench, phases: Sequence[Phase | Alone]) -> None:
    """Chooses the lengths that the sampler is compiled for by what these phases put through it: few for few chains,
    whose padding costs less than another program."""
    chains = sum(phase.times * phase.chains for phase in phases)
    bench.engine.fit(survey(bench, phases), chains / SURVEYED if chains else None)
