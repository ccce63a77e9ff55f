"""The figures of a win rate for a terminal."""

from dataclasses import asdict

import pytest
from rich.console import Console

from selfevo_jax.evaluate import open_figures, win_rate
from selfevo_jax.judges import Judgement, Pair
from selfevo_jax.report.open_comparison import _measures, compared
from selfevo_jax.report.open_ended import OpenRow, open_tables, verdict_on_open
from selfevo_jax.report.winrate import winrate_lines

VERDICTS = {
    "win": ("[[A]]", "[[B]]"),
    "loss": ("[[B]]", "[[A]]"),
    "bias": ("[[A]]", "[[A]]"),
    "unread": ("hm", "[[A]]"),
}


def pairs(**counts):
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return [
        Pair(str(i), "p", ("x" * (50 + i), "y" * 60), tuple(Judgement.of(text, whole=True) for text in VERDICTS[kind]))
        for i, kind in enumerate(kinds)
    ]


def test_every_figure_has_its_error_and_fits_80_columns():
    lines = winrate_lines(win_rate(pairs(win=30, loss=10, bias=10, unread=5)))
    assert all(len(line) <= 80 for line in lines)
    told = {line[:32].strip(): line[32:] for line in lines}
    assert told["won, tied, lost"] == "30, 10, 10 of 50 judged pairs"
    assert told["win rate, ties as halves"] == "70.0 ± 5.7 % [56.2, 80.9], p 0.002"
    assert told["shown first is preferred"] == "60.0 ± 2.9 % [46.2, 72.4] of 100 verdicts"
    assert told["both orders agree"] == "80.0 [67.0, 88.8] % of 50 judged pairs"
    assert told["not judged"] == "5 of 55 pairs"
    assert told["texts: no verdict in them"] == "5"
    assert "±" in told["win rate at equal lengths"]
    assert told["mean length, other side"] == "60 ± 0 characters"


def test_figures_that_there_are_not_are_a_dash():
    lines = winrate_lines(win_rate(pairs(unread=3)))
    assert sum(line.endswith("-") or " - " in line for line in lines) >= 3
    assert any("3 of 3 pairs" in line for line in lines)


@pytest.mark.parametrize("kind", ["win", "loss", "bias", "unread"])
@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("mark", [None, 5.0])
def test_a_judge_that_always_says_one_thing_or_nothing_has_figures_that_can_be_shown(kind, count, mark):
    judged = pairs(**{kind: count})
    answers, marks = {pair.id: pair.answers[0] for pair in judged}, {pair.id: mark for pair in judged}
    figures = asdict(open_figures(answers, 0, judged, marks, marks, "big", "base"))
    rows = [OpenRow("round 1", "open", figures)]
    console = Console(width=80, file=None, record=True, quiet=True)
    for table in open_tables(rows):
        console.print(table)
    (said,) = verdict_on_open(rows)
    assert ("no pair could be judged" in said) == (kind == "unread" or count == 0)
    seen = {("open", measure, "round 1"): scores for measure, scores in _measures(figures)}
    compared({"a": {0: seen}, "b": {1: seen}}, "a", ["round 1"])
