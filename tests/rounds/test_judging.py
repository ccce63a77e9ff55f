"""Rounds whose rows a batch judge decides about: a server, pairs by the model itself, the task's scorer."""

import functools
import json
import shutil
from pathlib import Path
from zlib import crc32

import pytest
from completions_server import serving
from loop_helpers import Heard, config, run, texts

from selfevo_jax import read_run
from selfevo_jax.chains import Rollout
from selfevo_jax.config import Config
from selfevo_jax.data import EvaluationRow, PromptRow
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import JudgePrompt, VerdictJudge, asking, by_pairs, endpoint
from selfevo_jax.report import chains_of, status, summarize, verdict_on_run
from selfevo_jax.rounds.judging import require_gold
from selfevo_jax.run import RunDir, share, verify
from selfevo_jax.run import costs as costs_of
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.journal import Journal
from selfevo_jax.text import Verdict

pytestmark = pytest.mark.slow

ROUNDS = {"number": 1, "variant": "continual_mixed", "select": "feedback", "controls": 4}
ROUND = "rounds/0001"


class Killed(Exception):
    pass


def begun(root: Path, finished: Path, batch: dict, **rounds: object) -> Config:
    """A run with a batch judge that begins with what the finished one has of equal inputs, its rollouts too."""
    made = config(root, judge={"batch": batch}, rounds={**ROUNDS, **rounds})
    taken = [one.artefact for one in share(made, [RunDir(finished)], Heard())]
    assert "rollouts of round 1" in taken
    assert "M_1" not in taken
    return made


def rolled_out(root: Path) -> list[Rollout]:
    return [Rollout.from_dict(row) for row in read_rows(root / ROUND / "rollouts/part-00000.jsonl")]


FAULTS = ("429", "500", "hang up", "half json", "half body", "no choices")


def verdict(prompt: str, n: int) -> str | None:
    """A server that is busy and broken at first, sometimes slow, and knows a good answer by its length."""
    answer = prompt.partition("Start of the Answer]\n")[2].partition("\n[The End")[0]
    if n == 1 and len(prompt) % 5 == 0:
        return FAULTS[crc32(prompt.encode()) % len(FAULTS)]
    slow = "slow " if len(prompt) % 7 == 0 else ""
    if len(answer) % 4 == 0:
        return f"{slow}says Who knows?"
    return f"{slow}says Let me see. Verdict: {'correct' if len(answer) % 2 else 'incorrect'}."


def test_a_killed_round_asks_a_server_only_what_is_not_answered_and_ends_as_if_undisturbed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openai")
    monkeypatch.setattr(endpoint, "Pace", lambda *a, **k: asking.Pace(*a, **k, first_wait=0.01))
    append = Journal.append

    def dies(self: Journal, row: dict) -> None:
        append(self, row)
        if self.path.name == "answers.jsonl" and len(self.rows) == 5:
            raise Killed

    with serving(verdict) as server:
        batch = {"kind": "endpoint", "endpoint": {"url": server.url, "model": "big", "concurrency": 1}}
        killed, whole = (begun(tmp_path / name / "run", finished, batch) for name in ("killed", "whole"))
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "append", dies)
            with pytest.raises(Killed):
                run(killed)
        root = Path(killed.run_dir)
        phase = next(p for p in status(RunDir(root)).phases if p.name == "round 1: judged")
        assert (phase.state, phase.detail) == ("partly", "5 answers (endpoint, by big)")
        assert verify(RunDir(root)).faults == []
        assert "  5 judgements are kept" in run(killed).lines
        answered = [read_rows(root / ROUND / folder / "answers.jsonl") for folder in ("judged", "controls")]
        failed_once = sum(len(prompt) % 5 == 0 for prompt in server.asked)
        assert server.asked.total() == sum(map(len, answered)) + failed_once
        assert 0 < failed_once < len(server.asked)
        met = {verdict(prompt, 1) for prompt in server.asked}
        assert len(met & set(FAULTS)) >= 3
        assert any(said.startswith("slow ") for said in met)
        run(whole)
    assert texts(root) == texts(Path(whole.run_dir))
    # chosen and kept by what the server said, whatever the model's own feedback was
    rows = read_rows(root / ROUND / "judged/part-00000.jsonl")
    good = {
        (row["id"], row["sample"]): [a["good"] for a in row["candidates"]].index(True)
        for row in rows
        if any(a["good"] for a in row["candidates"])
    }
    kept = read_rows(root / ROUND / "self_curated.jsonl")
    assert 0 < len(kept) <= len(good) < len(rows) == 16
    by_id = {(r.id, r.sample): r for r in rolled_out(root)}
    assert all(by_id[key].candidates[at].text for key, at in good.items())
    answers = {key: by_id[key].candidates[at].text for key, at in good.items()}
    assert all(row["answer"] == answers[row["id"], row["sample"]] for row in kept)
    metrics = json.loads((root / ROUND / "metrics.json").read_text())
    assert metrics["judge"]["name"] == "endpoint"
    assert metrics["judge"]["unread"].keys() == {"no verdict"}
    assert metrics["counts"]["unparseable"] > 0
    assert metrics["controls"]["rows"] == len(read_rows(root / ROUND / "controls/answers.jsonl")) == 4
    costs = [cost for cost in read_rows(root / "costs.jsonl") if cost["phase"] == "round 1: judged by endpoint"]
    assert sum(cost["questions"] for cost in costs) == len(read_rows(root / ROUND / "judged/answers.jsonl"))
    assert sum(cost["prompt_tokens"] for cost in costs) == 7 * sum(cost["questions"] for cost in costs)
    judged = [cost for cost in costs_of(RunDir(root)) if cost.kind == "judged"]
    assert sum(cost.prompt_tokens for cost in judged) == sum(cost["prompt_tokens"] for cost in costs)
    assert summarize(RunDir(root)).complete
    assert verify(RunDir(root)).faults == []
    (root / ROUND / "judged/answers.jsonl").unlink()
    assert any("answers.jsonl: missing; the run goes on without it" in line for line in run(killed).lines)


