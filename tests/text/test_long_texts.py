"""Texts of a model that has lost itself, and of a server without a limit, are read at once."""

import time

import pytest

from selfevo_jax.judges import read_pair_verdict
from selfevo_jax.text import VerdictRule, parse_verdict
from selfevo_jax.text.clauses import Plain

RUNS = ("9", "\n", " ", "*", "*\n", "- ", "_ \n", "1/", "9 ", "#", "> ")


@pytest.mark.parametrize("run", RUNS)
def test_a_run_without_words_is_read_at_once(run: str) -> None:
    begin = time.process_time()
    for text in (f"Rating: 8/10{run * 4000} Rating: 5", run * 4000, f"Fine.\n{run * 4000}\nVerdict: correct."):
        parse_verdict(text, VerdictRule())
        parse_verdict(text, VerdictRule("rating", 5.0, 10.0))
        read_pair_verdict(f"{text} [[A]]")
    assert time.process_time() - begin < 4


def test_what_is_left_out_of_a_long_run_keeps_lines_paragraphs_and_places() -> None:
    for run in ("\n" * 500, "* " * 500, "*\n" * 300, "-" * 100):
        given = f"Verdict: incorrect.{run}Revision: 5"
        plain = Plain(given)
        assert len(plain.text) < 120
        assert ("\n\n" in plain.text, "\n" in plain.text) == ("\n\n" in run, "\n" in run)
        assert [given[at : at + 1] for at in plain.origin[:-1]] == list(plain.text)
    assert parse_verdict("Verdict: incorrect." + "\n" * 500 + "Revision: 5", VerdictRule()).end == 19
    assert parse_verdict("Good." + "\n" * 500 + "Verdict: correct.", VerdictRule()).good is True
