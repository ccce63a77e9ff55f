"""What process 0 has found in shared storage is what all go on from; here this process is number 1."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
import pytest

from selfevo_jax.checkpoint import TrainingStore, restore_params
from selfevo_jax.checkpoint.commit import note
from selfevo_jax.errors import ModelError
from selfevo_jax.hosts import Peer, Place, session
from selfevo_jax.run import RunDir

PEERS = [Peer(0, "a", 10), Peer(1, "b", 11)]


class Played:
    """The connection of one of two processes, where the other brings what `other` says."""

    def __init__(self, me: int, other: Any) -> None:
        self.place, self.peers, self._other = Place("127.0.0.1", 1, 2, me), PEERS, other
        self.met: list[str] = []
        self.busy: list[str] = []

    def meet(self, name: str, value: Any, limit: float) -> list[Any]:
        self.met.append(name)
        brought = [value, value]
        brought[1 - self.place.process_id] = self._other(name)
        return brought

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        self.busy.append(what)
        yield
        self.busy.append(f"{what}: done")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this process one of two."""

    def begin(me: int, other: Any) -> Played:
        member = Played(me, other)
        monkeypatch.setattr(session, "_session", session._Session(member, None, None, 1.0, False))  # type: ignore[arg-type]
        monkeypatch.setattr(session, "SEEN_SECONDS", 0.3)
        monkeypatch.setattr(ocp.utils, "is_checkpoint_finalized", lambda path: True)
        return member

    return begin


def newest_is(step: int | None) -> Any:
    return lambda name: step if name.startswith("the newest training state") else True


def saved(store: TrainingStore, step: int) -> None:
    """A state that was committed."""
    (store.folder / str(step)).mkdir(parents=True)
    note(Path(store.folder) / str(step))


def test_the_state_to_go_on_from_is_that_of_process_0_whatever_is_seen_here(play: Any, tmp_path: Path) -> None:
    store = TrainingStore(tmp_path / "states")
    for step in (4, 8, 12):
        saved(store, step)
    play(1, newest_is(8))
    assert store.latest() == 8
    play(1, newest_is(None))
    assert store.latest() is None
    play(0, lambda name: True)
    assert store.latest() == 12


def test_a_state_that_is_seen_late_is_waited_for(play: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrainingStore(tmp_path / "states")
    saved(store, 4)
    play(1, newest_is(8))
    monkeypatch.setattr(session, "SEEN_SECONDS", 20.0)
    threading.Timer(0.3, saved, (store, 8)).start()
    assert store.latest() == 8


def test_a_state_that_one_host_never_sees_is_refused_with_the_host(play: Any, tmp_path: Path) -> None:
    store = TrainingStore(tmp_path / "states")
    saved(store, 4)
    play(1, newest_is(8))
    with pytest.raises(ModelError, match=r"states/8: .* is not seen by process 1 \(host b, pid 11\); put run_dir on"):
        store.latest()
    saved(store, 8)
    play(0, lambda name: False)
    with pytest.raises(ModelError, match=r"states/8: .* is not seen by process 1 \(host b, pid 11\); put run_dir on"):
        store.latest()


def test_a_checkpoint_that_one_host_never_sees_is_refused_with_the_host(play: Any, tmp_path: Path) -> None:
    play(1, lambda name: True)
    with pytest.raises(ModelError, match=r"meta: this checkpoint is not seen by process 1 \(host b, pid 11\)"):
        restore_params(tmp_path / "meta", {})


def test_sealing_and_checking_of_process_0_are_work_that_the_others_wait_for(play: Any, tmp_path: Path) -> None:
    run, folder = RunDir(tmp_path), tmp_path / "checkpoints" / "meta"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    member = play(0, lambda name: None)
    run.seal(folder)
    run.require(folder)
    sealing, checking = "sealing checkpoints/meta", "checking checkpoints/meta"
    assert member.busy == [sealing, f"{sealing}: done", checking, f"{checking}: done"]
    assert member.met == [sealing, checking]
