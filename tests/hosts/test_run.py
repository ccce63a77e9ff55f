"""The whole loop over two processes of 2 devices: what one process of 4 makes, and the same after a kill."""

from __future__ import annotations

import importlib.util
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from completions_server import Server, serving
from fake_bucket import serve
from host_helpers import SECRET, Process, free_port, together
from strangers import messages, send

from selfevo_jax.checkpoint import open_model
from selfevo_jax.run import records
from selfevo_jax.run.journal import encoded

pytestmark = pytest.mark.slow

TRAIN = {"steps": 2, "warmup_steps": 1, "batch_rows": 8, "length": 128}
PROMPTS = 5
"""More than four devices, and no multiple of anything: rows of a process are uneven."""
CONFIG = {
    "run_dir": "run",
    "model": {"source": "builtin:stories"},
    "data": {
        "stories": {"meta_questions": 3, "responses_per_question": 1, "right_copies": 2, "evaluation_rows": 3},
        "prompts_per_round": PROMPTS,
        "self_written": {"examples": 2, "own_examples": 1, "asked": 2, "patience": 2, "given_share": 0.6},
    },
    "sampling": {
        "slots": 8,
        "cache_length": 128,
        "respond": {"temperature": 0.8, "max_new_tokens": 6},
        "feedback": {"temperature": 0.7, "max_new_tokens": 12},
        "refine": {"max_new_tokens": 6},
        "write": {"max_new_tokens": 12},
    },
    "meta": TRAIN,
    "learn": TRAIN,
    "rounds": {"number": 2, "variant": "continual_mixed", "select": "none", "controls": 2, "minimum_kept": 1},
}


