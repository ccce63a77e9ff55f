import io
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.data import EvaluationRow
from selfevo_jax.data.self_written import REFUSALS
from selfevo_jax.evaluate import Accuracy, EvaluationSet, paired, proportion, score
from selfevo_jax.evaluate.metrics import of_clusters
from selfevo_jax.progress import Reporter
from selfevo_jax.report import WIDTH, legend, pick, tables, verdict_on_run
from selfevo_jax.report.entries import entry_of
from selfevo_jax.report.summary import Row, Summary
from selfevo_jax.scorers.number import Number


def rollout(name: str, texts: list[str], chosen: int) -> Rollout:
    feedback = Feedback("f", "stop", False, None)
    return Rollout(name, 0, name, tuple(Candidate(t, "stop", (1,), feedback) for t in texts), chosen)


def test_one_transcript_of_each_kind_is_found() -> None:
    rows = [
        rollout("still wrong", ["1", "2"], 1),
        rollout("mended", ["1", "9"], 1),
        rollout("alone", ["9"], 0),
        rollout("spoilt", ["9", "3"], 1),
    ]
    _, texts = score(EvaluationSet([EvaluationRow(r.id, r.id, {"answer": 9}) for r in rows], [Number()]), rows)
    found = pick(entry_of(text, "meta", "s") for text in texts)
    assert [t.rollout.id for t in found] == ["mended", "alone", "spoilt"]


def figure(hits: int, n: int, **beside: Any) -> dict[str, Any]:
    return asdict(Accuracy(**vars(proportion([True] * hits + [False] * (n - hits))), **beside))


def row(checkpoint: str, hits: int, start: int | None = None, n: int = 500) -> Row:
    """A checkpoint that has the first `hits` rows right, against one that had the last `start` right."""
    before = {str(i): i >= n - (start or 0) for i in range(n)}
    after = {str(i): i < hits for i in range(n)}
    return Row(checkpoint, "s", figure(hits, n), gain=None if start is None else gain_of(before, after))


def fell(base: int, meta: int, last: int, n: int = 64) -> str:
    """What is said of a run by how many of its rows are right; those that a checkpoint lost are its last ones."""
    right = {
        name: {str(i): i < hits for i in range(n)} for name, hits in (("base", base), ("meta", meta), ("round 1", last))
    }
    rows = [
        Row(
            name,
            "s",
            figure(sum(of.values()), n),
            gain=gain_of(right["meta"], of) if name == "round 1" else None,
            against_base=None if name == "base" else gain_of(right["base"], of),
        )
        for name, of in right.items()
    ]
    return verdict_on_run(Summary("r", True, rows, []))


