"""A run directory on gs://, against a bucket on 127.0.0.1: its files, journals, checksums and lock, and whole runs."""

import importlib.util
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick_processes
from fake_bucket import FakeBucket, serve
from lock_helpers import OTHER, assert_followed_by_its_age_alone, holder_of
from loop_helpers import Heard, config, plain, run
from typer.testing import CliRunner

if importlib.util.find_spec("gcsfs") is None:
    pytest.skip("gcsfs is not installed", allow_module_level=True)

from selfevo_jax.checkpoint import MARK, NOTE, TrainingStore, folder_faults
from selfevo_jax.cli import app
from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.report import status, summarize
from selfevo_jax.rounds.texts import discard
from selfevo_jax.run import RunDir, records, share, verify
from selfevo_jax.run.checksums import Checksums
from selfevo_jax.run.files import write_file
from selfevo_jax.run.journal import Journal, encoded
from selfevo_jax.run.lock import LOCK, LockError, RunLock
from selfevo_jax.storage import place, segments, storage_of

HERE = Path(__file__).parent
LIMIT = 200
"""Seconds for a process of a test."""
TREE = {"model": {"source": "builtin:stories"}, "data": {"stories": {}}}
KILLED = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from loop_helpers import config, run
from selfevo_jax.run.journal import Journal
from selfevo_jax.storage import segments
segments.GROUP_SECONDS = 0.1
append = Journal.append
def append_and_die(self, row):
    append(self, row)
    if self.path.name.startswith("part") and len(self.rows) == 3:
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGKILL)
Journal.append = append_and_die
run(config(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[FakeBucket]:
    with serve() as served, pytest.MonkeyPatch.context() as patched:
        for name, value in served.env.items():
            patched.setenv(name, value)
        yield served


@pytest.fixture
def root(bucket: FakeBucket) -> Path:
    """A run directory in which nothing lies."""
    return place(f"gs://bucket/{len(bucket.asked)}")


# --- files


def test_a_file_is_there_whole_and_what_others_write_is_seen_at_once(bucket: FakeBucket, root: Path) -> None:
    file, storage = root / "a" / "b.json", storage_of(root)
    assert not file.exists()
    write_file(file, b"one")
    write_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert abs(storage.modified(file) - time.time()) < 5
    assert storage.files(root) == [file]
    bucket.put(f"{root.name}/a/c", b"another host's")
    assert (root / "a" / "c").exists()
    assert [found.name for found in storage.files(root)] == ["b.json", "c"]
    storage.move(root / "a", root / "aside" / "a.1")
    assert storage.files(root) == [root / "aside/a.1/b.json", root / "aside/a.1/c"]
    storage.move(root / "aside/a.1/c", root / "c")
    assert (root / "c").read_bytes() == b"another host's"
    storage.remove(root / "aside")
    assert storage.files(root) == [root / "c"]
    assert storage.free(root) is None


def test_what_cannot_be_a_run_directory_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"s3://b/run: expected a folder of this machine or gs://BUCKET/NAME"):
        RunDir("s3://b/run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"gs://b/run: gcsfs is not installed; .* pip install .*\[gcs\]'"):
        RunDir("gs://b/run")


def test_a_bucket_that_is_not_there_or_not_open_is_told(bucket: FakeBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SelfevoError, match=r"gs://nowhere/run/\.lock: the bucket did not do it \(no such bucket\)"):
        RunDir("gs://nowhere/run").open(parse_config({"run_dir": "x", **TREE}), {})
    monkeypatch.setattr(bucket, "closed", True)
    with pytest.raises(SelfevoError, match=r"gs://bucket/run/config\.yaml: the bucket did not do it \(Forbidden"):
        RunDir("gs://bucket/run")


def test_a_run_is_joined_with_its_own_config_and_refused_with_another(bucket: FakeBucket, root: Path) -> None:
    config = parse_config({"run_dir": str(root), **TREE})
    bucket.put(f"{root.name}/", b"")  # what the console makes for a folder
    run = RunDir(root)
    assert run.open(config, {"tokenizer": "a"}) is None
    run.close()
    assert RunDir(root).read_config() == config
    with pytest.raises(ConfigError, match="seed: 0 -> 3"):
        RunDir(root).open(parse_config({"run_dir": str(root), **TREE, "seed": 3}), {"tokenizer": "a"})
    assert f"{root.name}/{LOCK}" not in bucket.objects
    write_file(root / "sub" / "letter.txt", b"dear")
    with pytest.raises(ConfigError, match="not empty and not a run directory"):
        RunDir(root / "sub").open(config, {})


def test_a_checkpoint_that_is_not_kept_leaves_its_small_files(bucket: FakeBucket, root: Path) -> None:
    run = RunDir(root)
    for name in ("model.json", "params/d/1", "params/d/2"):
        write_file(run.checkpoint("0001") / name, name.encode())
    run.seal(run.checkpoint("0001"))
    run.remove("0001")
    assert sorted(bucket.texts(f"{root.name}/checkpoints/0001/")) == ["REMOVED", "model.json"]
    assert run.complete("0001")
    assert list(RunDir(root).sums.faults()) == []


# --- lines


def test_rows_share_segments_and_come_back_in_order(bucket: FakeBucket, root: Path) -> None:
    path, rows = root / "rows.jsonl", [{"id": n, "sample": 0, "text": "nüchtern ☃"} for n in range(30)]
    with Journal(path) as journal:
        for row in rows[:20]:
            journal.append(row)
    with Journal(path) as journal:
        assert journal.rows == rows[:20]
        for row in rows[20:]:
            journal.append(row)
    assert sorted(bucket.texts(f"{root.name}/")) == ["rows.jsonl.d/00000001.jsonl", "rows.jsonl.d/00000002.jsonl"]
    assert storage_of(path).lines(path).read() == b"".join(map(encoded, rows))
    assert Journal(path, follows=7).rows == rows[:7]


def test_rows_are_in_the_bucket_soon_although_the_journal_is_never_closed(
    bucket: FakeBucket, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "GROUP_SECONDS", 0.05)
    journal, deadline = Journal(root / "rows.jsonl"), time.monotonic() + 20
    for n in range(2):
        journal.append({"id": n, "sample": 0})
        while storage_of(root).lines(root / "rows.jsonl").read().count(b"\n") <= n:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_write_that_fails_in_the_background_is_told_by_the_next_call(
    bucket: FakeBucket, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (storage_of(root).lines(root / "rows.jsonl") for _ in range(2))
    for lines in (first, second):
        lines.append(b"{}\n")
        lines.close()
    monkeypatch.setattr(segments, "GROUP_SECONDS", 0.05)
    first.append(b'{"mine": 2}\n')  # as number 2, which the other has taken
    time.sleep(1)
    with pytest.raises(SelfevoError, match=r"rows.jsonl.d/00000002.jsonl: another process writes in this run"):
        first.append(b"{}\n")


def test_a_whole_file_holds_everything_and_goes_on_growing(bucket: FakeBucket, root: Path) -> None:
    path, rows = root / "rows.jsonl", [{"id": n, "sample": 0} for n in (1, 2, 3)]
    first, second, third = map(encoded, rows)
    with Journal(path) as journal:
        journal.append(rows[0])
    write_file(path, first + second + third[:5])  # a copy of a local run, or a kill before its segments were removed
    with Journal(path) as journal:
        assert journal.rows == rows[:2]
        journal.append(rows[2])
    assert bucket.texts(f"{root.name}/") == {
        "rows.jsonl.d/00000001.jsonl": first + second,
        "rows.jsonl.d/00000002.jsonl": third,
    }
    assert Journal(path).rows == rows
    discard(path)
    assert bucket.texts(f"{root.name}/") == {}


def test_a_changed_byte_is_found_and_a_line_is_there_before_its_file(bucket: FakeBucket, root: Path) -> None:
    path = root / "rounds/0001/metrics.json"
    Checksums(root).write(path, b"old")
    Checksums(root).write(path, b"new")
    assert Checksums(root).fault(path) is None
    bucket.put(f"{root.name}/rounds/0001/metrics.json", b"nev")
    assert list(Checksums(root).faults()) == ["rounds/0001/metrics.json: its content has changed"]
    with pytest.raises(SelfevoError, match="metrics.json: its content has changed since it was finished"):
        Checksums(root).require(root / "rounds")


# --- the lock


def test_the_second_process_is_refused_with_the_owners_name_and_follows_when_it_is_gone(
    bucket: FakeBucket, root: Path
) -> None:
    with holder_of(root) as holder:
        run, config = RunDir(root), parse_config({"run_dir": str(root), **TREE})
        with pytest.raises(
            LockError, match=f"process {holder.pid} on .* is running this run .* or choose another run_dir"
        ):
            run.open(config, {})
        seen = RunLock(root).seen()
        assert seen is not None
        assert seen[0].pid == holder.pid
        holder.kill()
        holder.wait()
        before = run.open(config, {})
        assert before is not None
        assert before.pid == holder.pid
        run.close()
        assert f"{root.name}/{LOCK}" not in bucket.objects


def test_another_hosts_owner_is_followed_when_its_last_sign_of_life_is_old(bucket: FakeBucket, root: Path) -> None:
    bucket.put(f"{root.name}/{LOCK}", json.dumps(asdict(OTHER)).encode(), time.time() - 40)
    assert_followed_by_its_age_alone(root)


def test_signs_of_life_are_given_and_an_owner_that_was_followed_writes_no_more(bucket: FakeBucket, root: Path) -> None:
    name, lock = f"{root.name}/{LOCK}", RunLock(root, beat=0.05, stale=0.4)
    lock.acquire()
    first, deadline = bucket.objects[name].generation, time.monotonic() + 20
    while bucket.objects[name].generation < first + 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lock.check()
    bucket.closed = True  # the network fails for a while
    time.sleep(0.3)
    bucket.closed, first = False, bucket.objects[name].generation
    while bucket.objects[name].generation < first + 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    bucket.put(name, json.dumps(asdict(OTHER)).encode())
    time.sleep(0.6)
    with pytest.raises(LockError, match="process 4711 on far, .* has taken the run over; it ends here"):
        lock.check()
    lock.release()
    assert name in bucket.objects  # it is another's now


def test_one_of_many_takes_the_lock_and_a_fresh_sign_of_life_saves_it(bucket: FakeBucket, root: Path) -> None:
    files = [storage_of(root).lock_file(root / LOCK) for _ in range(8)]
    took: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: files[n].create(f"{n}".encode()) and took.append(n)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (owner,) = took
    other = files[owner - 1]
    seen = other.look()
    assert seen is not None
    assert seen.content == f"{owner}".encode()
    assert abs(other.age(seen)) < 10
    files[owner].beat()
    assert not other.swap(seen, b"mine")  # it has given a sign of life since
    fresh = other.look()
    assert fresh is not None
    assert fresh.content == seen.content
    others = [file for file in files if file is not files[owner]]
    assert [file.swap(fresh, f"again {n}".encode()) for n, file in enumerate(others)] == [True] + [False] * 6
    with pytest.raises(OSError, match=LOCK):
        files[owner].beat()
    last = other.look()
    assert last is not None
    assert other.swap(last, None)
    assert other.look() is None


# --- states of a fine-tuning


@pytest.mark.slow
def test_a_training_state_without_its_mark_is_set_aside_and_the_one_before_goes_on(
    bucket: FakeBucket, root: Path
) -> None:
    store = TrainingStore(root / "training" / "0001")
    for step in (1, 2, 3):
        store.save(step, {"w": jnp.full(4, float(step))}, {"step": step})
    store.finish()
    assert {name.split("/")[0] for name in bucket.texts(f"{root.name}/training/0001/")} == {"2", "3"}
    del bucket.objects[f"{root.name}/training/0001/3/{MARK}"]
    again = TrainingStore(root / "training" / "0001")
    assert again.latest() == 2
    assert [str(place) for place in again.aside] == [f"{root}/training/quarantine/0001.3.1"]
    assert bucket.texts(f"{root.name}/training/quarantine/0001.3.1/state/")
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state, record = again.restore(2, {"w": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=one)})
    np.testing.assert_array_equal(state["w"], np.full(4, 2.0))
    assert record == {"step": 2}
    asked = len(bucket.asked)
    assert folder_faults(root / "training/0001/2") == []
    assert not [
        line for line in bucket.asked[asked:] if "alt=media" in line and NOTE not in line
    ]  # by its own checksums
    again.clear()
    assert not bucket.texts(f"{root.name}/training/0001/")


# --- whole runs


@pytest.fixture(scope="module")
def remote(bucket: FakeBucket) -> str:
    """A finished run; tests that change it copy it first."""
    run(config(place("gs://bucket/whole")))
    return "whole"


def copied(bucket: FakeBucket, name: str, to: str, without: tuple[str, ...] = ()) -> str:
    for file, content in bucket.texts(f"{name}/").items():
        if not file.startswith(without):
            bucket.put(f"{to}/{file}", content)
    return f"gs://bucket/{to}"


def same(found: dict, wanted: dict) -> None:
    """Equal records, but for the name of the run directory."""
    found, wanted = ({k: v for k, v in r.items() if k not in ("config.yaml", "report.json")} for r in (found, wanted))
    assert sorted(found) == sorted(wanted)
    assert [name for name in found if found[name] != wanted[name]] == []


@pytest.mark.slow
def test_a_run_in_a_bucket_has_the_records_of_one_on_disk(
    bucket: FakeBucket, remote: str, finished: Path, tmp_path: Path
) -> None:
    root = place(f"gs://bucket/{remote}")
    same(records(root), records(finished))
    for name, content in bucket.texts(f"{remote}/").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    same(records(tmp_path), records(finished))
    summary, wanted = summarize(RunDir(root)), summarize(RunDir(finished))
    assert summary.complete
    assert summary.rows == wanted.rows
    assert not [name for name in bucket.objects if name.startswith(f"{remote}/") and "part-00000.jsonl.d" in name]


@pytest.mark.slow
def test_the_commands_take_a_run_in_a_bucket(bucket: FakeBucket, remote: str, tmp_path: Path) -> None:
    url = f"gs://bucket/{remote}"
    (tmp_path / "same.yaml").write_bytes(bucket.objects[f"{remote}/config.yaml"].content)
    shown = CliRunner().invoke(app, ["evolve", str(tmp_path / "same.yaml")])
    assert shown.exit_code == 0, shown.output
    assert f"{url}: this run is complete. Raise rounds.number to go on" in shown.output
    shown = CliRunner().invoke(app, ["status", url])
    assert shown.exit_code == 0, shown.output
    assert f"{url}: not running" in shown.output
    assert shown.output.rstrip().endswith("All is done.")
    shown = CliRunner().invoke(app, ["verify", url])
    assert shown.exit_code == 0, shown.output
    assert "3 checkpoints are as they were written" in shown.output
    shown = CliRunner().invoke(app, ["report", url])
    assert shown.exit_code == 0, shown.output
    assert "round 2" in shown.output
    assert f"{remote}/report.json" in bucket.objects


@pytest.mark.slow
def test_a_run_in_a_bucket_takes_what_another_has_of_equal_inputs_and_they_are_compared(
    bucket: FakeBucket, remote: str
) -> None:
    one, other = copied(bucket, remote, "study/mixed/seed-0"), "gs://bucket/study/alone/seed-0"
    taken = share(config(place(other), rounds__variant="continual_self_only"), [RunDir(one)], Heard())
    assert [found.artefact for found in taken][-2:] == ["rollouts of round 1", "controls of round 1"]
    assert verify(RunDir(other)).faults == []
    shown = CliRunner().invoke(app, ["compare", one, other])
    assert shown.exit_code == 0, shown.output
    assert "alone differs from mixed in: rounds.variant continual_self_only" in shown.output
    assert f"seed 0 is not complete: selfevo status {other}" in shown.output.replace("\n    ", " ")


@pytest.mark.slow
def test_a_changed_byte_is_named_by_verify(bucket: FakeBucket, remote: str) -> None:
    run = RunDir(copied(bucket, remote, "flipped"))
    assert verify(run).faults == []
    names = run.sums.names()
    assert len(names) > 30
    array = max(
        (name for name in names if "/params/" in name), key=lambda n: len(bucket.objects[f"flipped/{n}"].content)
    )
    for name in ("rounds/0001/rollouts/part-00000.jsonl", "evaluations/0001.json", array):
        before = bucket.objects[f"flipped/{name}"].content
        changed = bytearray(before)
        changed[len(changed) // 2] ^= 1
        bucket.put(f"flipped/{name}", bytes(changed))
        assert f"{name}: its content has changed" in verify(RunDir(run.root)).faults
        bucket.put(f"flipped/{name}", before)


@pytest.mark.slow
def test_a_run_killed_in_a_rollout_keeps_the_finished_chains_and_ends_as_if_undisturbed(
    bucket: FakeBucket, remote: str, finished: Path
) -> None:
    gone = ("rounds/0002", "checkpoints/0002", "evaluations/0002")
    url = copied(bucket, remote, "killed", gone)
    done = quick_processes.run(["-c", KILLED, HERE, url], LIMIT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    part = "rounds/0002/rollouts/part-00000.jsonl"
    kept = b"".join(bucket.texts(f"killed/{part}.d/").values())
    assert kept.count(b"\n") >= 3
    phases = {phase.name: phase for phase in status(RunDir(url)).phases}
    assert phases["round 2: rollouts"].state == "partly"
    assert phases["round 2: rollouts"].detail == f"{kept.count(10)} of up to 16 chains"
    said = "\n".join(run(config(place(url))).lines)
    assert f"{kept.count(10)} finished rollouts are kept" in said
    assert "taken over from process" in said
    assert plain(kept) <= set(bucket.objects[f"killed/{part}"].content.splitlines())
    same(records(place(url)), records(finished))
    assert verify(RunDir(url)).faults == []


@pytest.mark.slow
def test_a_checkpoint_copied_without_its_mark_is_set_aside_and_made_anew(bucket: FakeBucket, remote: str) -> None:
    marks = (f"checkpoints/0002/params/{MARK}", "rounds/0002/COMMITTED", "rounds/0002/metrics.json", "evaluations/0002")
    url = copied(bucket, remote, "unmarked", marks)
    before = bucket.texts("unmarked/checkpoints/0002/params/")
    said = "\n".join(run(config(place(url))).lines)
    aside = f"{url}/checkpoints/quarantine/0002.params.1"
    assert f"{aside}. If it is a whole copy, put an empty {MARK} into it and move it back" in said
    assert bucket.texts("unmarked/checkpoints/quarantine/0002.params.1/") == before
    assert f"unmarked/checkpoints/0002/params/{MARK}" in bucket.objects
    assert verify(RunDir(url)).faults == []
