"""Weights & Biases and trackio, by packages in their place that keep what they are given."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tracker_helpers import EVENTS, about, section, told

from selfevo_jax.trackers import About, Scalars


class Fake:
    """A package with one run, of which `lost` steps never came to the server."""

    def __init__(self, offline: bool) -> None:
        self.rows: dict[int, dict] = {}
        self.config: dict = {}
        self.inits: list[dict] = []
        self.axes: list[tuple] = []
        self._offline = offline

    def init(self, **given):
        self.inits.append(given)
        found = SimpleNamespace(config=self.config, log=self._log, finish=lambda: None)
        found.define_metric = lambda *names, **axis: self.axes.append((*names, *axis.values()))
        if self._offline is not None:
            found.offline, found.step = self._offline, max(self.rows, default=-1) + 1
        return found

    def _log(self, values, step):
        assert step not in self.rows
        assert step == max(self.rows, default=-1) + 1
        self.rows[step] = values

    @staticmethod
    def Table(columns, data):
        return columns, data


def package(monkeypatch, kind: str, offline: bool | None) -> Fake:
    fake = Fake(offline)
    monkeypatch.setitem(sys.modules, kind, fake)
    return fake


@pytest.mark.parametrize(("kind", "offline"), [("wandb", False), ("wandb", True), ("trackio", None)])
def test_each_event_is_one_step_and_none_comes_twice_after_a_kill(monkeypatch, tmp_path, kind, offline) -> None:
    fake = package(monkeypatch, kind, offline)
    tree = {"kind": kind, "project": "ours"}
    assert told(section(tree).open("track.0"), tmp_path, 4) == 0
    assert told(section(tree).open("track.0"), tmp_path) == 4
    assert told(section(tree).open("track.0"), tmp_path) == len(EVENTS)
    assert len(fake.rows) == len(EVENTS)
    assert fake.config["model.source"] == "builtin:stories"
    for row, event in zip(fake.rows.values(), EVENTS, strict=True):
        if isinstance(event, Scalars):
            assert row == {**event.values, {"step": "train/step", "round": "round"}[event.axis]: event.at}
    assert fake.rows[6]["texts"] == (["name", "text"], [list(pair) for pair in EVENTS[6].values.items()])
    name = "mine-01234567" if kind == "trackio" else "mine"  # trackio knows a run by its name alone
    assert {(given["project"], given["name"], given["resume"]) for given in fake.inits} == {("ours", name, "allow")}


def test_what_never_came_to_the_server_is_sent_again(monkeypatch, tmp_path: Path) -> None:
    fake = package(monkeypatch, "wandb", False)
    told(section("wandb").open("track.0"), tmp_path, 6)
    del fake.rows[5], fake.rows[4]
    assert told(section("wandb").open("track.0"), tmp_path) == 4
    assert len(fake.rows) == len(EVENTS)


def test_wandb_knows_the_run_again_and_draws_over_steps_and_rounds(monkeypatch, tmp_path: Path) -> None:
    fake = package(monkeypatch, "wandb", False)
    told(section({"kind": "wandb", "entity": "us", "mode": "online"}).open("track.0"), tmp_path)
    (given,) = fake.inits
    assert (given["id"], given["entity"], given["mode"]) == ("0123456789abcdef", "us", "online")
    assert fake.axes[-2:] == [("*", "round"), ("train/*", "train/step")]


def test_two_trackers_and_two_projects_in_one_folder_are_told_apart(monkeypatch, tmp_path: Path) -> None:
    for kind, project in (("wandb", "a"), ("trackio", "a"), ("trackio", "b")):
        package(monkeypatch, kind, True)
        assert told(section({"kind": kind, "project": project}).open("track.0"), tmp_path) == 0


def test_trackio_goes_on_under_the_name_that_the_events_of_a_run_are_there_under(monkeypatch, tmp_path: Path) -> None:
    fake = package(monkeypatch, "trackio", None)

    def tell() -> None:
        tracker = section("trackio").open("track.0")
        tracker.start(About("plain/seed-1", "0123456789abcdef", "runs/plain/seed-1", tmp_path))
        tracker.scalars([Scalars("round", 1, {"x": 0.5})])

    tell()
    tell()
    (note,) = tmp_path.iterdir()
    note.write_bytes(b"2")  # as it was noted when a run of a study was shown by its folder alone
    tell()
    tell()
    assert [given["name"] for given in fake.inits] == [*2 * ["plain/seed-1-01234567"], "seed-1", "seed-1"]
    assert len(fake.rows) == 4


def test_no_setting_holds_a_key(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "not-to-be-written")
    fake = package(monkeypatch, "wandb", True)
    told(section("wandb").open("track.0"), tmp_path)
    assert "not-to-be-written" not in repr((fake.inits, fake.rows, fake.config))
    assert b"not-to-be-written" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_full_disk_leaves_what_was_noted(monkeypatch, tmp_path: Path) -> None:
    package(monkeypatch, "trackio", None)
    told(section("trackio").open("track.0"), tmp_path, 4)

    def full(path: Path, content: object, *_: object, **__: object) -> None:
        path.open("w").close()
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            told(section("trackio").open("track.0"), tmp_path, 5)
    assert section("trackio").open("track.0").start(about(tmp_path)) == 4