def test_labels_are_a_baseline_that_says_so_everywhere(finished: Path, tmp_path: Path) -> None:
    c = begun(tmp_path / "run", finished, {"kind": "scorer"})
    told = run(c)
    root = RunDir(c.run_dir)
    assert any("judge scorer reads labels in its rounds: a baseline" in line for line in told.lines)
    assert "Labels are read in the rounds, by judge scorer: a baseline, no self-improvement." in status(root).lines()
    assert "16 chains (scorer, which reads labels)" in [phase.detail for phase in status(root).phases]
    summary = summarize(root)
    assert summary.labels == "judge scorer"
    assert "The rounds read labels, by judge scorer" in verdict_on_run(summary)
    chains = list(read_run(c.run_dir).chains(1))
    assert [chain.chosen for chain in chains] == [entry.rollout.chosen for entry in chains_of(root, 1)]
    assert all(one.assessment is not None for chain in chains for one in chain.candidates)
    metrics = json.loads((root.root / ROUND / "metrics.json").read_text())
    assert metrics["data_accuracy"]["kept"]["share"] == 1.0
    assert metrics["counts"]["judged_good"] > 0
    assert metrics["reads_labels"] == ["judge scorer"]
    assert not (root.root / ROUND / "judged/answers.jsonl").exists()
    assert verify(root).faults == []


def test_labels_that_prompts_have_not_are_refused_by_the_prompt() -> None:
    with pytest.raises(ConfigError, match=r"2 of the 3 prompts of round 1 have none that can be scored .*'b'"):
        require_gold({"a": EvaluationRow("a", "a")}, [PromptRow(id, id) for id in "abc"], 1)


def test_the_model_itself_compares_its_refinements_and_a_kill_leaves_the_same_texts(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = JudgePrompt("", "{question} {answer_a} or {answer_b}?", "Best: [[")  # this model has little room
    monkeypatch.setattr(by_pairs, "mt_bench_pair", lambda: short)
    # feedback that can be read, and so a refinement, which only a judge that compares has made of what is good
    monkeypatch.setattr(VerdictJudge, "read", lambda self, text: Verdict(True, None))
    rounds = {**ROUNDS, "select": "none"}  # this model knows no such verdict
    made = functools.partial(config, judge={"batch": {"kind": "pairwise", "ties": "keep"}}, rounds=rounds)
    append, killed, whole = Journal.append, tmp_path / "killed/run", tmp_path / "whole/run"

    def dies(self: Journal, row: dict) -> None:
        append(self, row)
        if self.path.parent.name == "judged" and len(self.rows) == 3:
            raise Killed

    assert [one.artefact for one in share(made(killed), [RunDir(finished)], Heard())][-1] == "evaluation of M_meta"
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", dies)
        with pytest.raises(Killed):
            run(made(killed))
    shutil.copytree(killed, whole)
    shutil.rmtree(whole / ROUND / "judged")
    run(made(killed))
    run(made(whole))
    assert texts(killed) == texts(whole)
    two = [r for r in rolled_out(killed) if len(r.candidates) == 2]
    pairs = [r for r in two if all(c.finished and c.text.strip() for c in r.candidates)]
    differ = [r for r in pairs if len({c.text.strip() for c in r.candidates}) == 2]
    assert pairs
    answers = read_rows(killed / ROUND / "judged/answers.jsonl")
    assert len(answers) == 2 * len(differ) > 0
    assert json.loads((killed / ROUND / "metrics.json").read_text())["judge"]["name"] == "pairwise"
    assert verify(RunDir(killed)).faults == []
