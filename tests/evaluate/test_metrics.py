import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.data import EvaluationRow
from selfevo_jax.evaluate import EvaluationSet, Paired, data_accuracy, rollout_of, score, vote
from selfevo_jax.evaluate.metrics import (
    Proportion,
    distinct_ngrams,
    entropy,
    majority,
    mcnemar,
    of_clusters,
    paired,
    proportion,
    verdict_quality,
    wilson,
)
from selfevo_jax.scorers import Grade
from selfevo_jax.scorers.number import Number


@pytest.mark.parametrize(("hits", "n"), [(0, 32), (32, 32), (0, 1), (1, 1), (3, 7), (30, 100), (660, 1319)])
def test_a_share_has_the_wilson_interval_of_scipy(hits: int, n: int) -> None:
    reference = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_a_share_of_nothing_is_no_figure_and_none_of_32_is_not_certain_to_be_none() -> None:
    assert str(proportion([])) == "-"
    assert str(proportion([False] * 32)) == "0.0 [0.0, 10.7] %"
    assert str(proportion([True] * 32)) == "100.0 [89.3, 100.0] %"


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 1), (1, 0), (5, 5), (0, 6), (3, 14), (60, 33), (900, 1000)])
def test_mcnemars_p_is_the_exact_binomial_one(gained: int, lost: int) -> None:
    reference = 1.0 if gained + lost == 0 else binomtest(gained, gained + lost, 0.5).pvalue
    assert mcnemar(gained, lost) == pytest.approx(reference, rel=1e-9)


def test_a_gain_has_the_standard_error_of_the_rows_differences() -> None:
    rng = random.Random(0)
    before = {str(i): rng.random() < 0.5 for i in range(200)}
    after = {row: right or rng.random() < 0.3 for row, right in reversed(before.items())}
    found = paired(before, after)
    differences = [after[row] - before[row] for row in before]
    mean = sum(differences) / 200
    assert found is not None
    assert found.gain == pytest.approx(mean)
    assert found.stderr == pytest.approx(math.sqrt(sum((d - mean) ** 2 for d in differences) / 200) / math.sqrt(200))
    assert (found.n, found.lost, found.better, found.worse) == (200, 0, True, False)
    # the unpaired error would be about 0.048 whatever the rows have in common
    assert found.stderr < 0.03


def test_rows_that_one_of_two_did_not_answer_are_in_no_comparison() -> None:
    found = paired({"a": True, "b": None, "c": False, "d": True}, {"a": False, "b": True, "c": None, "e": True})
    assert found == Paired(n=1, gained=0, lost=1, gain=-1.0, stderr=0.0, p=1.0)
    assert not found.worse  # one row of one says nothing
    assert paired({"a": None}, {"a": True}) is None


def fives(ids: str) -> EvaluationSet:
    """Rows whose answer is 5."""
    return EvaluationSet([EvaluationRow(id, id, {"answer": "5"}) for id in ids], [Number()])


def answered(id: str, text: str, finish: str = "stop", sample: int = 0, error: str | None = None) -> Rollout:
    return Rollout(id, sample, id, (Candidate(text, finish, (1,) * len(text)),), 0, error)


def test_rows_that_could_not_be_run_are_counted_and_are_in_no_share() -> None:
    rows = [answered("a", "5"), answered("b", "6"), answered("c", "none"), answered("d", "5 and", "length")]
    rows += [answered(id, "", "error", error="too long") for id in "efgh"]
    found, _ = score(fives("abcdefgh"), rows)
    assert (found.direct.n, found.direct.share) == (4, 0.5)
    assert (found.rows, found.direct.failed, found.direct.no_answer, found.direct.clipped) == (8, 4, 1, 1)
    assert found.right["direct"] == dict(zip("abcdefgh", [True, False, False, True, *[None] * 4], strict=True))
    assert found.refined is None
    alone = score(fives("e"), rows[4:5])[0].direct
    assert (alone.share, alone.n, alone.failed) == (None, 0, 1)


def test_a_row_whose_feedback_could_not_be_run_keeps_its_response_and_has_no_refined_answer() -> None:
    good, none = Feedback("f", "stop", True, None), Feedback("", "error", None, None)
    rows = [
        Rollout("a", 0, "a", (Candidate("5", "stop", (1,), good),), 0),
        Rollout("b", 0, "b", (Candidate("5", "stop", (1,), none),), 0, "too long"),
    ]
    found, _ = score(fives("ab"), rows)
    assert (found.direct.share, found.direct.n, found.direct.failed) == (1.0, 2, 0)
    assert found.refined is not None
    assert (found.refined.share, found.refined.n, found.refined.failed) == (1.0, 1, 1)
    assert found.verdict is not None
    assert (found.verdict.accuracy.n, found.verdict.unparseable) == (1, 0)


def test_a_vote_is_among_the_samples_that_were_run() -> None:
    rows = [answered("a", "5", sample=0), answered("a", "6", sample=1), answered("a", "5", sample=2)]
    rows += [answered("b", "", "error", 0, "too long"), answered("b", "5", sample=1), answered("c", "no")]
    rows += [answered("d", "", "error", s, "too long") for s in (0, 1)]
    right, by_scorer = vote(fives("abcd"), rows, refined=False)
    found = by_scorer["number"]
    assert right == {"a": True, "b": True, "c": False, "d": None}
    assert (found.n, found.failed, found.no_answer) == (3, 1, 1)


