"""A sentence where a checkpoint's texts are worse than the base's, with the figures, and none elsewhere."""

import io
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from selfevo_jax.chains import Candidate, Rollout
from selfevo_jax.evaluate import likelihood_change, ordinary_figures, text_figures
from selfevo_jax.judges import Leaks
from selfevo_jax.report import WIDTH, ordinary_line, text_line
from selfevo_jax.report.texts import Measured, OrdinaryRow, Texts, accuracy_change, ordinary_table, text_table, warnings
from selfevo_jax.run import RunDir

ROWS = 100
NOTHING = Leaks(frozenset(), (), ())


def figures(looping: int, length: int = 5) -> dict[str, Any]:
    """An evaluation in which the first rows loop."""
    texts = ["no " * 9 if i < looping else " ".join(f"w{i}x{n}" for n in range(length)) for i in range(ROWS)]
    rollouts = [Rollout(str(i), 0, "?", (Candidate(t, "stop", tuple(range(9))),), 0) for i, t in enumerate(texts)]
    return {"texts": asdict(text_figures(rollouts, NOTHING))}


def ordinary(name: str, values: list[float], base: list[float] | None = None) -> OrdinaryRow:
    found = asdict(ordinary_figures({str(i): (10 * value, 10) for i, value in enumerate(values)}))
    before = None if base is None else {str(i): value for i, value in enumerate(base)}
    change = None if before is None else asdict(likelihood_change(before, found["by_row"]))
    return OrdinaryRow(name, found, change)


def right(hits: int) -> dict[str, bool]:
    return {str(i): i < hits for i in range(ROWS)}


@pytest.fixture
def texts(tmp_path) -> Texts:
    return Texts(RunDir(tmp_path / "none"), None)  # type: ignore[arg-type]


LIKELY = [-2.0 + 0.01 * i for i in range(20)]


def said(texts: Texts, looping: int, hits: int, likely: list[float]) -> list[str]:
    """Of a checkpoint beside a base of which 4 answers loop and 20 are right."""
    of_base = Measured("base", None, {"s": texts.of_set("base", "s", figures(4))}, ordinary("base", LIKELY))
    found = {"s": texts.of_set("0003", "s", figures(looping))}
    change = accuracy_change(right(20), right(hits))
    return list(warnings(of_base, [Measured("round 3", change, found, ordinary("round 3", likely, LIKELY))]))


def test_looping_answers_beside_a_better_accuracy_are_warned_of_with_both_figures(texts: Texts) -> None:
    assert said(texts, 16, 60, LIKELY) == [
        "round 3: direct accuracy on s +40.0 ± 4.9 points against the base, but texts are worse: looping on s 4.0 -> "
        "16.0 % (+12.0 ± 3.2 points, 100 rows)."
    ]


def test_less_probable_ordinary_answers_are_warned_of_too(texts: Texts) -> None:
    lower = [value - 0.1 - 0.01 * (i % 2) for i, value in enumerate(LIKELY)]
    (found,) = said(texts, 4, 21, lower)
    assert "+1.0 ± 1.0 points against the base, and texts are worse: log-likelihood of ordinary answers" in found
    assert found.endswith("-1.905 -> -2.010 nats a token (-0.105 ± 0.001, 20 rows).")


def test_nothing_is_said_where_texts_are_as_good_or_differ_by_a_few_rows_alone(texts: Texts) -> None:
    noise = [value + (0.1 if i % 2 else -0.1) for i, value in enumerate(LIKELY)]
    assert said(texts, 4, 90, LIKELY) == said(texts, 0, 90, noise) == said(texts, 8, 90, LIKELY) == []


def test_a_checkpoint_has_its_change_against_the_base_and_the_base_has_none(texts: Texts) -> None:
    base, later = texts.of_set("base", "s", figures(4)), texts.of_set("meta", "s", figures(10))
    other = texts.of_set("meta", "of another set", figures(10))
    assert base is not None
    assert later is not None
    assert other is not None
    assert (base["change"], other["change"]) == (None, None)
    assert "by_row" not in later
    assert (later["change"]["looping"]["gained"], later["change"]["looping"]["grew"]) == (6, True)
    assert not later["change"]["clipped"]["grew"]


def test_tables_of_texts_are_whole_at_80_columns_and_lines_have_every_figure(texts: Texts) -> None:
    wide = texts.of_set("base", "s", figures(100, 1319))
    rows = [(f"round {n}", wide) for n in (9, 1000)]
    likely = [ordinary("base", LIKELY), ordinary("round 1000", [v - 11.5 for v in LIKELY], LIKELY)]
    likely[1].figures.update(too_long=8192, not_finite=8192, rows=8192, tokens=1_234_567)
    out = io.StringIO()
    for table in (text_table("a set", rows), ordinary_table(likely)):
        Console(file=out, width=WIDTH).print(table)
    assert "…" not in out.getvalue()
    assert "100 " in out.getvalue()
    assert "-11.500 ± 0.000" in out.getvalue()
    assert text_line(wide).startswith("clipped 0.0 [0.0, 3.7] %, looping 100 [96.3, 100] %, leaked 0.0")
    assert ordinary_line(likely[1].figures) == "-13.405 ± 0.013 nats a token, 20 rows, too long 8192, not finite 8192"
