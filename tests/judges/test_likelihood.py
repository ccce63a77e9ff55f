"""The probability of the good verdict as a score."""

import math

import pytest

from selfevo_jax.judges import LikelihoodJudge

JUDGE = LikelihoodJudge()


def logs(good, bad):
    """Log-probabilities of two words with these logits, where no other word has any."""
    whole = math.log(math.exp(good) + math.exp(bad))
    return good - whole, bad - whole


def test_the_score_is_a_softmax_over_the_two_words() -> None:
    found = JUDGE.weighed(*logs(1.0, -0.5))
    assert (found.good, found.rating) == (True, pytest.approx(0.817574, abs=1e-6))
    assert JUDGE.weighed(*logs(-0.5, 1.0)).rating == pytest.approx(1 - 0.817574, abs=1e-6)
    assert JUDGE.weighed(*logs(0.0, 0.0)).good is False  # not more than half
    assert LikelihoodJudge(least=0.9).weighed(*logs(1.0, -0.5)).good is False
    assert JUDGE.weighed(0.0, -1e9).rating == 1.0


def test_last_bits_of_log_probabilities_do_not_change_a_score_and_scores_near_one_differ() -> None:
    assert JUDGE.weighed(*logs(15.0, 0.0)).rating < JUDGE.weighed(*logs(15.2, 0.0)).rating < 1.0
    assert len({JUDGE.weighed(-0.3 + bits, -1.4).rating for bits in (-1e-5, 0.0, 1e-5)}) == 1


def test_where_the_model_was_about_to_say_something_else_there_is_no_score() -> None:
    few = JUDGE.weighed(math.log(0.3), math.log(0.1))
    assert (few.good, few.rating) == (None, None)
    assert LikelihoodJudge(least_mass=0.3).weighed(math.log(0.3), math.log(0.1)).good is True


@pytest.mark.parametrize(
    ("text", "good", "end"),
    [
        ("7 and 3 are 10. Verdict: correct.", True, None),
        ("7 and 3 are 10. Verdict: incorrect, since 9 was said.", False, None),
        ("Verdict: correct.\n", True, None),
        ("Verdict: correct.\nQuestion: how many?", True, len("Verdict: correct.")),
        ("Verdict:\ncorrect", True, None),
        ("Verdict: correctly put, but no", None, None),
        ("It is correct.", None, None),
        ("<think>Say Verdict: correct or Verdict: incorrect.</think>9 is wrong. Verdict: incorrect", False, None),
        ("I end with Verdict: correct or not.</think>9 is wrong.\nVerdict: incorrect", False, None),
        ("<think>Is it Verdict: correct", None, None),
    ],
)
def test_written_feedback_is_read_behind_its_lead(text, good, end) -> None:
    found = JUDGE.read(text)
    assert (found.good, found.end) == (good, end)


def test_words_and_lead_are_settings() -> None:
    judge = LikelihoodJudge("Good?", "yes", "no")
    assert judge.read("All is there. Good? yes").good is True
    assert judge.read(judge.bare("Half is missing. Good? no", False)).good is False
    assert judge.place("All is there. Good? yes") == len("All is there. Good?")
    assert judge.place("All is there.") is None
