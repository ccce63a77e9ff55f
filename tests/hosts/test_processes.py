"""Real processes that make one run: they start, meet, and end together, whatever ends them."""

from __future__ import annotations

import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from completions_server import Server, serving
from host_helpers import Ended, Process, free_port, name, together, workers
from small_training import Batched, train
from strangers import is_closed, messages, send

pytestmark = pytest.mark.slow

SECONDS = 60
"""From the end of one process to the end of the others; it takes 3, the rest is for a busy machine."""


def was_ended(ended: Ended) -> None:
    """The process was ended by the run, in words."""
    assert "ended well" not in ended.out
    assert "Fatal" not in ended.err
    assert "stack trace" not in ended.err


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Ended], Server]:
    """Two processes that have met, and asked a server where there is a client for it."""
    folder = tmp_path_factory.mktemp("met")
    with serving(lambda prompt, n: "500" if prompt == "prompt 7" and n == 1 else None) as server:
        asked = [server.url, str(folder / "answers.jsonl")] if find_spec("openai") else []
        return together(folder, workers("meet", *asked)), server


def test_processes_meet_and_end_well(met: tuple[list[Ended], Server]) -> None:
    first, second = met[0]
    for ended, writer in ((first, True), (second, False)):
        assert ended.code == 0, ended.err[-3000:]
        assert "brought [{'number': 0}, {'number': 10}]" in ended.out
        assert "agreed by 0" in ended.out
        assert f"writer {writer} 2" in ended.out
        assert ended.out.endswith("ended well\n")
        assert "error" not in ended.err


def test_process_0_alone_asks_a_server_and_all_have_its_answers(met: tuple[list[Ended], Server]) -> None:
    pytest.importorskip("openai")
    processes, server = met
    assert all("last 300 said to prompt 299" in process.out for process in processes)
    assert len(server.answered) == 300
    assert server.asked["prompt 7"] == 2


def test_a_hundred_messages_of_strangers_end_nothing_and_are_not_kept(tmp_path: Path) -> None:
    commands = workers("besieged", str(tmp_path / "done"))
    said = messages(100)

    def besiege(processes: list[Process]) -> None:
        for process in processes:
            process.wait_for("before")
        port = int(commands[0][1])
        strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]  # silent ones
        strangers += [send(port, words) for words in said]
        assert all(is_closed(stranger) for stranger in strangers)
        (tmp_path / "done").touch()

    first, second = together(tmp_path, commands, besiege)
    for ended in (first, second):
        assert ended.code == 0, ended.err[-3000:]
        assert "brought [0, 1]" in ended.out
        assert ended.out.endswith("ended well\n")
    before, after = (int(first.out.partition(f"{word} ")[2].split()[0]) for word in ("before", "after"))
    assert after - before < 50
    assert first.err.endswith("warning: connections without the run's secret, which were refused: 108\n")
    assert second.err == ""


def test_a_process_that_does_not_come_is_named_with_the_barrier(tmp_path: Path) -> None:
    pids: list[int] = []
    first, second = together(tmp_path, workers("wait"), lambda ps: pids.extend(p.popen.pid for p in ps))
    for ended in (first, second):
        was_ended(ended)
        assert ended.code == 2
    said = f"'tea': {name(1, pids[1])} did not come there within 1.5 s"
    assert first.err.endswith(f"error: {said}\n")
    assert second.err.endswith(f"error: {name(0, pids[0])}: {said}\n")


