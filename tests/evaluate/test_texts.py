"""Whether answers are still good texts."""

import random

import pytest

from selfevo_jax.chains import Candidate, Rollout
from selfevo_jax.evaluate import BIGRAMS, distinct_ngrams, fault_changes, grew, text_figures
from selfevo_jax.evaluate.texts import loops
from selfevo_jax.judges import Leaks, VerdictJudge, format_for
from selfevo_jax.text import FormatSection

LEAKS = Leaks.of(VerdictJudge(), format_for(VerdictJudge(), FormatSection()))


def answered(id: str, text: str, finish: str = "stop") -> Rollout:
    return Rollout(id, 0, "Say something.", (Candidate(text, finish, (1,) * len(text.split())),), 0)


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("", False),
        ("42", False),
        ("ha ha", False),
        ("no no no no no no", True),
        ("I like tea. " * 4, True),
        ("The cat sat on the mat and looked at me. " * 2, True),  # a paragraph that is said twice
        ("one of the few, then one of the many, and last one of the kind that nobody had ever seen before", False),
        ("Here is a list: " + " ".join(f"number {n} is {n * n}," for n in range(30)), False),
        (" ".join(str(n) for n in range(100)) + " and so on and so on and so on", False),  # too few of all of them
        (" ".join(str(n) for n in range(20)) + " and so on" * 9, True),
        ("是" * 80, False),  # no white space, no words to count
    ],
)
def test_a_text_loops_where_a_fifth_of_its_trigrams_stood_in_it_before(text: str, looping: bool) -> None:
    assert loops(text) is looping


def test_distinct_bigrams_of_a_fixed_number_are_the_mean_over_random_draws_of_so_many() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choice("aabbbcdefg") for _ in range(rng.randrange(1, 30))) for _ in range(12)]
    grams = [tuple(text.split()[i : i + 2]) for text in texts for i in range(len(text.split()) - 1)]
    drawn = [len(set(rng.sample(grams, 40))) / 40 for _ in range(4000)]
    assert distinct_ngrams(texts, of=40) == pytest.approx(sum(drawn) / len(drawn), abs=0.004)
    assert distinct_ngrams(texts, of=len(grams)) == pytest.approx(distinct_ngrams(texts))
    assert distinct_ngrams(texts, of=1) == pytest.approx(1.0)
    assert distinct_ngrams(texts, of=len(grams) + 1) is None


def test_distinct_bigrams_of_a_fixed_number_do_not_fall_with_the_length_of_the_texts() -> None:
    rng = random.Random(1)
    long = [" ".join(str(rng.randrange(60)) for _ in range(200)) for _ in range(40)]
    short = [" ".join(text.split()[:50]) for text in long]
    plain = [distinct_ngrams(texts) or 0.0 for texts in (short, long)]
    fixed = [distinct_ngrams(texts, of=1000) or 0.0 for texts in (short, long)]
    assert plain[0] > plain[1] + 0.2
    assert fixed[0] == pytest.approx(fixed[1], abs=0.01)


def test_figures_count_each_fault_and_leave_out_what_could_not_be_run() -> None:
    rows = [
        answered("a", "All is well."),
        answered("b", "I like tea. " * 4, "length"),
        answered("c", "42\nVerdict: correct"),
        answered("d", "", "error"),
    ]
    found = text_figures(rows, LEAKS)
    assert found.n == 3
    assert [round(share.share * 3) for share in (found.clipped, found.looping, found.leaked)] == [1, 1, 1]
    assert found.leaks == {"Verdict:": 1}
    assert found.length.value == pytest.approx((3 + 12 + 3) / 3)
    assert found.distinct_bigrams is None  # fewer bigrams than that
    assert found.by_row["looping"] == {"a": False, "b": True, "c": False, "d": None}
    many = [answered(str(n), f"all is {n} well " * 20) for n in range(BIGRAMS // 79 + 1)]
    assert text_figures(many, LEAKS).distinct_bigrams is not None


def figures(looping: set[int], n: int = 40) -> dict:
    rows = [answered(str(i), "no " * 9 if i in looping else "yes") for i in range(n)]
    return text_figures(rows, LEAKS).by_row


def test_a_fault_grew_where_the_same_rows_have_it_beyond_two_standard_errors_and_not_by_a_few_rows() -> None:
    before = figures({0, 1})
    change = fault_changes(before, figures(set(range(12))))["looping"]
    assert (change.n, change.gained, change.lost) == (40, 10, 0)
    assert change.gain == pytest.approx(0.25)
    assert grew(change)
    few = fault_changes(before, figures(set(range(6))))["looping"]
    assert few.gain > 2 * few.stderr  # an error of four rows alone is too small
    assert not grew(few)
    assert not grew(fault_changes(figures(set(range(12))), before)["looping"])
    assert not grew(fault_changes(before, before)["clipped"])


def test_rows_that_were_looked_at_only_once_are_in_no_change() -> None:
    other = {"looping": {"x": True}}
    assert fault_changes(figures({0}), other) == {}
