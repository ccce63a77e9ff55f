"""Plants one mistake in a worked solution and carries it through the steps that follow.

A value is followed by its number alone, so a plant is refused whenever a number could mean two things: a changed value
that the question states too, that another step has as its result, or that is a common unit factor (12, 60, ...).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, TypeVar, get_args

from selfevo_jax.tasks.solutions.worked import (
    NUMBER,
    Solution,
    Step,
    evaluate,
    format_like,
    format_number,
    numbers,
    parse_number,
    replace_numbers,
    stated_numbers,
)

Kind = Literal["wrong_result", "wrong_operation", "wrong_operand", "missing_step"]
_T = TypeVar("_T")
KINDS: tuple[Kind, ...] = get_args(Kind)

_COMMON = frozenset(map(Fraction, (1, 2, 7, 10, 12, 24, 30, 52, 60, 100, 365, 1000)))
"""Unit factors and counts so common that a later step may mean them by themselves."""
_LARGEST_RATIO = 20
_OTHER_OPERATORS = {"+": "-*", "-": "+*", "*": "+/", "/": "*-"}
_SIGN = re.compile(r"[-+*/÷×–−]|(?<![A-Za-z])[xX](?![A-Za-z])")
_MEANING = {"÷": "/", "×": "*", "x": "*", "X": "*", "–": "-", "−": "-"}
_ORDINAL = re.compile(r"(st|nd|rd|th)\b")


@dataclass(frozen=True)
class Mistake:
    """One planted mistake; steps count from 1."""

    kind: Kind
    step: int
    """The wrong step, or, for a missing step, its place in the right solution."""
    gold: Solution
    wrong: Solution
    """The solution with the mistake in it: every step but this one follows from those before."""
    right_part: str = ""
    """The operator or operand that belongs there; for a missing step, its result."""
    wrong_part: str = ""
    """The operator or operand found there; for a missing step, the number used in its place, or nothing at the end."""


class _Unfit(Exception):
    """This plant would be ambiguous, absurd or without effect."""


def plant(gold: Solution, question: str, kind: Kind, rng: random.Random) -> Mistake | None:
    """A mistake of this kind in a step drawn by `rng`; None when no step of the solution carries one sensibly."""
    planter = _Planter(gold, question)
    places = [i for i, step in enumerate(gold.steps) if step.expr is not None and len(numbers(step.expr)) > 1]
    rng.shuffle(places)
    for place in places:
        for propose in planter.proposals(kind, place, rng):
            try:
                return planter.carry(kind, place, propose)
            except (_Unfit, ValueError):
                continue
    return None


@dataclass(frozen=True)
class _Proposal:
    changed: Step | None
    """The wrong step before its `after` text is rewritten; None leaves the step out."""
    stand_in: Fraction | None = None
    """For a step left out, the number that later steps use in place of its result."""
    right_part: str = ""
    wrong_part: str = ""


class _Planter:
    def __init__(self, gold: Solution, question: str) -> None:
        self.gold, self.question = gold, question
        self.stated = stated_numbers(question)
        self.results = [step.value for step in gold.steps if step.expr is not None]

    def proposals(self, kind: Kind, place: int, rng: random.Random) -> Iterator[_Proposal]:
        step = self.gold.steps[place]
        assert step.expr is not None
        if kind == "wrong_result":
            for value in _slips(step.value, rng):
                yield _Proposal(_with_value(step, value))
        elif kind == "missing_step":
            # The line that then ends the solution must be the one whose value becomes the answer.
            if place == len(self.gold.steps) - 1 and place and self.gold.steps[place - 1].expr is not None:
                yield _Proposal(None)
            known = self.stated | {s.value for s in self.gold.steps[:place] if s.expr is not None}
            for operand in _shuffled(sorted(set(numbers(step.expr)) & known), rng):
                part = format_number(operand)
                yield _Proposal(None, operand, format_number(step.value), part)
        elif kind == "wrong_operation":
            for where, old, new in _shuffled(_operators(step), rng):
                text = step.before[: where[0].start] + new + step.before[where[0].stop :]
                expr = step.expr[: where[1].start] + new + step.expr[where[1].stop :]
                yield _proposal(step, text, expr, old, new)
        else:
            yield from self._operand_proposals(step, place, rng)

    def _operand_proposals(self, step: Step, place: int, rng: random.Random) -> Iterator[_Proposal]:
        assert step.expr is not None
        spans = _aligned(step)
        own = set(numbers(step.expr))
        others = set(numbers(self.question)) | {s.value for s in self.gold.steps[:place] if s.expr is not None}
        for text_span, expr_span in _shuffled(spans, rng):
            right = parse_number(step.expr[expr_span.start : expr_span.stop])
            near = {right + 1, right + 2, right - 1} if right.denominator == 1 else set()
            pools = [sorted(others - own), sorted(near - own - others)]
            for used in [value for pool in pools for value in _shuffled(pool, rng)]:
                if used <= 1 or not _sane(right, used, False):
                    continue
                shown = step.before[text_span.start : text_span.stop]
                text = step.before[: text_span.start] + format_like(shown, used) + step.before[text_span.stop :]
                expr = step.expr[: expr_span.start] + format_number(used) + step.expr[expr_span.stop :]
                yield _proposal(step, text, expr, format_number(right), format_number(used))

    def carry(self, kind: Kind, place: int, proposal: _Proposal) -> Mistake:
        """The whole solution with this change; raises `_Unfit`."""
        old = self.gold.steps[place]
        new: dict[Fraction, Fraction] = {}
        origin: dict[Fraction, int] = {}
        steps = list(self.gold.steps[:place])
        if proposal.changed is not None:
            step = proposal.changed
            if not _sane(old.value, step.value, _is_price(old)):
                raise _Unfit
            self._check_line(old, set(), place)
            new[old.value], origin[old.value] = step.value, place
            steps.append(replace(step, after=self._rewritten(old.after, new, origin)))
        elif proposal.stand_in is not None:
            # With no sum after it the answer is the one before: a closing sentence must not name another number.
            ends = all(step.expr is None for step in self.gold.steps[place + 1 :])
            before = [step.value for step in steps[-1:] if step.expr is not None]
            if proposal.stand_in == old.value or (ends and before != [proposal.stand_in]):
                raise _Unfit
            if not _sane(old.value, proposal.stand_in, _is_price(old)):
                raise _Unfit
            new[old.value], origin[old.value] = proposal.stand_in, place
        for at in range(place + 1, len(self.gold.steps)):
            steps.append(self._follow(at, new, origin))
        values = [step.value for step in steps if step.expr is not None]
        if not values or values[-1] == self.gold.answer or not _sane(self.gold.answer, values[-1], False):
            raise _Unfit
        wrong = Solution(tuple(steps), values[-1], format_like(self.gold.answer_text, values[-1]))
        return Mistake(kind, place + 1, self.gold, wrong, proposal.right_part, proposal.wrong_part)

    def _follow(self, at: int, new: dict[Fraction, Fraction], origin: dict[Fraction, int]) -> Step:
        step = self.gold.steps[at]
        touched = any(value in new for value in numbers(step.before) + numbers(step.after))
        if step.expr is None:
            if touched:
                self._no_unknown(step.before, new)
                if re.search(r"[=+*/×÷]", step.before):
                    raise _Unfit
            return replace(step, before=self._rewritten(step.before, new, origin))
        if not any(value in new for value in numbers(step.expr)):
            if touched or step.value in new:
                raise _Unfit
            return step
        self._check_line(step, set(new), at)
        expr = self._rewritten(step.expr, new, origin)
        before = self._rewritten(step.before, new, origin)
        value = evaluate(expr)
        if not _sane(step.value, value, _is_price(step)):
            raise _Unfit
        if value != step.value:
            new[step.value], origin[step.value] = value, at
        carried = _with_value(replace(step, before=before, expr=expr), value)
        return replace(carried, after=self._rewritten(step.after, new, origin))

    def _check_line(self, step: Step, changed: set[Fraction], at: int) -> None:
        """A line can change only when its visible text says what its mark says, once."""
        assert step.expr is not None
        if (step.before + step.after).count("=") > 1:
            raise _Unfit
        inside = numbers(step.expr)
        in_text = numbers(step.before)
        if "=" in step.before:
            if changed and in_text[-len(inside) :] != inside:
                raise _Unfit
        elif changed and not changed.isdisjoint(inside) and changed.isdisjoint(in_text) and _SIGN.search(step.before):
            raise _Unfit
        if step.value in in_text and step.value not in inside:
            raise _Unfit
        self._no_unknown(step.after, changed | {step.value})

    def _no_unknown(self, text: str, changed: set[Fraction] | dict[Fraction, Fraction]) -> None:
        if any(v not in self.stated and v not in self.results and v not in changed for v in numbers(text)):
            raise _Unfit

    def _rewritten(self, text: str, new: dict[Fraction, Fraction], origin: dict[Fraction, int]) -> str:
        for match in NUMBER.finditer(text):
            value, rest = parse_number(match[0]), text[match.end() :]
            if rest.startswith("%") and value / 100 in new:
                raise _Unfit
            if value in new and (_ORDINAL.match(rest) or self._ambiguous(value, origin[value])):
                raise _Unfit
        return replace_numbers(text, new.get)

    def _ambiguous(self, value: Fraction, at: int) -> bool:
        earlier = (number for step in self.gold.steps[: at + 1] for number in numbers(step.expr or ""))
        return value in _COMMON or value in self.stated or self.results.count(value) > 1 or value in set(earlier)


def _proposal(step: Step, before: str, expr: str, right: str, wrong: str) -> _Proposal:
    try:
        value = evaluate(expr)
    except ValueError:
        value = Fraction(-1)  # no sensible value: refused by `carry`
    return _Proposal(_with_value(replace(step, before=before, expr=expr), value), None, right, wrong)


def _with_value(step: Step, value: Fraction) -> Step:
    return replace(
        step, value=value, value_text=format_like(step.value_text, value), shown=format_like(step.shown, value)
    )


def _is_price(step: Step) -> bool:
    return step.before.rstrip().endswith("$")


def _sane(old: Fraction, new: Fraction, price: bool) -> bool:
    """Counts stay whole and above one, prices have two places, nothing grows or shrinks beyond belief."""
    if new <= 0 or (old > 1 and new <= 1) or new > old * _LARGEST_RATIO or new * _LARGEST_RATIO < old:
        return False
    return new.denominator == 1 or ((price or old.denominator > 1) and (new * 100).denominator == 1)


def _slips(value: Fraction, rng: random.Random) -> list[Fraction]:
    """Results that a slip gives: one off, a carry lost, two digits swapped."""
    digits = format_number(value).replace(".", "")
    if "/" in digits:
        return []
    unit = Fraction(value, int(digits)) if int(digits) else Fraction(1)
    count = int(digits)
    slips = {count - 1, count + 1, count + 2, count - 2}
    if count >= 12:
        slips |= {count - 10, count + 10, int(digits[:-2] + digits[-1] + digits[-2])}
    if count >= 200:
        slips = (slips - {count - 2, count + 2}) | {count - 100, count + 100}
    return _shuffled(sorted(Fraction(slip) * unit for slip in slips - {count}), rng)


def _aligned(step: Step) -> list[tuple[slice, slice]]:
    """Where each number of the mark stands in the visible text and in the mark; empty when the text hides it."""
    inside = list(NUMBER.finditer(step.expr or ""))
    in_text = list(NUMBER.finditer(step.before))[-len(inside) :]
    if [parse_number(m[0]) for m in in_text] != [parse_number(m[0]) for m in inside]:
        return []
    return [(slice(*a.span()), slice(*b.span())) for a, b in zip(in_text, inside, strict=True)]


def _operators(step: Step) -> list[tuple[tuple[slice, slice], str, str]]:
    """Each operator shown in text and mark alike, with what it is and what a mistake may make of it."""
    spans = _aligned(step)
    found = []
    for (text_a, expr_a), (text_b, expr_b) in itertools.pairwise(spans):
        old = (step.expr or "")[expr_a.stop : expr_b.start].strip()
        signs = list(_SIGN.finditer(step.before, text_a.stop, text_b.start))
        if old not in _OTHER_OPERATORS or len(signs) != 1 or _MEANING.get(signs[0][0], signs[0][0]) != old:
            continue
        sign = (step.expr or "").index(old, expr_a.stop)
        where = (slice(*signs[0].span()), slice(sign, sign + 1))
        found += [(where, old, new) for new in _OTHER_OPERATORS[old]]
    return found


def _shuffled(items: list[_T], rng: random.Random) -> list[_T]:
    return rng.sample(items, len(items))
