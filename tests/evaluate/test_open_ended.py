"""Marks of one side beside those of another, prompt by prompt."""

import math

import pytest
from scipy import stats

from selfevo_jax.evaluate import mark_gain


def test_the_gain_in_marks_is_that_of_the_prompts_that_both_have() -> None:
    before = {"a": 5.0, "b": 6.0, "c": None, "d": 2.0}
    after = {"a": 7.0, "b": 5.0, "c": 9.0, "d": 4.0, "e": 1.0}
    found = mark_gain(before, after)
    assert found is not None
    assert (found.n, found.gain, found.higher, found.lower) == (3, 1.0, 2, 1)
    assert found.stderr == pytest.approx(stats.sem([2.0, -1.0, 2.0]))
    assert found.p == pytest.approx(stats.binomtest(1, 3).pvalue)
    assert (found.better, found.worse) == (False, False)
    assert mark_gain({"a": None}, after) is None
    alone = mark_gain({"a": 1.0}, {"a": 2.0})
    assert alone is not None
    assert alone.stderr is None


@pytest.mark.parametrize(("step", "verdict"), [(1.0, (True, False)), (-1.0, (False, True)), (0.0, (False, False))])
def test_a_change_is_called_better_or_worse_only_where_it_is_measurable(step: float, verdict: tuple) -> None:
    marks = {str(n): 5.0 for n in range(12)}
    found = mark_gain(marks, {id: mark + step for id, mark in marks.items()})
    assert found is not None
    assert (found.better, found.worse) == verdict
    assert not math.isnan(found.p)
