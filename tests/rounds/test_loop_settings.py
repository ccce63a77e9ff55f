"""The loop with its other settings: several turns and samples, ratings and own files, warnings, the early end."""

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loop_helpers import TRAIN, Heard, config, run

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.checkpoint import is_complete, open_model
from selfevo_jax.config import Config
from selfevo_jax.data import EvaluationRow, MetaRow, jsonl_lines
from selfevo_jax.errors import ConfigError, DataError, EmptySelectionError
from selfevo_jax.evaluate import EvaluationSet
from selfevo_jax.judges import VerdictJudge
from selfevo_jax.report import status, summarize, transcripts, verdict_on_run
from selfevo_jax.rounds import Controller
from selfevo_jax.rounds.controls import judge_planted
from selfevo_jax.rounds.curation import curate
from selfevo_jax.rounds.measure import measure
from selfevo_jax.rounds.meta_stage import check_verdicts, warn_unbalanced
from selfevo_jax.rounds.survey import evaluation_phases, fit_lengths
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.run import RunDir, verify
from selfevo_jax.run.files import read_json, read_rows
from selfevo_jax.run.names import STOPPED
from selfevo_jax.run.retention import worse_than_best
from selfevo_jax.scorers.number import Number

slow = pytest.mark.slow


@slow
def test_several_turns_and_samples_and_every_mode_of_evaluation(tmp_path: Path) -> None:
    rounds = {"number": 1, "variant": "continual_mixed", "select": "none", "turns": 2, "controls": 0}
    c = config(
        tmp_path / "run",
        rounds=rounds,
        data__samples_per_prompt=2,
        # enough to make feedback parseable, so that chains go on to their second turn
        meta={**TRAIN, "steps": 40, "learning_rate": 2e-3, "direct_share": 0.15},
        evaluate={"modes": ["direct", "refined", "consistency", "both"], "k": 2},
    )
    run(c)
    part = tmp_path / "run/rounds/0001/rollouts/part-00000.jsonl"
    rollouts = [Rollout.from_dict(row) for row in read_rows(part)]
    assert sorted(r.sample for r in rollouts) == [0] * 16 + [1] * 16
    assert len({(r.id, r.sample) for r in rollouts}) == 32
    two_turns = [r for r in rollouts if len(r.candidates) == 3]
    assert two_turns
    for r in rollouts:
        for candidate in r.candidates[:-1]:  # a turn is taken only where the verdict was bad
            assert candidate.feedback is not None
            assert candidate.feedback.good is False
    base, after = (read_json(tmp_path / f"run/evaluations/{name}.json")["stories"] for name in ("base", "0001"))
    assert base["consistency"]["n"] == after["consistency"]["n"] == after["both"]["n"] == 16
    assert base["both"] is None
    assert base["refined"] is None  # a base that was taught no feedback is not asked for any


def own_files(folder: Path, held: Sequence[object] = ("number", {"regex": "(?s)(.*)", "name": "whole"})) -> Config:
    """A run on JSONL files with ratings in place of verdicts."""

    def write(name: str, rows: list[dict]) -> str:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(folder / name)

    def story(i: int) -> str:
        return f"Mia has {i} shells. Then Mia finds 5. How many now?"

    meta = [
        {
            "prompt": story(i),
            "response": f"The answer is {given}.",
            "feedback": f"{i} plus 5 is {i + 5}. Rating: {10 if given == i + 5 else 2}",
            "refinement": f"The answer is {i + 5}.",
            "good": given == i + 5,
        }
        for i in range(4)
        for given in (i + 5, i + 6)
    ]
    data = {
        "prompts": write("prompts.jsonl", [{"prompt": story(i), "target": i + 5} for i in range(4, 8)]),
        "meta_skill": write("meta.jsonl", meta),
        "qa": write("qa.jsonl", [{"prompt": story(8), "answer": "The answer is 13."}]),
        "evaluation": {
            "held": {
                "source": write("held.jsonl", [{"prompt": story(9), "target": "14"}]),
                "scorers": held,
                "columns": {"answer": "target"},
            }
        },
    }
    return config(
        folder / "run",
        data=data,
        judge={"kind": "rating", "good_rating": 8},
        rounds={"number": 1, "variant": "restart", "select": "none", "controls": 0},
    )


