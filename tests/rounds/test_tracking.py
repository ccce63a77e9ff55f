"""Trackers follow a run, or are told of it afterwards: the same, once; and whatever they do, the run goes on."""

import hashlib
import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lock_helpers import owned_by_a_living_process
from loop_helpers import Heard, config
from typer.testing import CliRunner

import selfevo_jax.cli  # noqa: F401 - it brings the commands to `app`
from selfevo_jax import hosts
from selfevo_jax.cli.common import app
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.lazy import install
from selfevo_jax.run import RunDir, costs, following, replay
from selfevo_jax.run.events import Events
from selfevo_jax.run.following import Following, TrackerLock, about, trackers_of
from selfevo_jax.run.lock import LockError
from selfevo_jax.trackers import Scalars, Settings, Texts

STEPS, ROUNDS = 4, 2


def all_of(run: RunDir, first: int = 0) -> list:
    events, found = Events(run, first), []
    while batch := events.read():
        found += batch
    return found


def sections(*trees: object):
    return config(Path("run"), track=list(trees)).track


def diary(root: Path) -> list:
    return [json.loads(line) for line in (root / "diary").read_text().splitlines()]


def plain(events: list) -> list:
    return json.loads(json.dumps([[type(event).__name__, vars(event)] for event in events]))


@pytest.fixture(scope="module")
def told(finished: Path) -> list:
    return all_of(RunDir(finished))


@pytest.fixture(scope="module")
def written(finished: Path) -> Config:
    return RunDir(finished).read_config()


def test_a_run_tells_its_config_each_step_each_checkpoint_and_each_round_over_axes_that_only_grow(told) -> None:
    assert isinstance(told[0], Settings)
    assert told[0].values["learn.steps"] == STEPS
    steps = [event for event in told if isinstance(event, Scalars) and event.axis == "step"]
    assert [event.at for event in steps] == list(range(1, STEPS * (ROUNDS + 1) + 1))
    assert all({"train/loss", "train/learning_rate"} <= event.values.keys() for event in steps)
    rounds = [event for event in told if isinstance(event, Scalars) and event.axis == "round"]
    assert [event.at for event in rounds] == [-1, 0, 0, 1, 1, 2, 2]
    assert [event.at for event in told if isinstance(event, Texts)] == [1, 2]
    measured = [event.values for event in rounds if "accuracy/stories/direct" in event.values]
    assert len(measured) == 2 + ROUNDS
    assert all(v["accuracy/stories/direct_low"] <= v["accuracy/stories/direct"] for v in measured)
    assert "gain/stories/p" in measured[-1]
    last = rounds[-2].values
    assert last["funnel/sampled"] == 16
    assert {"controls/rows", "cost/training/seconds", "cost/rollouts/tokens", "data/kept"} <= last.keys()


def test_figures_are_those_of_the_run_directory(finished: Path, told) -> None:
    losses = [json.loads(line)["loss"] for line in (finished / "checkpoints/0001/losses.jsonl").open()]
    assert [e.values["train/loss"] for e in told if isinstance(e, Scalars) and STEPS < e.at <= 2 * STEPS] == losses
    figures = json.loads((finished / "evaluations/0002.json").read_text())["stories"]
    assert told[-1].values["accuracy/stories/direct"] == figures["direct"]["share"]
    assert told[-1].values["flips/stories/wrong_to_right"] == figures["wrong_to_right"]


def test_a_task_from_outside_and_without_rows_to_measure_by_tells_the_rest(finished: Path, told, monkeypatch) -> None:
    run = RunDir(finished)
    outside = run.read_config().model_dump(mode="json")
    outside["data"] |= {"task": "toys:Shouting", "stories": None}
    monkeypatch.setattr(run, "read_config", lambda: config(finished, data=outside["data"]))
    monkeypatch.setattr(run, "evaluation", lambda name: finished / "evaluations" / "none.json")
    left = [event for event in all_of(run) if not isinstance(event, Settings)]
    measured = [event for event in told if "accuracy/stories/direct" in getattr(event, "values", {})]
    rest = [event for event in told if event not in measured and not isinstance(event, Settings)]
    assert [event for event in left if set(event.values) - {n for m in measured for n in m.values}] == rest


