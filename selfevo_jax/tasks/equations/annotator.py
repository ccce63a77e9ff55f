"""The annotator: a bare answer is held against the equation, which the feedback works out step by step.

The feedback compares in the same words whether the answer is right or wrong, so that the verdict follows from what was
worked out.
"""

from __future__ import annotations

import random
import re
from fractions import Fraction

from selfevo_jax.tasks.equations.problems import Problem, results
from selfevo_jax.tasks.solutions.worked import NUMBER, OPERATIONS, format_number
from selfevo_jax.text import extract_answer

_SLIPS = (-10, -2, -1, 1, 2, 10)


def feedback(problem: Problem, given: Fraction) -> tuple[str, bool]:
    """`8 - 3 = 5. The answer says 6, it should be 5. Verdict: incorrect`, and whether the answer is right."""
    good = given == problem.answer
    worked = " ".join(f"{done}." for done in problem.sums)
    compared = f"The answer says {format_number(given)}, it should be {format_number(problem.answer)}."
    return f"{worked} {compared} Verdict: {'correct' if good else 'incorrect'}", good


def is_bare(text: str) -> bool:
    """Whether a text gives a number and works nothing out: it is one line with one number in it."""
    return "\n" not in text and len(NUMBER.findall(text)) == 1 and extract_answer(text) is not None


def with_answer(text: str, answer: Fraction) -> str | None:
    """A bare answer with another number in its place; None where that would not be read as this number."""
    changed = re.sub(rf"[-−]?{NUMBER.pattern}", lambda _: format_number(answer), text, count=1)
    return changed if is_bare(changed) and extract_answer(changed) == answer else None


def near_miss(problem: Problem, rng: random.Random) -> Fraction | None:
    """A wrong answer that is nearly right: a step left out, another operation, a number of the problem, a slip. The
    kind is drawn first; None where there is none."""
    last = problem.sums[-1]
    kinds = [
        results(problem)[:-1],
        [apply(last.left, last.right) for sign, apply in OPERATIONS.items() if last.right or sign != "/"],
        [number for done in problem.sums for number in (done.left, done.right)],
        [problem.answer + slip for slip in _SLIPS],
    ]
    usable = [
        [value for value in kind if value != problem.answer and value >= 0 and value.denominator == 1] for kind in kinds
    ]
    found = [kind for kind in usable if kind]
    return rng.choice(rng.choice(found)) if found else None
