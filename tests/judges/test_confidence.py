"""How sure the model was of its own feedback as a score."""

import math

import pytest

from selfevo_jax.judges import ConfidenceJudge

JUDGE = ConfidenceJudge()
GOOD, BAD = JUDGE.read("All is there. Verdict: correct."), JUDGE.read("Half is missing. Verdict: incorrect.")


def test_the_score_is_the_geometric_mean_of_the_probabilities_on_the_side_of_the_verdict() -> None:
    logs = [math.log(0.9), math.log(0.4), 0.0]
    sure = (0.9 * 0.4) ** (1 / 3) / 2
    good, bad = JUDGE.scored(GOOD, logs), JUDGE.scored(BAD, logs)
    assert (good.good, good.rating) == (True, pytest.approx(0.5 + sure, abs=3e-4))
    assert (bad.good, bad.rating) == (False, pytest.approx(0.5 - sure, abs=3e-4))


def test_a_surer_text_is_nearer_to_the_end_of_its_side_and_any_good_verdict_is_above_any_bad_one() -> None:
    scores = [
        JUDGE.scored(said, [log] * 4).rating for said, log in ((BAD, 0.0), (BAD, -2.0), (GOOD, -2.0), (GOOD, 0.0))
    ]
    assert scores == sorted(scores)
    assert (scores[0], scores[3]) == (0.0, 1.0)
    assert scores[1] < 0.5 < scores[2]


def test_what_cannot_be_read_has_no_score() -> None:
    unread = JUDGE.scored(JUDGE.read("All is there."), [-0.1, -0.2])
    assert (unread.good, unread.rating) == (None, None)


def test_a_least_score_is_passed_by_sure_verdicts_alone() -> None:
    judge = ConfidenceJudge(least=0.9)
    assert judge.scored(GOOD, [-0.1]).good is True
    assert judge.scored(GOOD, [-1.0]).good is False


def test_last_bits_of_log_probabilities_do_not_change_a_score() -> None:
    assert len({JUDGE.scored(GOOD, [-0.3 + bits, -1.4]).rating for bits in (-1e-6, 0.0, 1e-6)}) == 1
