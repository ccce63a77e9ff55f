"""The shipped rows of D_meta with ratings."""

from selfevo_jax.data import meta_balance, read_meta
from selfevo_jax.judges import RatingJudge


def test_every_rating_of_the_shipped_rows_can_be_read_and_is_the_row_s_own_verdict() -> None:
    rows = read_meta("builtin:self_instruct/rated")
    assert len(rows) == 60
    assert [RatingJudge(8).read(row.feedback).good for row in rows] == [row.good for row in rows]
    assert meta_balance(rows).right == 20
