"""Parts from outside the package: named in the config, they make a round as ours do."""

import json
from pathlib import Path

import pytest
from loop_helpers import Heard, config, run

from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import open_judge
from selfevo_jax.methods import open_method
from selfevo_jax.report import status, summarize
from selfevo_jax.rounds.outside import tell_code
from selfevo_jax.run import RunDir, verify
from selfevo_jax.tasks import open_task
from selfevo_jax.train import train_settings


def learning(config):
    return train_settings(config.learn, 0)


@pytest.mark.slow
def test_a_part_of_each_kind_from_outside_makes_a_round(tmp_path: Path) -> None:
    heard = run(
        config(
            tmp_path / "run",
            data={"task": "toys:Shouting", "settings": {"prompts": 9}},
            judge={
                "kind": "toys:Loudness",
                "settings": {"word": "quiet"},
                "batch": {"kind": "toys:Brief", "settings": {"most": 500}},
            },
            method={"name": "toys:Twice", "settings": {"factor": 2}},
            rounds={"number": 1, "controls": 2},
        )
    )
    metrics = json.loads((tmp_path / "run/rounds/0001/metrics.json").read_text())
    assert metrics["counts"]["sampled"] == 9
    rollouts = [json.loads(line) for line in (tmp_path / "run/rounds/0001/rollouts/part-00000.jsonl").open()]
    assert all(len(row["candidates"]) == 3 for row in rollouts)
    longest = [max(len(answer["text"]) for answer in row["candidates"]) for row in rollouts]
    assert [len(row["candidates"][row["chosen"]]["text"]) for row in rollouts] == longest
    assert len({answer["text"] for row in rollouts for answer in row["candidates"]}) > len(rollouts)
    assert 0 < metrics["training"]["examples"]["self"] == 2 * metrics["counts"]["kept"]
    assert metrics["training"]["objective"] == "margin"
    assert metrics["training"]["loss_last"] < metrics["training"]["loss_first"]
    assert metrics["controls"] == {"rows": 2, "passed": 2}
    assert metrics["judge"]["name"] == "brief"
    assert metrics["counts"]["judged_good"] == metrics["judge"]["judged"] > 0
    held = json.loads((tmp_path / "run/evaluations/0001.json").read_text())["held"]
    assert held["scorers"] == ["letters"]
    assert any("method twice reads labels in its rounds" in line for line in heard.lines)
    assert "  D_meta is made of: 8 made up" in heard.lines
    assert "8 rows (8 made up)" in [phase.detail for phase in status(RunDir(tmp_path / "run")).phases]
    assert summarize(RunDir(tmp_path / "run")).complete
    assert verify(RunDir(tmp_path / "run")).faults == []


def test_code_that_has_changed_since_a_run_last_went_on_is_told_once_and_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "parts_of_mine.py"
    file.write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    judge = {"kind": "parts_of_mine:Mine", "batch": {"kind": "toys:Brief"}}
    made = config(tmp_path / "run", judge=judge)

    def told(config: Config) -> list[str]:
        heard, dir = Heard(), RunDir(tmp_path / "run")
        dir.open(config, {"model": "m"})
        tell_code(dir, config, heard)
        dir.close()
        return heard.lines

    assert told(made) == []  # a run that was begun before code was noted has none
    assert sorted(json.loads((tmp_path / "run/code.json").read_text())) == ["judge.batch.kind", "judge.kind"]
    assert told(made) == []
    file.write_text("class Mine:\n    other = 1\n")
    (line,) = told(made)
    assert line.startswith("warning: judge.kind: the file of its code is not what it was when this run last went on")
    assert told(made) == []
    (tmp_path / "run/code.json").write_text("{}")
    assert told(made) == []  # a file of a person's making says nothing
    assert verify(RunDir(tmp_path / "run")).faults == []


@pytest.mark.parametrize(
    ("changes", "open_part", "message"),
    [
        ({"data": {"task": "toys:Shouting"}}, open_task, r"data.task: toys:Shouting fails: KeyError"),
        ({"data": {"task": "toys:Whispering"}}, open_task, r"data.task: 'toys:Whispering' cannot be imported"),
        (
            {"data__settings": {"prompts": 9}},
            open_task,
            r"data.settings: those of a task from outside the package, but",
        ),
        ({"data": {"task": "shouting"}}, open_task, r"data.task: no 'shouting'"),
        ({"judge": {"kind": "toys:Loudness"}}, lambda c: open_judge(c.judge), r"judge.kind: toys:Loudness fails"),
        ({"judge": {"settings": {"a": 1}}}, lambda c: open_judge(c.judge), r"judge.settings: verdict has none here"),
        ({"method": {"name": "self_refin"}}, open_method, r"method.name: no 'self_refin'; did you mean 'self_refine'"),
        (
            {"method": {"name": "self_training"}},
            open_method,
            r"^rounds.select: found none, but self_training does not read it; leave it out\nrounds.controls: found 4, ",
        ),
        (
            {"judge": {"batch": {"kind": "pairwise"}}, "rounds": {"turns": 0}},
            open_method,
            r"rounds.turns: found 0, but pairwise compares a refinement with its response; set it to 1 or more",
        ),
        (
            {"judge": {"batch": {"kind": "scorer"}}, "rounds": {"turns": 0, "select": "none"}},
            open_method,
            r"judge.batch: found scorer, but self_refine with rounds.turns 0 and rounds.select none does not read it",
        ),
        (
            {"data": {"task": "toys:Brief"}},
            open_task,
            r"data.task: toys:Brief gives a Brief without .*expected a Task",
        ),
        ({"method": {"settings": {"a": 1}}}, open_method, r"method.settings: self_refine has none here"),
        ({"learn__objective": {"name": "toys:Margin"}}, learning, r"objective.name: toys:Margin fails: TypeError"),
        ({"learn__objective": {"settings": {"a": 1}}}, learning, r"objective.settings: sft has none"),
    ],
)
def test_a_part_that_is_not_there_or_fails_is_told_with_its_key(tmp_path: Path, changes, open_part, message) -> None:
    with pytest.raises(ConfigError, match=message):
        open_part(config(tmp_path, **changes))
