"""Feedback in words on a worked solution: walk through the steps, name the wrong one, work it out, compare, verdict.

Right and wrong solutions get the same walk up to the mistake and the same kind of comparison at the end, so that the
verdict follows from what was worked out and not from the way the feedback begins.
"""

from __future__ import annotations

import random
import re

from selfevo_jax.tasks.solutions.mistakes import Mistake
from selfevo_jax.tasks.solutions.worked import Solution, Step, format_number

VERDICT_RIGHT = "Verdict: correct"
VERDICT_WRONG = "Verdict: incorrect"

_OPENERS = ("", "", "Let me check each step. ", "Going through the solution. ", "Checking the work. ")
_FINE = (
    "Step {n}: {sum}, right.",
    "Step {n} is fine: {sum}.",
    "Step {n} holds, since {sum}.",
    "In step {n}, {sum}, as written.",
)
_BAD_RESULT = (
    "Step {n} says {wrong_sum}. Worked out, {sum}. {wrong} is not {right}, so the result of step {n} is wrong.",
    "The result of step {n} is wrong: it has {wrong_sum}. But {sum}, and {wrong} is not {right}.",
    "Step {n} slips in its arithmetic. It gives {wrong_sum}, while {sum}; {right} and {wrong} differ.",
)
_BAD_OPERATION = (
    "Step {n} uses {used} where {needed} is needed: it has {wrong_sum}. Done right, {sum}. {wrong} is not {right}.",
    "The operation in step {n} is wrong. {wrong_sum} is {used}, but the question calls for {needed}: {sum}. "
    "So {right} belongs there, and {wrong} is not {right}.",
    "Step {n} goes wrong: {used} in place of {needed}. It should be {sum}; the solution has {wrong_sum}, "
    "and {right} and {wrong} differ.",
)
_BAD_OPERAND = (
    "Step {n} uses {used} where {needed} belongs{origin}. It has {wrong_sum}; with {needed} it is {sum}. "
    "{wrong} is not {right}.",
    "The number {used} in step {n} is wrong{origin}, so {needed} has to be used: {sum}. The solution has {wrong_sum}, "
    "and {wrong} is not {right}.",
    "Step {n} takes the wrong number: {used} in place of {needed}{origin}. Worked out with {needed}, {sum}, "
    "while the solution has {wrong_sum}; {right} and {wrong} differ.",
)
_MISSING = (
    "A step is missing {place}: {sum} is never worked out, and {used} is used where {right} belongs. "
    "{used} is not {right}.",
    "The solution leaves out a step {place}. It should work out {sum}; it goes on with {used}, which is not {right}.",
    "{Place} a step is left out, namely {sum}. The solution takes {used} in its place, but {right} and {used} differ.",
)
_MISSING_END = (
    "The last step is missing: after step {before} the solution stops, but it still has to work out {sum}. "
    "It stops at {wrong}, which is not {right}.",
    "The solution stops too early, after step {before}: it leaves out {sum}, and {wrong} is not yet {right}.",
)
_THEN = ("Then {sum}, not {wrong}.", "From there {sum}, where the solution has {wrong}.", "So next {sum}, not {wrong}.")
_DIFFER = (
    "The answer given is {given} and the answer worked out is {right}: they differ.",
    "Worked out, the answer is {right}. The solution answers {given}, which is another number.",
    "Comparing the answers, {given} is given and {right} comes out; they are not the same.",
)
_SAME = (
    "The answer given is {given} and the answer worked out is {right}: they agree.",
    "Worked out, the answer is {right}. The solution answers {given}, which is the same number.",
    "Comparing the answers, {given} is given and {right} comes out; they are the same.",
)
_OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}


def praise(gold: Solution, rng: random.Random) -> str:
    """Feedback on a right solution; its last line is the verdict."""
    parts = _walk(gold, len(gold.steps), rng)
    parts.append(_differ_or_same(_SAME, gold, gold, rng))
    return rng.choice(_OPENERS) + " ".join(parts) + "\n" + VERDICT_RIGHT


