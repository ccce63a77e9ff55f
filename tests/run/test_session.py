"""What a process says of itself on disk is read by another, whatever became of it."""

import contextlib
import json
import math
from pathlib import Path

import pytest

from selfevo_jax.errors import EmptySelectionError, Preempted
from selfevo_jax.progress import Reporter, Task
from selfevo_jax.run import session
from selfevo_jax.run.lock import Owner
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.run.session import SESSION, last_session, told


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path)
    found._lock.own, found._lock._last = Owner.here(), math.inf  # as an opened run has it, without its thread
    return found


def ended(run: RunDir, error: BaseException | None) -> session.Session:
    reporter = Reporter(quiet=True)
    expected = contextlib.suppress(() if error is None else type(error))
    with expected, told(run, reporter), reporter.task("fine-tuning 0001", 10, "steps") as meter:
        meter.set(3, "loss 0.5")
        if error is not None:
            raise error
    found = last_session(run)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("error", "end", "said"),
    [
        (None, "complete", ""),
        (EmptySelectionError("round 1: nothing kept"), "failed", "round 1: nothing kept"),
        (RuntimeError("XLA\nis out of memory"), "failed", "RuntimeError: XLA"),
        (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
        (Preempted("told to end (SIGTERM)"), "told to end", "told to end (SIGTERM)"),
    ],
)
def test_a_process_says_how_it_ended(run: RunDir, error: BaseException | None, end: str, said: str) -> None:
    found = ended(run, error)
    assert (found.end, found.said) == (end, said)
    assert found.task is not None
    assert (found.task.title, found.task.done, found.task.total, found.task.note) == (
        "fine-tuning 0001",
        3,
        10,
        "loss 0.5",
    )


def test_a_rate_leaves_out_what_comes_before_the_first_unit(run: RunDir) -> None:
    now = [0.0]
    teller = session._Teller(run, Owner.here(), clock=lambda: now[0])
    for at, done in ((100.0, 1), (110.0, 5), (112.0, 6), (120.0, 9)):
        now[0] = at
        teller.hear(Task("t", done, 100, "steps"))
    found = last_session(run)
    assert found is not None
    assert found.task is not None
    assert found.task.rate == pytest.approx(8 / 20)
    assert found.task.seconds_left() == pytest.approx(91 / 0.4)


def test_a_word_is_not_written_more_often_than_every_few_seconds(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = [0.0], []
    teller = session._Teller(run, Owner.here(), clock=lambda: now[0])
    monkeypatch.setattr("selfevo_jax.storage.disk.Disk.note", lambda *_: written.append(now[0]))
    for tenth in range(1, 200):
        now[0] = tenth / 10
        teller.hear(Task("t", tenth, 1000, "steps"))
    assert len(written) == 4


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"task": 3}', b"\xff", b'{"task": {"title": 1}}'])
def test_a_word_that_cannot_be_read_is_nothing_said(run: RunDir, content: bytes) -> None:
    (run.root / SESSION).write_bytes(content)
    assert last_session(run) is None


def test_a_word_of_another_form_is_nothing_said(run: RunDir) -> None:
    ended(run, None)
    tree = json.loads((run.root / SESSION).read_text())
    for key in tree:
        (run.root / SESSION).write_text(json.dumps({**tree, key: [1]}))
        assert last_session(run) is None, key


def test_a_run_goes_on_where_its_word_cannot_be_written(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("selfevo_jax.storage.disk.Disk.note", full)
    with told(run, Reporter(quiet=True)):
        pass
    assert last_session(run) is None