@dataclass(frozen=True)
class ByLength:
    """Grades a tenth for each letter; three letters cannot be scored; digits are demands."""

    name = "length"

    def faults(self, rows):
        return [None for _ in rows]

    def grades(self, rows, texts):
        demands = [{str(i): None if c == "?" else c == "1" for i, c in enumerate(text) if c in "01?"} for text in texts]
        return [
            Grade(None if len(text) == 3 else min(1.0, len(text) / 10), parts=parts)
            for text, parts in zip(texts, demands, strict=True)
        ]

    def keys(self, rows, texts):
        return list(texts)

    def spoil(self, row, text, rng):
        return None


def test_what_cannot_be_scored_is_counted_and_in_no_share_and_further_scorers_have_figures_of_their_own() -> None:
    texts = {"a": "1" * 10, "b": "55555", "c": "abc", "d": "01?"}
    rows = [answered(id, text) for id, text in texts.items()] + [answered("e", "", "error", error="too long")]
    of = EvaluationSet([EvaluationRow(id, id, {"answer": "5"}) for id in "abcde"], [ByLength(), Number()])
    found, kept = score(of, rows)
    direct = found.direct
    assert (direct.n, direct.share, direct.not_scored, direct.failed) == (2, 0.5, 2, 1)
    assert direct.mean == pytest.approx(0.75)
    assert direct.mean_error == pytest.approx(0.25 / math.sqrt(2))
    assert direct.demands is not None
    assert (direct.demands.n, direct.demands.share, direct.demands_not_scored) == (12, pytest.approx(11 / 12), 1)
    assert sum(of.n for of in direct.by_kind.values()) == 12
    assert found.right["direct"] == {"a": True, "b": False, "c": None, "d": None, "e": None}
    assert found.scorers == ("length", "number")
    number = found.further["number"]["direct"]
    assert (number.n, number.no_answer, number.failed, number.demands) == (4, 1, 1, None)
    values = [row["grades"]["direct"] and row["grades"]["direct"]["length"]["value"] for row in kept]
    assert values == [1.0, 0.5, None, None, None]
    assert kept[0]["columns"] == {"answer": "5"}
    assert rollout_of(kept[0]) == rows[0]


def test_demands_of_one_row_are_a_cluster_for_their_interval() -> None:
    texts = {f"{i}": "11" if i % 2 else "00" for i in range(40)}
    rows = [answered(id, text) for id, text in texts.items()]
    of = EvaluationSet([EvaluationRow(id, id, {}) for id in texts], [ByLength()])
    demands = score(of, rows)[0].direct.demands
    # the two of a row are always equal: 80 demands tell no more than 40 rows
    assert demands is not None
    assert demands.n == 80
    assert (demands.share, demands.low, demands.high) == pytest.approx((0.5, *wilson(20, 40)))
    assert of_clusters([[True, True]] * 9) == Proportion(1.0, *wilson(9, 9), 18)
    assert of_clusters([[], []]) == Proportion(None, None, None, 0)


@given(st.lists(st.lists(st.booleans(), max_size=3), min_size=1, max_size=12))
@settings(max_examples=60)
def test_an_interval_of_clusters_has_its_share_within_and_is_never_narrower_than_that_of_single_rows(rows) -> None:
    found, single = of_clusters(rows), proportion([hit for row in rows for hit in row])
    assert (found.share, found.n) == (single.share, single.n)
    if single.n:
        assert 0 <= found.low <= single.low + 1e-12
        assert found.low <= found.share <= found.high
        assert 1 >= found.high >= single.high - 1e-12
        alone = of_clusters([[hit] for row in rows for hit in row])
        assert (alone.low, alone.high) == pytest.approx((single.low, single.high), abs=1e-12)


def test_a_vote_is_by_the_primary_scorers_keys_and_every_scorer_grades_the_winner() -> None:
    rows = [answered("a", text, sample=n) for n, text in enumerate(["it is 5", "x" * 10, "5.0", "x" * 10])]
    of = EvaluationSet([EvaluationRow("a", "a", {"answer": "5"})], [Number(), ByLength()])
    right, found = vote(of, rows, refined=False)
    assert right == {"a": True}
    assert (found["number"].share, found["length"].mean) == (1.0, 0.7)
    right, found = vote(EvaluationSet(of.rows, [ByLength(), Number()]), rows, refined=False)
    assert right == {"a": True}
    assert found["number"].no_answer == 1


def test_the_rounds_data_is_measured_where_gold_is_known_and_can_be_scored() -> None:
    rows = [answered("a", "1" * 10), answered("b", "abc"), answered("c", "55"), answered("d", "7")]
    gold = {id: EvaluationRow(id, id, {"answer": id}) for id in "abc"}
    measured = data_accuracy(gold, ByLength(), rows, rows[:1])
    assert measured is not None
    found, graded = measured
    assert [(row["id"], row["columns"]["answer"]) for row in graded] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert [row["grades"]["refined"]["length"]["value"] for row in graded] == [1.0, None, 0.2]
    assert (found.first.n, found.candidates.share, found.kept.share, found.not_scored) == (2, 0.5, 1.0, 1)
    assert data_accuracy({}, ByLength(), rows, rows) is None


def test_a_verdict_that_cannot_be_read_is_counted_and_in_no_share() -> None:
    found = verdict_quality([True, True, False, None, False], [True, False, False, True, True])
    assert (found.accuracy.share, found.accuracy.n) == (pytest.approx(2 / 4), 4)
    assert (found.precision.share, found.precision.n) == (pytest.approx(1 / 2), 2)
    assert (found.recall.share, found.recall.n) == (pytest.approx(1 / 2), 2)
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