def test_costs_name_their_phase_and_checkpoint(finished: Path) -> None:
    found = {(cost.kind, cost.of) for cost in costs(RunDir(finished))}
    assert {("evaluation", "base"), ("evaluation", "0002"), ("rollouts", "0001"), ("training", "meta")} <= found
    assert "other" not in {kind for kind, _ in found}


def test_a_tracker_beside_a_run_was_told_while_it_went_on_what_a_replay_tells(finished: Path, told) -> None:
    assert diary(finished / "tracking" / "toys.Diary") == plain(told)


ORDER = ("config", "base", "meta", "meta_measured", *(f"{n}.{p}" for n in (1, 2) for p in ("sampled", "made", "seen")))
"""What a run finishes, one after the other."""


def grown(source: Path, root: Path, stage: str) -> None:
    """Copies what a phase of a finished run makes."""
    number, _, part = stage.partition(".")
    name = f"{int(number):04d}" if number.isdecimal() else stage.removesuffix("_measured")
    files = {
        "config": ["config.yaml", "fingerprints.json", "run.json", "checksums.jsonl", "costs.jsonl"],
        "base": ["evaluations/base.json"],
        "meta": ["meta", "checkpoints/meta/losses.jsonl"],
        "meta_measured": ["evaluations/meta.json"],
        "sampled": [f"rounds/{name}/rollouts"],
        "made": [f"checkpoints/{name}/losses.jsonl", f"rounds/{name}/metrics.json", f"rounds/{name}/COMMITTED"],
        "seen": [f"evaluations/{name}.json"],
    }[part or stage]
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        if (source / file).is_dir():
            shutil.copytree(source / file, root / file)
        else:
            shutil.copy2(source / file, root / file)


@given(
    killed=st.sets(st.integers(0, 2 * len(ORDER))),
    looked=st.sets(st.integers(0, 2 * len(ORDER))),
    heard=st.integers(0, STEPS),
)
@settings(max_examples=20)
def test_killed_at_any_point_and_looking_at_any_time_each_event_is_told_once_and_in_order(
    finished: Path, told, written, tmp_path_factory, killed, looked, heard
) -> None:
    root = tmp_path_factory.mktemp("grown")
    run, found, events = RunDir(root), [], None
    run.read_config = lambda: written  # as the file says, which takes long to read
    for at, stage in enumerate(ORDER, 1):
        name = {"meta": "meta", "1.made": "0001", "2.made": "0002"}.get(stage)
        losses = (finished / "checkpoints" / name / "losses.jsonl").read_text().splitlines() if name else []
        for row in map(json.loads, losses):
            events = events or Events(run, len(found))
            while batch := events.read():
                found += batch
            if row["step"] <= heard:
                found += events.step(name, row)
            if row["step"] == 2 and at in killed:  # trained again from its beginning, or from a step that was saved
                events = Events(run, len(found))
                while batch := events.read():
                    found += batch
                for again in list(map(json.loads, losses))[at % 2 : 2]:
                    found += events.step(name, again)
        grown(finished, root, stage)
        if at in looked:
            events = events or Events(run, len(found))
            while batch := events.read():
                found += batch
        if at in killed:
            events = None
    assert found + all_of(run, len(found)) == told
    shutil.rmtree(root)


def test_a_replay_goes_on_from_what_a_tracker_has_and_a_second_one_adds_nothing(finished: Path, told, tmp_path) -> None:
    run = RunDir(finished)
    (broken,) = sections({"kind": "toys:Diary", "dir": str(tmp_path), "fails_at": 9})
    with pytest.raises(SelfevoError, match=r"track.0: toys:Diary: OSError: no room for more; call it again to go on"):
        replay(run, broken, "track.0")
    (whole,) = sections({"kind": "toys:Diary", "dir": str(tmp_path)})
    assert replay(run, whole, "track.0") == (len(told) - 9, 9)
    assert replay(run, whole, "track.0") == (0, len(told))
    assert diary(next(tmp_path.glob("run-*"))) == plain(told)


def test_one_process_at_a_time_tells_a_tracker_of_a_run(finished: Path, told, tmp_path, monkeypatch) -> None:
    tree = {"kind": "toys:Diary", "dir": str(tmp_path)}
    (section,) = sections(tree)
    lock = TrackerLock(about(RunDir(finished), section, "track.0").dir / "toys.Diary").file
    lock.parent.mkdir()
    owner = owned_by_a_living_process(lock)
    with pytest.raises(LockError, match=rf"process {owner.pid} on .* is telling this tracker of the run .* \(dir\)"):
        replay(RunDir(finished), section, "track.0")
    (line,) = followed(monkeypatch, finished, tree)
    assert f"track.0: toys:Diary: {lock.parent}" in line
    assert "is telling this tracker of the run" in line
    assert [file.name for file in lock.parent.iterdir()] == [lock.name]
    lock.unlink()
    assert followed(monkeypatch, finished, tree) == []
    assert replay(RunDir(finished), section, "track.0") == (0, len(told))
    assert not lock.exists()