@slow
def test_own_files_with_ratings_run_and_changed_files_are_refused(tmp_path: Path) -> None:  # C27
    c = own_files(tmp_path)
    run(c)
    summary = summarize(RunDir(tmp_path / "run"))
    assert summary.complete
    assert [(row.checkpoint, row.set) for row in summary.rows] == [(n, "held") for n in ("base", "meta", "round 1")]
    training = read_json(tmp_path / "run/rounds/0001/metrics.json")["training"]
    assert set(training["examples"]) == {"self", "direct", "meta", "qa"}
    assert read_json(tmp_path / "run/rounds/0001/metrics.json")["data_accuracy"]["first"]["n"] == 4
    assert [row.further["whole"]["direct"]["n"] for row in summary.rows] == [1, 1, 1]
    (text,) = read_rows(tmp_path / "run/evaluations/0001/held.jsonl")
    assert text["columns"] == {"answer": "14"}
    assert text["grades"]["direct"].keys() == {"number", "whole"}
    with pytest.raises(ConfigError, match="data.evaluation.held.scorers: "):
        run(own_files(tmp_path, held=["exact"]))
    held = tmp_path / "held.jsonl"
    held.write_text(held.read_text() + json.dumps({"prompt": "one more", "target": 1}) + "\n")
    with pytest.raises(ConfigError, match="data.evaluation.held: other content than at the start"):
        run(c)
    own_files(tmp_path)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(prompts.read_text() + '{"prompt": "one more"}\n')
    with pytest.raises(ConfigError, match="data.prompts: other content than at the start"):
        run(c)


@slow
def test_a_critic_that_passes_planted_wrong_answers_is_warned_of(finished: Path, tmp_path: Path) -> None:  # C44
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    file = copy / "rounds/0002/controls.json"
    found = read_json(file)
    assert all(row["wrong"] and row["feedback"] for row in found["controls"])
    rows = [{**row, "good": n > 0} for n, row in enumerate(found["controls"])]
    RunDir(copy).write_json(file, {**found, "passed": found["rows"] - 1, "controls": rows})
    heard = Heard()
    judge_planted(Controller(config(copy), heard).loop, 2, [])
    assert [line for line in heard.lines if line.startswith("warning: round 2")] == [
        "warning: round 2: the critic calls 3 of 4 planted wrong answers good (75%); its filter does not discriminate"
    ]


def all_right(run_dir: RunDir, name: str) -> None:
    """Makes a checkpoint the best by far, in the record of its evaluation."""
    found = read_json(run_dir.evaluation(name))
    found["stories"]["right"]["direct"] = dict.fromkeys(found["stories"]["right"]["direct"], True)
    run_dir.write_json(run_dir.evaluation(name), found)


