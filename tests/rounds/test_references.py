"""What an objective compares with: read once before the first step, by training's own forward pass, and stored."""

import contextlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from loop_helpers import TRAIN, Heard, config, weights

from selfevo_jax import notice
from selfevo_jax.data import Example, Group, qa_example
from selfevo_jax.data.sources import QARow
from selfevo_jax.errors import Preempted, SelfevoError
from selfevo_jax.rounds import Controller, checkpoints
from selfevo_jax.rounds.references import with_references
from selfevo_jax.run.files import read_rows

pytestmark = pytest.mark.slow


def learn(root: Path, stop_after: int | None = None) -> Heard:
    """One round's fine-tuning on pairs, from the base on; perhaps told to end behind a step."""
    heard = Heard()
    settings = {**TRAIN, "batch_rows": 4, "objective": {"name": "dpo"}}
    rounds = {"number": 2, "variant": "continual_mixed"}
    c = config(root, learn=settings, rounds=rounds, method={"name": "iterative_dpo"})

    def told(name: str, row: dict) -> None:
        if row["step"] == stop_after:
            notice.give("a test")

    with contextlib.closing(Controller(c, heard)) as controller:
        bench = controller.bench

        def example(n: int, answer: str, side: float) -> Example:
            made = qa_example(
                QARow(f"{n}{answer}", f"There are {n} frogs. How many frogs?", f" {answer}"), bench.format
            )
            return Example(made.id, made.term, made.tokens, made.weights, {"side": side})

        pairs = [Group((example(n, str(n), 1.0), example(n, "0", -1.0))) for n in range(2, 22)]
        made = checkpoints.Checkpoints(bench, controller.dir, heard, told)
        made.train("0001", made.base(), "base", {"self": pairs}, c.learn, 0)
    return heard


def test_a_fine_tuning_on_pairs_starts_at_log_2_and_a_killed_one_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    learn(whole)
    losses = [row["loss"] for row in read_rows(whole / "checkpoints/0001/losses.jsonl")]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < losses[0] - 0.01
    rows = read_rows(whole / "rounds/0001/references.jsonl")
    assert len({row["key"] for row in rows}) == len(rows) == 40
    assert all(row["logp"] < 0 for row in rows)
    with notice.heeded(), pytest.raises(Preempted, match="a test"):
        learn(killed, stop_after=1)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "start_extras", None)  # it is read again by nobody
        assert "  fine-tuning 0001 goes on after step 1" in learn(killed).lines
    for file in ("rounds/0001/references.jsonl", "checkpoints/0001/losses.jsonl"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
    for one, other in zip(weights(killed / "checkpoints/0001"), weights(whole / "checkpoints/0001"), strict=True):
        np.testing.assert_array_equal(one, other)


class Folder:
    """A run directory of one file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def round(self, number: int, name: str) -> Path:
        return self.root / f"{number}-{name}"

    def has(self, path: Path) -> bool:
        return path.exists()

    def write_rows(self, path: Path, rows: list[dict]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def require(self, path: Path) -> None:
        pass


def example(id: str, token: int, **extras: float) -> Example:
    return Example(id, "x", np.array([1, token], np.int32), np.array([0, 1], np.float32), extras)


def test_equal_examples_are_read_once_their_own_numbers_stay_and_a_file_that_lacks_one_is_refused(
    tmp_path: Path,
) -> None:
    asked = []

    def read(examples, done):
        asked.extend(e.id for e in examples)
        return [{"reference": -0.1 - int(e.tokens[1]) / 3} for e in examples]

    pools = {
        "self": ([Group((example("a", 3), example("b", 4))), example("again", 3)], 0.5),
        "meta": ([example("m", 9, reference=0.0)], 0.5),
    }
    for _ in range(2):
        found = with_references(pools, "0001", Folder(tmp_path), Heard(), read)
        assert asked == ["a", "b"]
        (group, again), share = found["self"]
        assert share == 0.5
        assert [e.extras["reference"] for e in (*group.members, again)] == [-0.1 - n / 3 for n in (3, 4, 3)]
        assert found["meta"][0][0].extras == {"reference": 0.0}
    with pytest.raises(SelfevoError, match=r"1-references.jsonl: no row for 1 of 1 examples .* such as 'new'; restore"):
        with_references({"self": ([example("new", 5)], 1.0)}, "0001", Folder(tmp_path), Heard(), read)


def test_numbers_of_targets_are_stored_to_the_last_bit_and_one_teacher_s_are_not_another_s(tmp_path: Path) -> None:
    asked = []

    def taught(id: str, seen: int) -> Example:
        teacher = Example(id, "x", np.array([seen, 1, 5, 6], np.int32), np.array([0, 0, 1, 1], np.float32))
        return Example(id, "x", np.array([1, 5, 6], np.int32), np.array([0, 1, 1], np.float32), {}, teacher)

    def read(examples, done):
        asked.extend(e.id for e in examples)
        tops = [
            np.float32(-1 / 3) * np.arange(1, 5, dtype=np.float32).reshape(2, 2) * e.teacher.tokens[0] for e in examples
        ]
        ids = np.array([[70000, 1], [2, 3]])
        return [{"teacher_ids": ids, "teacher_logps": top, "token_reference": top[:, 0]} for top in tops]

    pools = {"self": ([taught("a", 2), taught("b", 3), taught("same", 2)], 1.0)}
    extras = ("teacher_ids", "teacher_logps", "token_reference")
    for _ in range(2):
        found = with_references(pools, "0001", Folder(tmp_path), Heard(), read, extras)["self"][0]
        assert asked == ["a", "b"]
        for example, times in zip(found, (2, 3, 2), strict=True):
            top = np.array([[0, 0], [1, 2], [3, 4]], np.float32) * np.float32(-1 / 3) * times
            np.testing.assert_array_equal(example.extras["teacher_logps"], top)
            np.testing.assert_array_equal(example.extras["token_reference"], top[:, 0])
            np.testing.assert_array_equal(example.extras["teacher_ids"], [[0, 0], [70000, 1], [2, 3]])
    file = tmp_path / "1-references.jsonl"
    file.write_text(file.read_text().replace('"teacher_logps": "', '"teacher_logps": "AAAA'))
    with pytest.raises(SelfevoError, match=r"1-references.jsonl: not what selfevo writes there \(ValueError"):
        with_references(pools, "0001", Folder(tmp_path), Heard(), read, extras)