def test_two_trackers_of_one_kind_and_folder_do_not_tell_it_twice(finished: Path, told, tmp_path, monkeypatch) -> None:
    tree = {"kind": "toys:Diary", "dir": str(tmp_path)}
    (section,) = sections(tree)
    with following._telling(about(RunDir(finished), section, "track.0"), section):
        with pytest.raises(LockError, match=r"toys.Diary: this very process is telling this tracker .* \(dir\)"):
            replay(RunDir(finished), section, "track.0")
        (line,) = followed(monkeypatch, finished, tree)
        assert "this very process is telling this tracker of the run already" in line
    assert replay(RunDir(finished), section, "track.0") == (len(told), 0)


def followed(monkeypatch: pytest.MonkeyPatch, run: Path, tree: object, seconds: float = 5.0) -> list[str]:
    """What is said while a run ends at once, with a tracker beside it."""
    monkeypatch.setattr(following, "END_SECONDS", seconds)
    heard = Heard()
    with Following(sections(tree), heard).of(RunDir(run)):
        pass
    return heard.lines


def test_a_tracker_that_fails_is_warned_of_once_with_the_command_that_shows_the_rest(finished, tmp_path, monkeypatch):
    lines = followed(monkeypatch, finished, {"kind": "toys:Diary", "dir": str(tmp_path), "fails_at": 3})
    assert lines == [
        "warning: track.0: toys:Diary: OSError: no room for more. The run goes on; what is not shown now is shown by: "
        f"selfevo log {finished} --to toys:Diary"
    ]


def test_a_tracker_that_fails_while_a_run_goes_on_is_begun_anew_from_what_it_has(finished, told, tmp_path, monkeypatch):
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.01)
    tries = []

    def fails_twice(events):
        tries.append(1)
        if len(tries) < 3:
            raise TimeoutError

    import toys

    monkeypatch.setattr(toys.Diary, "texts", lambda self, events: (fails_twice(events), self.write(events)))
    heard = Heard()
    with Following(sections({"kind": "toys:Diary", "dir": str(tmp_path)}), heard).of(RunDir(finished)):
        until = time.monotonic() + 5
        while len(tries) < 3 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(heard.lines) == 1
    assert diary(next(tmp_path.glob("run-*"))) == plain(told)