def criticism(mistake: Mistake, question_numbers: frozenset[str], rng: random.Random) -> str:
    """Feedback on a planted mistake: names the step, what is wrong and what is right; its last line is the verdict.

    Args:
      mistake: the planted mistake.
      question_numbers: the numbers that the question states in digits, as text, to say where an operand comes from.
      rng: draws the words.
    """
    gold, wrong = mistake.gold, mistake.wrong
    parts = _walk(gold, mistake.step - 1, rng)
    parts.append(_point_out(mistake, question_numbers, rng))
    # A missing step shifts the steps after it by one.
    shift = 1 if mistake.kind == "missing_step" else 0
    for at in range(mistake.step, len(gold.steps)):
        step, found = gold.steps[at], wrong.steps[at - shift]
        if _is_worked(step) and step.value != found.value:
            parts.append(rng.choice(_THEN).format(sum=_sum(step), wrong=format_number(found.value)))
    parts.append(_differ_or_same(_DIFFER, gold, wrong, rng))
    return rng.choice(_OPENERS) + " ".join(parts) + "\n" + VERDICT_WRONG


def _walk(solution: Solution, until: int, rng: random.Random) -> list[str]:
    return [
        rng.choice(_FINE).format(n=i + 1, sum=_sum(step))
        for i, step in enumerate(solution.steps[:until])
        if _is_worked(step)
    ]


def _point_out(mistake: Mistake, question_numbers: frozenset[str], rng: random.Random) -> str:
    gold, wrong, n = mistake.gold, mistake.wrong, mistake.step
    step = gold.steps[n - 1]
    right = format_number(step.value)
    if mistake.kind == "missing_step":
        if not mistake.wrong_part:
            return rng.choice(_MISSING_END).format(
                before=n - 1, sum=_sum(step), right=right, wrong=format_number(wrong.answer)
            )
        place = "before step 1" if n == 1 else f"between steps {n - 1} and {n}"
        return rng.choice(_MISSING).format(
            place=place, Place=place.capitalize(), sum=_sum(step), used=mistake.wrong_part, right=right
        )
    found = wrong.steps[n - 1]
    values = {"n": n, "sum": _sum(step), "wrong_sum": _sum(found), "right": right, "wrong": format_number(found.value)}
    if mistake.kind == "wrong_result":
        return rng.choice(_BAD_RESULT).format(**values)
    if mistake.kind == "wrong_operation":
        used, needed = _OPERATIONS[mistake.wrong_part], _OPERATIONS[mistake.right_part]
        return rng.choice(_BAD_OPERATION).format(**values, used=used, needed=needed)
    origin = ""
    earlier = [i for i, s in enumerate(gold.steps[: n - 1], 1) if _is_worked(s)]
    source = [i for i in earlier if format_number(gold.steps[i - 1].value) == mistake.right_part]
    if source:
        origin = f", since step {source[-1]} gave {mistake.right_part}"
    elif mistake.right_part in question_numbers:
        origin = f", since the question says {mistake.right_part}"
    return rng.choice(_BAD_OPERAND).format(**values, used=mistake.wrong_part, needed=mistake.right_part, origin=origin)


def _differ_or_same(texts: tuple[str, ...], gold: Solution, given: Solution, rng: random.Random) -> str:
    return rng.choice(texts).format(given=format_number(given.answer), right=format_number(gold.answer))


def _is_worked(step: Step) -> bool:
    """A step that works something out: a mark such as `<<60=60>>` only says a number again."""
    return step.expr is not None and re.search(r"\d%?[\s)]*[-+*/]", step.expr) is not None


def _sum(step: Step) -> str:
    """`48 / 2 = 24`, as the step has it."""
    expr = step.expr or ""
    spaced = re.sub(r"(?<=[0-9)%.]) *([-+*/]) *", r" \1 ", expr)
    return f"{spaced} = {format_number(step.value)}"