@slow
def test_a_run_that_ends_where_a_round_is_worse_than_the_best_keeps_the_best_and_goes_on_when_told(
    finished: Path, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    all_right(RunDir(root), "meta")
    saving = {"keep_last": 1, "keep_best": False}
    heard = run(config(root, rounds__number=5, rounds__stop_when_worse=True, saving=saving))
    (line,) = (line for line in heard.lines if "the run ends here" in line)
    assert line.startswith("warning: round 1 is worse than meta, the best so far (-")
    assert "16 rows" in line
    assert "rounds.stop_when_worse; with false it goes on" in line
    assert not (root / "rounds/0003").exists()
    assert read_json(root / STOPPED)["round"] == 1
    assert (summarize(RunDir(root)).complete, summarize(RunDir(root)).stopped) == (True, 1)
    assert str(status(RunDir(root)).stopped).startswith("round 1 is worse than meta, the best so far")
    assert is_complete(root / "checkpoints/meta")
    going_on = config(root, rounds__number=3)
    run(going_on)
    assert is_complete(root / "checkpoints/0003")
    found = summarize(RunDir(root))
    assert (found.complete, found.stopped) == (True, None)
    assert status(RunDir(root)).left == 0


@slow
def test_a_round_is_compared_with_the_best_so_far_and_not_with_the_one_before(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    all_right(RunDir(root), "meta")
    assert str(worse_than_best(RunDir(root), 2)).startswith("worse than meta, the best so far")
    all_right(RunDir(root), "0002")
    assert worse_than_best(RunDir(root), 2) is None
    right = {n: read_json(root / f"evaluations/{n}.json")["stories"]["right"]["direct"] for n in ("meta", "0001")}
    assert set(right["meta"]) == set(right["0001"])
    assert verdict_on_run(summarize(RunDir(root))).startswith("Direct accuracy from meta to round 2: no measurable")


@slow
def test_a_removal_that_a_kill_broke_off_is_finished_at_the_next_start(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    root = tmp_path / "run"
    shutil.copytree(finished, root)
    saving = config(root, saving={"keep_last": 1, "keep_best": False})
    with monkeypatch.context() as patched:
        patched.setattr(RunDir, "_remove_arrays", killed)
        with pytest.raises(Killed):
            run(saving)
    (half,) = (root / "checkpoints").glob("*/REMOVED")
    assert (half.parent / "params").exists()
    heard = Heard()
    Controller(saving, heard).close()
    assert not (half.parent / "params").exists()
    assert any(f"the removal of checkpoint {half.parent.name} had been broken off" in line for line in heard.lines)
    assert verify(RunDir(root)).faults == []


class Hinting(Number):
    def hint(self, rows, texts):
        return f"of {len(texts)} answers"


@slow
def test_rows_that_do_not_fit_in_the_cache_are_told_with_their_counts_and_are_in_no_figure(tmp_path: Path) -> None:
    bench, heard = open_workbench(config(tmp_path / "run")), Heard()
    question = "Mia has {} shells. Then Mia finds 5. How many now?"
    short = [EvaluationRow(f"s{i}", question.format(i), {"answer": i + 5}) for i in range(2)]
    long = [EvaluationRow(f"l{i}", f"Mia has {i} shells." * 60, {"answer": 1}) for i in range(6)]
    both, alone = (EvaluationSet(rows, [Hinting()]) for rows in ([*short, *long], long))
    fit_lengths(bench, evaluation_phases(bench, short, 1, judge=False))
    found, _ = measure(bench, bench.base_params(), both, "held", heard, judge=False)
    assert (found["direct"]["n"], found["direct"]["failed"]) == (2, 6)
    assert found["right"]["direct"].keys() == {row.id for row in [*short, *long]}
    told = "6 of 8 rows could not be run; sampling.cache_length is 128; the first: prompt 'l0'"
    assert any(line.startswith(f"warning: held: {told}") for line in heard.lines)
    assert "warning: held: of 2 answers" in heard.lines
    with pytest.raises(ConfigError, match="6 of 6 rows could not be run.*raise sampling.cache_length"):
        measure(bench, bench.base_params(), alone, "held", heard, judge=False)


@pytest.mark.parametrize(
    ("more", "told"), [({}, True), ({"mesh__data": 8}, False), ({"sampling__dtype": "bfloat16"}, False)]
)
def test_a_run_that_could_sample_faster_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], told: bool
) -> None:
    heard = Heard()
    monkeypatch.setattr("selfevo_jax.rounds.opening.problem", lambda: "there is no C compiler")
    with contextlib.closing(Controller(config(tmp_path / "run", **more), heard)):
        assert ("warning: there is no C compiler" in heard.lines) == told


@slow
def test_a_round_that_keeps_too_little_says_why_and_names_the_command_that_goes_on(tmp_path: Path) -> None:
    said = Feedback("f", "stop", None, None)
    unread = [Rollout(f"{i}", 0, f"p{i}", (Candidate("1", "stop", (5,), said),), 0) for i in range(9)]
    long = [
        Rollout(f"{i}", 0, f"p{i}", (Candidate("", "error", ()),), 0, "the prompt has 300 tokens") for i in range(9)
    ]
    good = Rollout("g", 0, "g", (Candidate("1", "stop", (5,), Feedback("f", "stop", True, None)),), 0)
    root, heard = tmp_path / "run", Heard()
    way_on = f"`selfevo fork {root} NEW --from meta KEY=VALUE` goes on from there with other settings"
    with contextlib.closing(Controller(config(root, rounds__select="feedback"), heard)) as controller:
        with pytest.raises(
            EmptySelectionError, match=r"9 of 9 rows could not be run; sampling.cache_length is 128"
        ) as e:
            curate(controller.loop, 1, long)
        assert str(e.value).endswith(way_on)
        curate(controller.loop, 1, [*unread, good])
    assert heard.lines[-1].startswith(
        "warning: round 1 is weak: 1 of 10 rows passed the filter (clipped 0, unparseable"
    )
    assert heard.lines[-1].endswith(way_on)


@slow
def test_every_step_of_a_training_lies_beside_its_checkpoint_and_under_its_checksums(finished: Path) -> None:
    for name, first in (("meta", 1e-3), ("0001", 1e-3)):
        rows = read_rows(finished / "checkpoints" / name / "losses.jsonl")
        training = read_json(finished / "checkpoints" / name / "metadata.json")["training"]
        assert [row["step"] for row in rows] == [1, 2, 3, 4]
        assert (rows[0]["loss"], rows[-1]["loss"]) == (training["loss_first"], training["loss_last"])
        assert sum(row["tokens"] for row in rows) == training["tokens"]
        assert rows[0]["learning_rate"] == pytest.approx(first)
        assert all(row["grad_norm"] > 0 for row in rows)
        assert f"checkpoints/{name}/losses.jsonl" in RunDir(finished).sums.names()


@slow
def test_transcripts_of_a_run_come_from_its_last_checkpoint_that_has_one(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "evaluations", tmp_path / "evaluations")
    for name in ("0001", "0002"):
        texts = tmp_path / "evaluations" / name / "stories.jsonl"
        rows = read_rows(texts)
        for row in rows:
            for grades in row["grades"].values():
                grades["number"]["value"] = 1.0
        texts.write_bytes(b"".join(jsonl_lines(rows)))
    found = transcripts(RunDir(tmp_path), "stories")
    assert [t.checkpoint for t in found] == ["0002"]
    assert found[0].gold in {row["columns"]["answer"] for row in rows}


ROW = MetaRow("1", "p", "r", "It holds. Verdict: correct.", "r", True)


def test_unbalanced_meta_rows_are_warned_of_with_their_counts() -> None:
    heard = Heard()
    warn_unbalanced([ROW] * 9 + [MetaRow("2", "p", "r", "Verdict: incorrect.", "s", False)], heard)
    assert heard.lines[0] == "  D_meta: 10 rows, 9 right and 1 wrong responses"
    assert heard.lines[1].startswith("warning: D_meta is unbalanced: 1 of 10 responses are wrong")
    assert heard.lines[2].startswith("warning: D_meta has 10 rows; of fewer than 60 the model learns the form")


@pytest.mark.parametrize(
    ("feedback", "said"),
    [
        ("It holds. Verdict: incorrect.", "its verdict is bad, good is true"),
        ("It holds.", "its verdict cannot be parsed"),
    ],
)
def test_feedback_whose_verdict_is_not_the_rows_own_is_refused(feedback: str, said: str) -> None:
    bad = MetaRow("7", "p", "r", feedback, "r", True)
    with pytest.raises(DataError, match=f"m.jsonl, .*in 1 of 3 rows .*number 2 .* first in row '7': {said}"):
        check_verdicts([ROW, bad, ROW], VerdictJudge(), "m.jsonl")


@slow
def test_rounds_that_learn_adapters_keep_them_or_merge_them_with_the_same_result(tmp_path: Path) -> None:
    reports = {}
    for save in ("merged", "adapters"):
        lora = {"rank": 4, "alpha": 8.0, "save": save}
        root = tmp_path / save
        run(config(root, meta={**TRAIN, "lora": lora}, learn={**TRAIN, "lora": lora}, sampling__tensor=1))
        reports[save] = [read_json(root / f"evaluations/{name}.json") for name in ("meta", "0002")]
        found = open_model(str(root / "checkpoints/0002")).load(None, jnp.float32)
        reports[save].append(jax.device_get(found))
    assert reports["merged"][:2] == reports["adapters"][:2]
    jax.tree.map(np.testing.assert_array_equal, *(found[2] for found in reports.values()))
    described = read_json(tmp_path / "adapters/checkpoints/0002/adapters.json")
    assert (described["of"], described["rank"]) == ("beside:0001", 4)
    folders = [tmp_path / save / "checkpoints/0002/params" for save in reports]
    merged, adapters = (sum(file.stat().st_size for file in f.rglob("*") if file.is_file()) for f in folders)
    assert adapters < merged / 4


def test_a_preset_of_another_shape_than_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model.preset: tiny has d_model 64, but builtin:stories has"):
        open_workbench(config(tmp_path / "run", model={"source": "builtin:stories", "preset": "tiny"}))
