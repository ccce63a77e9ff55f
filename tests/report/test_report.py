import io

from rich.console import Console

from selfevo_jax.progress import Reporter
from selfevo_jax.report import pick, verdict_on_run
from selfevo_jax.report.summary import Row, Summary
from selfevo_jax.report.table import table
from selfevo_jax.sample import Candidate, Feedback, Rollout


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
    found = pick([("meta", r) for r in rows], {r.id: "9" for r in rows})
    assert [t.rollout.id for t in found] == ["mended", "alone", "spoilt"]


def row(checkpoint: str, share: float) -> Row:
    direct = {"share": share, "stderr": 0.02, "n": 500}
    return Row(checkpoint, "s", direct, None, None, None, 0, 0, None)


def test_the_last_sentence_says_better_worse_or_within_the_noise() -> None:
    def said(share: float) -> str:
        return verdict_on_run(Summary("r", True, [row("base", 0.1), row("meta", 0.2), row("round 1", share)], []))

    assert "better by +40.0 points" in said(0.6)
    assert "worse by -10.0 points" in said(0.1)
    assert "no measurable change" in said(0.22)


def test_names_and_texts_of_others_do_no_more_to_a_terminal_than_to_stand_there() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=False)
    console.print(table(Summary("[/b][link=http://x]", True, [row("[bold]meta", 0.2)], [])))
    assert "[/b][link=http://x]: accuracy" in out.getvalue()
    assert "[bold]meta" in out.getvalue()
    Reporter(console).warn("a title \x1b]0;gone\x07 and a \x9b2J")
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()