@pytest.mark.parametrize(
    ("deed", "code", "own", "others"),
    [
        ("fail", 2, "error: the cellar is flooded\n", "the cellar is flooded"),
        ("crash", 1, "Traceback (most recent", "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_an_error_in_one_process_ends_the_other_with_its_message(
    tmp_path: Path, deed: str, code: int, own: str, others: str
) -> None:
    pids: list[int] = []
    first, second = together(tmp_path, workers(deed), lambda ps: pids.extend(p.popen.pid for p in ps))
    was_ended(first)
    assert first.code == second.code == code
    assert own in second.err
    assert first.err.endswith(f"error: {name(1, pids[1])}: {others}\n")


def test_an_error_that_all_have_is_told_by_each_as_its_own(tmp_path: Path) -> None:
    first, second = together(tmp_path, workers("same_error"))
    assert first.code == second.code == 2
    assert first.err.endswith("error: the roof is gone\n")
    assert second.err.endswith("the roof is gone\n")  # as told by process 0, where this one is seconds later


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    first, second = together(tmp_path, workers("interrupt"))
    assert first.code == second.code == 130
    assert "stopped by the user (Ctrl-C)" in first.err
    assert "process 0" in second.err
    assert "stopped by the user (Ctrl-C)" in second.err


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_in_its_computation_with_a_message_that_names_it(
    tmp_path: Path, killed: int
) -> None:
    pids: list[int] = []

    def kill(processes: list[Process]) -> None:
        pids.extend(process.popen.pid for process in processes)
        for process in processes:
            process.wait_for("computing 2.0")
        os.kill(pids[killed], signal.SIGKILL)

    ended = together(tmp_path, workers("compute"), kill)
    assert ended[killed].code == -signal.SIGKILL
    left = ended[1 - killed]
    was_ended(left)
    assert left.after < SECONDS
    assert left.code == 1
    assert left.err.splitlines()[-1].startswith(f"error: {name(killed, pids[killed])} is gone: ")


def test_a_frozen_process_is_found_by_its_silence(tmp_path: Path) -> None:
    """SIGSTOP is what a lost network looks like: the connection stays open, and nothing comes."""
    pids: list[int] = []

    def freeze(processes: list[Process]) -> None:
        pids.extend(process.popen.pid for process in processes)
        for process in processes:
            process.wait_for("computing 2.0")
        os.kill(pids[1], signal.SIGSTOP)
        processes[0].popen.wait(timeout=100)
        os.kill(pids[1], signal.SIGKILL)

    first, _ = together(tmp_path, workers("freeze"), freeze)
    assert first.code == 1
    assert first.err.splitlines()[-1].startswith(f"error: {name(1, pids[1])} is lost: no sign of life for 8 s")


def test_a_checkpoint_is_saved_by_all(tmp_path: Path) -> None:
    for ended in together(tmp_path / "well", workers("save", str(tmp_path / "c"))):
        assert ended.code == 0, ended.err[-3000:]
        assert "complete True\nrestored\n" in ended.out
    assert (tmp_path / "c" / "note.txt").read_bytes() == b"once"


def test_a_notice_to_one_in_a_fine_tuning_saves_it_on_all_and_both_go_on(tmp_path: Path) -> None:
    for ended in together(tmp_path / "told", workers("train", str(tmp_path / "states"), "3")):
        assert ended.code == 75, ended.err[-3000:]
        assert "stopped after step 4 of the test, which is saved; the same command goes on" in ended.err
        assert "Traceback" not in ended.err
    whole = train(None, Batched(), (1, 2, 1))[1].losses
    for ended in together(tmp_path / "again", workers("train", str(tmp_path / "states"), "-1")):
        assert ended.code == 0, ended.err[-3000:]
        lines = ended.out.splitlines()
        assert [line for line in lines if line.startswith("step")] == [f"step {n}" for n in range(4, 10)]
        losses = next(line for line in lines if line.startswith("losses")).split()[1:]
        np.testing.assert_allclose([float(loss) for loss in losses], whole, rtol=1e-5)


def test_work_of_all_that_one_begins_alone_is_refused_and_names_who_is_missing(tmp_path: Path) -> None:  # C36
    pids: list[int] = []
    commands = workers("alone", str(tmp_path / "c"))
    first, second = together(tmp_path, commands, lambda ps: pids.extend(p.popen.pid for p in ps))
    was_ended(first)
    assert first.code == second.code == 2
    refused = [line for line in first.out.splitlines() if line.startswith("refused")]
    missing = f"{name(1, pids[1])} did not come there within 0.7 s"
    assert refused == [f"refused '{what}': {missing}" for what in ("saving checkpoint c", "sampling", "training")]


def test_a_run_dir_that_is_not_shared_is_refused_on_all(tmp_path: Path) -> None:
    roots = [str(tmp_path / "a"), str(tmp_path / "b")]
    for ended in together(tmp_path, workers("open_run", *roots)):
        assert ended.code == 2
        assert f"run_dir={tmp_path}" in ended.err
        assert "is not the same directory on all hosts: process 1 (" in ended.err
        assert "put it on storage that all share" in ended.err


def test_another_config_on_one_host_is_refused_on_all_with_the_key(tmp_path: Path) -> None:
    root = str(tmp_path / "a")
    for ended in together(tmp_path, workers("open_run", root, root, "0", "7")):
        assert ended.code == 2
        assert "was given another run than process 0:\n  seed: 0 on process 0, 7 there\n" in ended.err
    assert not (tmp_path / "a").exists()


def test_a_command_whose_other_process_is_absent_ends_and_names_it(tmp_path: Path) -> None:  # C35
    flags = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process-id", "0", "--start-limit", "1"]
    (ended,) = together(tmp_path, [["-m", "selfevo_jax", "evolve", "x.yaml", *flags]])
    assert ended.code == 2
    assert "error: process 1 of 2 did not start within 1 s (present: process 0 " in ended.err
    assert "Traceback" not in ended.err


def test_bad_flags_are_one_clear_line(tmp_path: Path) -> None:
    (ended,) = together(tmp_path, [["-m", "selfevo_jax", "evolve", "x.yaml", "--processes", "2"]])
    assert ended.code == 2
    assert "error: several hosts: --coordinator (JAX_COORDINATOR_ADDRESS) and --process-id (JAX_" in ended.err
