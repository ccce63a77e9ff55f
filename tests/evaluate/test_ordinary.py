"""How probable ordinary answers are: means over rows, with what is lost counted."""

import math
import statistics

import pytest

from selfevo_jax.evaluate import likelihood_change, ordinary_figures


def test_the_mean_is_over_rows_and_what_has_no_number_is_counted_and_in_no_figure() -> None:
    given = {"a": (-6.0, 3), "b": (-40.0, 10), "c": None, "d": (-math.inf, 4), "e": (math.nan, 4)}
    found = ordinary_figures(given)
    assert (found.rows, found.too_long, found.not_finite, found.tokens) == (5, 1, 2, 13)
    assert found.by_row == {"a": -2.0, "b": -4.0, "c": None, "d": None, "e": None}
    assert found.log_likelihood.value == -3.0
    assert found.log_likelihood.stderr == pytest.approx(statistics.stdev([-2.0, -4.0]) / math.sqrt(2))


def test_the_last_bits_of_a_sum_are_in_no_record() -> None:
    assert ordinary_figures({"a": (-1 / 3, 3)}) == ordinary_figures({"a": (-1 / 3 - 1e-7, 3)})


def test_a_change_is_taken_row_by_row_and_is_lower_beyond_two_standard_errors() -> None:
    before = {"a": -1.0, "b": -9.0, "c": -3.0, "d": None, "e": -1.0}
    after = {"a": -1.5, "b": -9.4, "c": -3.6, "d": -1.0, "f": -1.0}
    found = likelihood_change(before, after)
    assert found is not None
    assert (found.n, found.gain) == (3, pytest.approx(-0.5))
    assert found.stderr == pytest.approx(0.1 / math.sqrt(3))
    assert found.lower  # although the rows differ by far more among themselves
    assert not likelihood_change(after, before).lower
    assert not likelihood_change(before, before).lower
    assert not likelihood_change({"a": -1.0}, {"a": -2.0}).lower  # of one row nothing is known
    assert likelihood_change({"a": -1.0}, {"b": -1.0}) is None
