"""Feedback without its words says what it said."""

import pytest

from selfevo_jax.data import MetaRow
from selfevo_jax.judges import RatingJudge, VerdictJudge
from selfevo_jax.rounds.meta_stage import verdicts_alone


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize(
    ("judge", "texts", "bare"),
    [
        (
            VerdictJudge(),
            ("5 and 3 are 8. Verdict: correct.", "5 and 3 are 8, not 9. Verdict: incorrect."),
            "Verdict: ",
        ),
        (RatingJudge(), ("It is all there. Rating: 10", "Half of it is missing. Rating: 4.5"), "Rating: "),
    ],
)
def test_d_meta_of_bare_verdicts_is_read_as_before(judge, texts, bare: str, good: bool) -> None:
    row = MetaRow("a", "p", "r", texts[0 if good else 1], "c", good)
    (found,) = verdicts_alone([row], judge)
    assert found.feedback.startswith(bare)
    assert len(found.feedback) < 21
    assert (judge.read(found.feedback).good, judge.read(found.feedback).rating) == (
        good,
        judge.read(row.feedback).rating,
    )
    assert (found.response, found.refinement, found.good) == (row.response, row.refinement, row.good)