def test_a_tracker_whose_package_is_not_installed_is_warned_of_with_what_installs_it(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    (line,) = followed(monkeypatch, finished, "mlflow")
    assert "track.0: needs the package mlflow-skinny; install it with: " + install("mlflow") in line


def test_a_tracker_that_hangs_holds_up_neither_the_run_nor_its_end(finished: Path, tmp_path, monkeypatch) -> None:
    import toys

    free = threading.Event()
    monkeypatch.setattr(toys.Diary, "scalars", lambda self, events: free.wait())
    began = time.monotonic()
    lines = followed(monkeypatch, finished, {"kind": "toys:Diary", "dir": str(tmp_path)}, seconds=0.1)
    assert time.monotonic() - began < 2
    assert "toys:Diary: it is slow, and has not been told everything" in lines[0]
    free.set()


def test_runs_of_a_study_have_names_of_their_own_and_share_a_folder_without_being_mixed(tmp_path: Path) -> None:
    tracker, named = sections({"kind": "tensorboard", "dir": str(tmp_path)}, {"kind": "tensorboard", "name": "seed-1"})
    folders = set()
    for variant in ("plain", "self"):
        other = tmp_path / variant / "seed-1"
        other.mkdir(parents=True)
        (other / "fingerprints.json").write_text(json.dumps({"config": variant}))
        found = about(RunDir(other), tracker, "track.0")
        assert found.name == f"{variant}/seed-1"
        # what a tracker knows a run by is as it was before runs were shown so
        assert found.dir.name == f"seed-1-{found.id[:8]}"
        assert found.id == hashlib.sha256(f"seed-1\n{variant}".encode()).hexdigest()[:16]
        assert about(RunDir(other), named, "track.1").name == "seed-1"
        folders.add(found.dir)
    assert len(folders) == 2


@pytest.mark.parametrize("error", [SystemExit(1), OSError("http://me:hunter2@host/api failed")])
def test_a_tracker_that_would_end_the_program_or_tells_a_password_is_a_warning_alone(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    import toys

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(toys.Diary, "start", fails)
    (line,) = followed(monkeypatch, finished, {"kind": "toys:Diary", "dir": str(tmp_path)})
    assert f"toys:Diary: {type(error).__name__}: " in line
    assert "hunter2" not in line


def test_process_0_alone_has_trackers(finished: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hosts, "is_writer", lambda: False)
    assert followed(monkeypatch, finished, {"kind": "toys:Diary", "dir": str(tmp_path)}) == []
    assert not list(tmp_path.iterdir())


def test_a_run_on_a_bucket_wants_a_folder_of_this_machine(finished: Path, monkeypatch) -> None:
    run = RunDir(finished)
    (near, far, away) = sections(
        {"kind": "tensorboard", "dir": "~/logs"}, "tensorboard", {"kind": "tensorboard", "dir": "gs://bucket/logs"}
    )
    monkeypatch.setattr(following, "is_remote", lambda path: path == run.root or str(path).startswith("gs:"))
    found = about(run, near, "track.0")
    assert found.dir == Path.home() / "logs" / f"{finished.name}-{found.id[:8]}"
    with pytest.raises(ConfigError, match=r"track.1.dir: .*run is no folder of this machine, which tensorboard needs"):
        about(run, far, "track.1")
    with pytest.raises(ConfigError, match=r"track.2.dir: gs://bucket/logs is no folder of this machine, which tensor"):
        about(run, away, "track.2")


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("tensorbord", "track.0: no 'tensorbord'; did you mean 'tensorboard'?"),
        ([{"project": "mine"}], "track.0: found a section without `kind`, expected a kind such as tensorboard, or"),
        ([3], "track.0: found 3, expected a kind such as tensorboard"),
        ([{"kind": "wandb", "projct": "mine"}], "unknown key 'track.0.projct'; did you mean 'project'?"),
        ([{"kind": "mlflow", "uri": " "}], "track.0.uri: found ' '"),
        ([{"kind": "tensorboard", "dir": 3}], "track.0.dir: found 3, expected a text, or null"),
    ],
)
def test_a_faulty_tracker_is_refused_by_its_key(track, message) -> None:
    with pytest.raises(ConfigError) as caught:
        config(Path("run"), track=track)
    assert message in str(caught.value)


def test_a_tracker_alone_is_a_list_of_one_and_is_written_out(tmp_path: Path) -> None:
    assert [of.kind for of in config(tmp_path, track="wandb").track] == ["wandb"]
    assert config(tmp_path, track={"kind": "wandb"}).track == config(tmp_path, track=["wandb"]).track


def test_log_takes_the_trackers_of_the_run_and_settings_on_the_command_line(finished: Path, told, tmp_path) -> None:
    run = RunDir(finished)
    ((_, own),) = trackers_of(run, None, None, [])
    assert own.kind == "toys:Diary"
    ((_, other),) = trackers_of(run, "mlflow", "logs", ["experiment=mine"])
    assert (other.kind, other.dir, other.experiment) == ("mlflow", "logs", "mine")
    done = CliRunner().invoke(app, ["log", str(finished), "--to", "toys:Diary", "--dir", str(tmp_path)])
    assert done.output.split("toys:Diary: ")[1] == f"{len(told)} events are shown, 0 were there already\n"
    with pytest.raises(ConfigError, match=r"log: unknown key 'track.0.projct'"):
        trackers_of(run, "wandb", None, ["projct=mine"])


def test_log_of_a_run_without_trackers_asks_for_one(finished: Path, tmp_path: Path) -> None:
    for name in ("run.json", "checksums.jsonl", "fingerprints.json"):
        shutil.copy2(finished / name, tmp_path / name)
    (tmp_path / "config.yaml").write_text((finished / "config.yaml").read_text().partition("track:")[0])
    with pytest.raises(ConfigError, match=r"config.yaml: track names no tracker; name one, such as --to tensorboard"):
        trackers_of(RunDir(tmp_path), None, None, [])
