"""A whole round in seconds and chip-hours, from the programs' times and the config's counts. Rough on purpose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from selfevo_jax.config import Config
from selfevo_jax.plan.lengths import JUDGE_PROMPT, Lengths
from selfevo_jax.plan.programs import DECODE, EXTEND, TRAIN
from selfevo_jax.plan.roofline import Span

ASSUMED = (
    "every completion runs to its max_new_tokens, every chain takes all its turns, and all slots are busy until the "
    "last chains drain; reading data, checkpoints, compiling, resharding, evaluation, and judges that are servers or "
    "from outside are not counted"
)


class Shaped(Protocol):
    """A program's kind and shape (see selfevo_jax.plan.programs.Program)."""

    @property
    def kind(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def steps(self) -> int: ...


class Timed(Protocol):
    """A program whose time is known, compiled or measured; None: it is not."""

    @property
    def program(self) -> Shaped: ...
    @property
    def time(self) -> Span | None: ...
    @property
    def fits(self) -> bool: ...


@dataclass(frozen=True)
class Phases:
    """Seconds of the phases of one round, and of the meta-skill learning before the first."""

    sampling: Span
    """Extends and decode steps of all chains."""
    judging: Span
    """Questions of a batch judge to the model itself."""
    asked: int
    """Questions of a batch judge to a server, at most; they take no time of the chips."""
    learn: Span
    meta: Span
    writing: Span
    """Of a round for which the model writes prompts, before its chains."""
    chips: int
    rounds: int
    writes: int
    """Rounds for which it does."""
    evaluating: Span = Span(0.0, 0.0)
    """Of a checkpoint, where the rows of its evaluation are known."""

    @property
    def round(self) -> Span:
        return self.sampling + self.judging + self.learn + self.evaluating

    @property
    def run(self) -> Span:
        return self.meta + self.evaluating * 2 + self.round * self.rounds + self.writing * self.writes

    def chip_hours(self, span: Span) -> Span:
        return span * (self.chips / 3600)


def estimate_round(
    config: Config,
    lengths: Lengths,
    programs: Sequence[Timed],
    slots: int,
    chips: int,
    evaluated: Mapping[int, int] | None = None,
) -> Phases | None:
    """None where some program does not fit, or a length in epochs leaves the number of steps to the data.

    `evaluated`: of a checkpoint's evaluation, number of refinements -> chains with so many; 0: of the response alone.
    """
    if not all(p.fits and p.time is not None for p in programs):
        return None
    if config.meta.steps is None or config.learn.steps is None:
        return None
    by_kind: dict[str, list[Timed]] = {TRAIN: [], EXTEND: [], DECODE: []}
    for p in programs:
        by_kind[p.program.kind].append(p)
    if not (by_kind[TRAIN] and by_kind[EXTEND] and by_kind[DECODE]):
        return None
    extend, decode = by_kind[EXTEND][0], by_kind[DECODE][0]
    learn = by_kind[TRAIN][-1]
    meta = by_kind[TRAIN][0]
    chains = config.data.prompts_per_round * config.data.samples_per_prompt
    return Phases(
        sampling=_chains(chains, lengths, decode, extend, slots) + _planted(config, lengths, decode, extend, slots),
        judging=_judging(chains, config, lengths, decode, extend, slots),
        asked=_questions(chains, config, lengths) if config.judge.server is not None else 0,
        learn=_steps(config.learn.steps, learn),
        meta=_steps(config.meta.steps, meta),
        writing=_writing(config, lengths, decode, extend, slots),
        chips=chips,
        rounds=config.rounds.number,
        writes=sum(config.data.to_write(number) > 0 for number in range(1, config.rounds.number + 1)),
        evaluating=sum(
            (_chains(n, lengths.measured(turns), decode, extend, slots) for turns, n in (evaluated or {}).items()),
            Span.zero(),
        ),
    )


def _steps(count: int, step: Timed) -> Span:
    assert step.time is not None
    return step.time * count


def _writing(config: Config, lengths: Lengths, decode: Timed, extend: Timed, slots: int) -> Span:
    """Texts in which the model writes prompts, where each holds as many as are asked for, and all of them are kept."""
    section, wanted = config.data.self_written, config.data.to_write(config.rounds.number)
    if section is None or not wanted:
        return Span.zero()
    texts, drawn = math.ceil(wanted / section.asked), config.sampling.write.max_new_tokens
    shown = min(section.examples * lengths.prompt, config.sampling.cache_length - drawn)
    return _single(texts, shown, drawn, decode, extend, slots)


def _questions(chains: int, config: Config, lengths: Lengths) -> int:
    """Of a round's batch judge, about its chains and the planted controls."""
    batch = config.judge.batch
    if batch is None:
        return 0
    planted = batch.questions(2) if batch.compares else batch.questions(1)
    return chains * batch.questions(lengths.draws.respond + lengths.draws.refine) + config.rounds.controls * planted


def _judging(chains: int, config: Config, lengths: Lengths, decode: Timed, extend: Timed, slots: int) -> Span:
    """Both answers are shown, and a judgement is as long as feedback may be."""
    if config.judge.server is not None or not (questions := _questions(chains, config, lengths)):
        return Span.zero()
    other = lengths.refine if lengths.draws.refine else lengths.respond
    shown = JUDGE_PROMPT + lengths.prompt + lengths.respond + other
    room = max(1, config.sampling.cache_length - lengths.feedback)
    return _single(questions, min(shown, room), lengths.feedback, decode, extend, slots)


def _single(texts: int, shown: int, drawn: int, decode: Timed, extend: Timed, slots: int) -> Span:
    """Texts that are no chains: of `drawn` tokens, behind `shown` ones."""
    assert decode.time is not None
    assert extend.time is not None
    steps = decode.time * (math.ceil(texts / slots) * drawn / decode.program.steps)
    return steps + extend.time * (math.ceil(texts / _together(extend, slots)) * _pieces(shown, extend))


def _chains(chains: int, lengths: Lengths, decode: Timed, extend: Timed, slots: int) -> Span:
    """Steps that draw one token a slot, wave after wave of chains; extends in groups: of the compiled rows, or (where
    all rows go along) the eighth that ends together."""
    assert decode.time is not None
    assert extend.time is not None
    steps = math.ceil(chains / slots) * lengths.drawn_in_all
    calls = math.ceil(chains / _together(extend, slots)) * (
        _pieces(lengths.prompt, extend) + lengths.short_extends * _short(lengths, extend)
    )
    return decode.time * (steps / decode.program.steps) + extend.time * calls


def _short(lengths: Lengths, extend: Timed) -> float:
    """An instruction's extend as a part of a whole one."""
    return min(1.0, lengths.instruction / extend.program.length)


def _together(extend: Timed, slots: int) -> int:
    """Slots that begin in one extend."""
    rows = extend.program.rows
    return max(1, slots // 8) if rows == slots else rows


def _pieces(tokens: int, extend: Timed) -> int:
    """Extends of one text."""
    return max(1, math.ceil(tokens / extend.program.length))


def _planted(config: Config, lengths: Lengths, decode: Timed, extend: Timed, slots: int) -> Span:
    """Texts of feedback on planted answers; a batch judge is asked about them in their place."""
    assert decode.time is not None
    assert extend.time is not None
    count = config.rounds.controls if lengths.draws.feedback and config.judge.batch is None else 0
    steps = math.ceil(count / slots) * lengths.feedback * (1 + lengths.branches)
    calls = math.ceil(count / _together(extend, slots)) * (
        _pieces(lengths.prompt, extend) + _short(lengths, extend) * (1 + lengths.branches + lengths.weighed)
    )
    return decode.time * (steps / decode.program.steps) + extend.time * calls


def as_dict(phases: Phases | None) -> Mapping[str, object] | None:
    """Plain JSON values."""
    if phases is None:
        return None

    def both(span: Span) -> dict[str, list[float]]:
        hours = phases.chip_hours(span)
        return {"seconds": [span.low, span.high], "chip_hours": [hours.low, hours.high]}

    parts = {"sampling": phases.sampling, "learning": phases.learn, "round": phases.round, "meta": phases.meta}
    parts |= {"writing": phases.writing} if phases.writes else {}
    parts |= {"judging": phases.judging} if phases.judging.high else {}
    told = {"run": both(phases.run), "questions_to_a_server": phases.asked, "assumed": ASSUMED}
    return {name: both(span) for name, span in parts.items()} | told
