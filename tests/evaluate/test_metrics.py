import pytest

from selfevo_jax.evaluate.metrics import distinct_ngrams, entropy, majority, proportion, verdict_quality


def test_standard_error_of_a_share() -> None:
    found = proportion([True] * 30 + [False] * 70)
    assert found.share == pytest.approx(0.3)
    assert found.stderr == pytest.approx(0.0458, abs=1e-4)
    assert str(proportion([])) == "-"


def test_verdict_quality_counts_unparseable_as_a_wrong_verdict_and_never_as_good() -> None:
    found = verdict_quality([True, True, False, None, False], [True, False, False, True, True])
    assert found.accuracy.share == pytest.approx(2 / 5)
    assert found.precision.share == pytest.approx(1 / 2)
    assert found.recall.share == pytest.approx(1 / 3)
    assert found.unparseable == 1


def test_majority_ignores_missing_answers_and_breaks_ties_by_order() -> None:
    assert majority([None, 3, 2, 2, 3, None, None]) == 3
    assert majority([None, None]) is None


def test_collapse_shows_in_distinct_ngrams_and_entropy() -> None:
    varied, same = ["a b c", "d e f"], ["a b a b a b", "a b a b"]
    assert distinct_ngrams(varied) == 1.0
    assert distinct_ngrams(same) < 0.5
    assert entropy(varied) > entropy(same)
    assert distinct_ngrams([]) is None
    assert entropy([""]) is None