def gain_of(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    found = paired(before, after)
    assert found is not None
    return asdict(found) | {"better": found.better, "worse": found.worse}


def test_the_last_sentence_says_better_worse_or_within_the_noise_by_the_rows_that_changed() -> None:
    def said(hits: int, start: int, n: int = 500) -> str:
        rows = [row("base", 50, n=n), row("meta", start, n=n), row("round 1", hits, start, n=n)]
        return verdict_on_run(Summary("r", True, rows, []))

    assert "better by +40.0 points" in said(300, 100)
    assert "worse by -10.0 points" in said(50, 100)
    assert "no measurable change (+2.0 points" in said(110, 100)
    assert "no measurable change (+3.1 points" in said(1, 0, 32)
    assert said(6, 0, 32).endswith("+18.8 points (standard error 6.9, McNemar's exact p 0.031, 32 rows).")
    assert verdict_on_run(Summary("r", False, [row("meta", 1)], [])) == "No round has been measured yet."


def test_a_second_sentence_says_what_became_of_the_base_where_the_first_one_does_not() -> None:
    lost = "Direct accuracy from base to round 1: worse by -17.2 points ("
    assert fell(19, 11, 8).startswith("Direct accuracy from meta to round 1: no measurable change (-4.7 points")
    assert lost in fell(19, 11, 8)
    assert "base to round 1: worse by -21.9" in fell(19, 15, 5)  # a fall is said, although the first one says another
    assert "base to round 1: no measurable change (+0.0" in fell(19, 8, 19)
    assert "base to round 1: better by +17.2 points" in fell(8, 17, 19)
    for alike in (fell(19, 19, 8), fell(19, 20, 21), fell(8, 9, 30)):
        assert "base" not in alike
    rows = [Row("base", "s", figure(19, 64)), Row("meta", "s", figure(8, 64), against_base=None)]
    assert verdict_on_run(Summary("r", False, rows, [])) == "No round has been measured yet."
    fallen = gain_of({str(i): True for i in range(9)}, {str(i): False for i in range(9)})
    said = verdict_on_run(Summary("r", False, [rows[0], replace(rows[1], against_base=fallen)], []))
    assert said.startswith("No round has been measured yet. Direct accuracy from base to meta: worse by -100.0 points")


def test_the_legend_is_of_what_the_tables_show() -> None:
    def told(summary: Summary) -> str:
        return "\n".join(legend(tables(summary)))

    assert told(Summary("r", False, [], [])) == ""
    measured = told(Summary("r", False, [row("base", 100), row("meta", 100)], []))
    assert measured.startswith("[low, high]: ")
    for word in ("gain", "failed, not scored", "kept: ", "mended", "controls", "written", "looping", "log-likelihood"):
        assert word not in measured
    whole = told(full_summary(("direct",)))
    for word in ("failed, not scored", "no answer: ", "clipped: ", "gain: ", "mended", "kept: ", "written: "):
        assert word in whole
    assert "win rate" not in whole


def shown(summary: Summary, width: int = WIDTH) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    for table in tables(summary):
        console.print(table)
    return out.getvalue()


def full_summary(modes: tuple[str, ...], sets: int = 1) -> Summary:
    """Every column at its widest."""
    quality = {"precision": figure(1300, 1319), "recall": figure(1319, 1319), "unparseable": 1319}
    gain = {"gain": -1.0, "stderr": 0.1234, "p": 1e-9, "n": 1319, "better": False, "worse": True}
    counts = {"unparseable": 8192, "clipped": 8192, "failed": 8192, "kept": 8190, "sampled": 65536}
    figures = {mode: figure(1300, 1319, failed=1319, no_answer=1318, clipped=6595) for mode in modes}
    of_round = {"counts": counts, "kept": 8190, "sampled": 65536, "controls": {"passed": 32, "rows": 32}}
    refused = dict.fromkeys(REFUSALS, 8192)
    own = {"wanted": 8192, "given": 8191, "prompts": 8190, "texts": 81920, "empty": 8192, "failed": 8192}
    of_round["written"] = {**own, "refused": refused}
    of_round |= {f"data_{kind}": figure(8191, 8192) for kind in ("first", "candidates", "kept")}
    rows = [
        Row(
            f"round {n}",
            f"set {s}",
            **figures,
            right_to_wrong=1319,
            wrong_to_right=1319,
            verdict=quality,
            gain=gain,
            **of_round,
        )
        for n in (9, 1000)
        for s in range(sets)
    ]
    return Summary("runs/mine", True, rows, [])


@pytest.mark.parametrize("modes", [("direct", "refined"), ("direct", "refined", "consistency", "both")])
def test_the_tables_are_whole_at_80_columns_with_every_figure_at_its_widest(modes: tuple[str, ...]) -> None:
    summary = full_summary(modes, sets=2)
    text = shown(summary)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.split() == shown(summary, 400).split()  # nothing is wrapped or left out
    for words in ("failed 1319", "no answer 1318", "clipped 6595", "[97.8, 99.1]", "± 12.3", "p <0.001"):
        assert words in text
    for words in (
        "8190/65536",
        "unparseable 8192",
        "32/32",
        "8190/8192",
        "8192 evaluation",
        "[99.9, 100]",
        "set 0: accuracy in %",
        "set 1: accuracy",
    ):
        assert words in text


def test_demands_are_shown_by_their_kind_for_each_scorer_that_has_some() -> None:
    long = "length_constraints:nth_paragraph_first_word"

    def of(met: int) -> dict[str, Any]:
        return figure(met, 9) | {"by_kind": {long: asdict(proportion([True] * met + [False] * (9 - met)))}}

    rows = [
        Row(name, "s", of(met), further={"loose": {"direct": of(9)}}) for name, met in (("meta", 3), ("round 1", 6))
    ]
    text = shown(Summary("r", True, rows, []))
    assert max(map(len, text.splitlines())) <= 80
    assert [line.rstrip() for line in text.splitlines()].count("s: demands met, by kind in %") == 1
    assert "s: demands met, by kind in %, by loose" in text
    assert [line.split()[1:] for line in text.splitlines() if line.startswith(long)] == [
        ["33.3", "66.7"],
        ["100", "100"],
    ]


def test_a_set_of_which_no_row_could_be_run_has_no_figure_and_none_right_has_no_zero_width() -> None:
    rows = [Row("meta", "s", figure(0, 0, failed=8)), Row("round 1", "s", figure(0, 32))]
    text = shown(Summary("r", True, rows, []))
    assert [line.split() for line in text.splitlines()[3:]][:3] == [
        ["meta", "-", "-", "-"],
        ["failed", "8"],
        ["round", "1", "0.0", "[0.0,", "10.7]", "-", "-"],
    ]
    assert "±" not in text


def test_names_and_texts_of_others_do_no_more_to_a_terminal_than_to_stand_there() -> None:
    text = shown(Summary("x", True, [replace(row("[bold]meta", 100), set="[/b][link=http://x]")], []), 200)
    assert "[/b][link=http://x]: accuracy" in text
    assert "[bold]meta" in text
    out = io.StringIO()
    Reporter(Console(file=out, width=200)).warn("a title \x1b]0;gone\x07 and a \x9b2J")
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()


def test_ifevals_four_figures_are_shown_with_their_intervals_and_the_prompts_that_are_left_out() -> None:
    def by(prompts: int, instructions: list[list[bool]], **lost: int) -> dict[str, Any]:
        return {"direct": figure(prompts, 40, demands=of_clusters(instructions), **lost)}

    strict = by(10, [[True, False]] * 20 + [[True]] * 20, demands_not_scored=2)
    loose = {"constraints, loose": by(20, [[True, True]] * 15 + [[False]] * 25)}
    selection = {"taken": 40, "of": 541, "columns": ["instruction_id_list"]}
    scorers = ("constraints", "constraints, loose")
    rows = [
        Row(name, "ifeval", **strict, scorers=scorers, further=loose, selection=selection) for name in ("base", "meta")
    ]
    text = shown(Summary("r", True, rows, []))
    assert "40 of 541 rows; 501 have other values of instruction_id_list" in " ".join(text.split())
    for told in ("25.0 [14.2, 40.2]", "50.0 [35.2, 64.8]", "66.7 [", "54.5 [", "not scored 2", "demands met in %"):
        assert told in text, told
    assert max(map(len, text.splitlines())) <= WIDTH