def evolve(
    folder: Path,
    processes: int,
    *overrides: str,
    environment: dict[str, str] | None = None,
    port: int | None = None,
    deed: Callable[[list[Process]], None] = lambda _: None,
) -> list[str]:
    """Runs the command in `folder` on 4 devices in all; returns what each process printed.

    Several processes find their secret in the run directory, as without any set-up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    flags = [["--coordinator", f"127.0.0.1:{port or free_port()}", "--processes", str(processes)]] * processes
    numbered = [[*given, "--process-id", str(i)] for i, given in enumerate(flags)] if processes > 1 else [[]]
    commands = [["-m", "selfevo_jax", "evolve", "small.yaml", *overrides, *given] for given in numbered]
    kept = {"SELFEVO_SECRET": "", **(environment or {})}
    done = together(
        folder / "said", commands, deed, devices=4 // processes, limit=240, environment=kept, working_directory=folder
    )
    for ended in done:
        assert ended.code == 0, ended.err[-3000:]
    return [ended.out for ended in done]


def weights(path: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(open_model(str(path)).load(None, np.float32))]


def verdict(prompt: str, n: int) -> str | None:
    return "429 wait 0" if n == 1 and len(prompt) % 3 == 0 else f"says Verdict: {'in' * (len(prompt) % 2)}correct"


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Server]:
    """It judges the rounds of all runs here, where there is a client for it."""
    with serving(verdict) as server:
        if importlib.util.find_spec("openai"):
            CONFIG["judge"] = {"batch": {"kind": "endpoint", "endpoint": {"url": server.url, "model": "big"}}}
        yield server


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder, port = tmp_path_factory.mktemp("pair"), free_port()

    def besiege(processes: list[Process]) -> None:
        processes[0].wait_for("2 processes: ")
        for words in messages(100):
            send(port, words)

    return folder / "run", evolve(folder, 2, port=port, deed=besiege)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    evolve(folder, 1)
    return folder / "run"


def test_the_secret_of_a_run_is_kept_in_its_directory_for_its_owner_alone(pair: tuple[Path, list[str]]) -> None:
    secret = pair[0] / ".selfevo-secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert SECRET not in secret.read_text()


def test_two_processes_among_strangers_make_what_one_makes(pair: tuple[Path, list[str]], alone: Path) -> None:
    run, (told, silence) = pair
    assert records(run) == records(alone)
    for name in ("meta", "0001", "0002"):
        for one, other in zip(weights(run / "checkpoints" / name), weights(alone / "checkpoints" / name), strict=True):
            np.testing.assert_array_equal(one, other)
    assert "2 processes: " in told
    assert "The run is in run" in told
    # but for its library's own, whose threads break each other's lines
    assert [line for line in silence.splitlines() if "[Gloo]" not in line and "connected peer ranks" not in line] == []


def test_process_0_alone_asks_a_server_that_judges_a_round(
    pair: tuple[Path, list[str]], alone: Path, server: Server
) -> None:
    if "judge" not in CONFIG:
        pytest.skip("openai is not installed")
    judged = list(alone.glob("rounds/*/judged/answers.jsonl"))
    questions = sum(
        file.read_bytes().count(b"\n") for file in [*judged, *alone.glob("rounds/*/controls/answers.jsonl")]
    )
    assert len(judged) == 2
    # by each of the two runs once, but for those that were refused at first
    assert server.asked.total() == 2 * questions + sum(len(prompt) % 3 == 0 for prompt in server.asked)


def test_prompts_that_do_not_divide_give_one_result_each(pair: tuple[Path, list[str]]) -> None:  # C33, C34
    rows = [json.loads(line) for line in (pair[0] / "rounds/0001/rollouts/part-00000.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == PROMPTS
    assert all(row["candidates"][0]["text"] for row in rows)
    assert len((pair[0] / "evaluations/0001/stories.jsonl").read_text().splitlines()) == 3
    own = json.loads((pair[0] / "rounds/0002/prompts/manifest.json").read_text())
    assert (own["wanted"], own["given"]) == (2, 3)
    costs = [json.loads(line) for line in (pair[0] / "costs.jsonl").read_text().splitlines()]
    assert [cost["chains"] for cost in costs if cost["phase"].endswith("respond, judge, refine")] == [
        PROMPTS,
        3 + own["prompts"],
    ]
    assert sum(cost["chains"] for cost in costs if cost["phase"] == "round 2: write prompts") == own["texts"]


def test_two_processes_go_on_where_one_was_stopped(pair: tuple[Path, list[str]], alone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(alone, copy)
    name = "rounds/0002/rollouts/part-00000.jsonl"
    part, belongs = copy / name, f"{json.loads((copy / 'fingerprints.json').read_text())['config']} {name}"
    rows = b"".join(encoded(json.loads(line), belongs) for line in part.read_bytes().splitlines())
    half = rows[: len(rows) // 2]  # as a kill leaves it, the last line torn
    for name in ("rounds", "checkpoints", "evaluations"):
        shutil.rmtree(copy / name / "0002")
    (copy / "evaluations/0002.json").unlink()
    part.parent.mkdir(parents=True)
    part.write_bytes(half)
    told, _ = evolve(tmp_path, 2)
    assert "finished rollouts are kept" in told
    assert records(copy) == records(pair[0])
    for one, other in zip(weights(copy / "checkpoints/0002"), weights(pair[0] / "checkpoints/0002"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_processes_make_one_run_in_a_bucket(alone: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("gcsfs") is None:
        pytest.skip("gcsfs is not installed")
    with serve() as bucket:
        told, _ = evolve(tmp_path, 2, "run_dir=gs://bucket/run", environment=bucket.env)
    assert "The run is in gs://bucket/run" in told
    for name, content in bucket.texts("run/").items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    found, wanted = records(tmp_path / "copy"), records(alone)
    named = ("config.yaml", "report.json")  # these name the run directory
    assert {name: found[name] for name in found if name not in named} == {
        name: wanted[name] for name in wanted if name not in named
    }
    for one, other in zip(
        weights(tmp_path / "copy/checkpoints/0002"), weights(alone / "checkpoints/0002"), strict=True
    ):
        np.testing.assert_array_equal(one, other)
