import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.config import dump_config, parse_config
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.report import status, summarize
from selfevo_jax.run import Cost, checksums, costs, forking, verify
from selfevo_jax.run.checksums import Checksums
from selfevo_jax.run.files import write_file
from selfevo_jax.run.following import about
from selfevo_jax.run.identity import config_differences
from selfevo_jax.run.joining import finished_files
from selfevo_jax.run.journal import Journal, encoded
from selfevo_jax.run.run_dir import RunDir

TREE = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}}
ROW = {"id": "1", "sample": 0, "text": "nüchtern ☃"}
NEXT = {"id": "2", "sample": 0}


@pytest.mark.parametrize("cut", range(1, len(encoded(NEXT)), 5))
def test_a_torn_last_line_is_redone_and_the_others_are_kept(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(encoded(ROW) + encoded(NEXT)[:cut])
    with Journal(path) as journal:
        assert (journal.rows, journal.bad) == ([ROW], [])
        journal.append(NEXT)
    assert path.read_bytes() == encoded(ROW) + encoded(NEXT)


def test_a_row_survives_although_the_journal_is_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path).append(ROW)
    assert Journal(path).rows == [ROW]


def test_a_journal_that_follows_has_the_first_rows_and_writes_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    content = encoded(ROW) + encoded(NEXT) + encoded(ROW)[:9]
    path.write_bytes(content)
    with Journal(path, follows=1) as journal:
        assert journal.rows == [ROW]
        journal.append({"id": "3"})
        assert journal.rows == [ROW, {"id": "3"}]
    assert path.read_bytes() == content
    assert Journal(tmp_path / "none.jsonl", follows=0).rows == []
    with pytest.raises(SelfevoError, match=r"rows.jsonl: 2 rows here, 3 where it is written"):
        Journal(path, follows=3)


@settings(max_examples=60)
@given(st.data())
def test_each_row_of_an_unfinished_part_stands_for_itself(data: st.DataObject) -> None:
    """Rows are changed, cut, doubled, lost, of another file or no rows; each other one stays, behind them too."""
    rows = [{"id": str(n), "sample": n % 2, "text": "x" * n + "☃\n", "number": n / 7} for n in range(8)]
    lines, kept, bad = [], [], 0
    for row in rows:
        line, act = (
            encoded(row, "mine"),
            data.draw(st.sampled_from(["keep"] * 4 + ["flip", "cut", "twice", "lose", "other"])),
        )
        at = data.draw(st.integers(0, len(line) - 2))
        lines += {
            "keep": [line],
            "flip": [line[:at] + bytes([line[at] ^ data.draw(st.sampled_from([1, 2, 64, 128]))]) + line[at + 1 :]],
            "cut": [line[:at] + b"\n"],
            "twice": [line, line],
            "lose": [],
            "other": [encoded(row, "theirs")],
        }[act]
        kept += [row] if act in ("keep", "twice") else []
        bad += act in ("flip", "cut", "twice", "other")
    lines += [b"{}\n", encoded({"sample": 1}, "mine"), b"[1]\n"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_bytes(b"".join(lines))
        with Journal(path, belongs="mine") as journal:
            assert journal.rows == kept
            assert len(journal.bad) >= bad + 3  # a byte may be changed into a line end
            journal.append({"id": "new", "sample": 0})
        assert path.read_bytes() == b"".join(encoded(row, "mine") for row in [*kept, {"id": "new", "sample": 0}])
        assert Journal(path, belongs="mine").bad == []


def test_rows_that_are_none_of_a_part_are_kept_in_quarantine_and_counted_aloud(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.open(parse_config(TREE), {})
    part = run.round(1, "rollouts/part-00000.jsonl")
    with run.journal(part) as journal:
        journal.append(ROW)
        journal.append(NEXT)
    part.write_bytes(part.read_bytes().replace(b'"id": "1"', b'"id": "3"'))
    assert verify(RunDir(run.root)).faults == [
        "rounds/0001/rollouts/part-00000.jsonl: 1 rows are changed, doubled or of another run"
    ]
    with run.journal(part) as journal:
        assert journal.rows == [NEXT]
    (note,) = run.take_notes()
    there = run.root / "quarantine" / "rollouts.part-00000.jsonl.1"
    assert f"1 of 2 rows are changed, doubled or of another run; they are moved to quarantine ({there})" in note
    assert b'"id": "3"' in there.read_bytes()
    run.close()


def test_keys_that_change_what_is_computed_are_named() -> None:
    old = parse_config(TREE)
    new = parse_config({**TREE, "seed": 3, "rounds": {"number": 9}, "sampling": {"slots": 2}, "mesh": {"fsdp": 2}})
    assert config_differences(old, new) == ["seed: 0 -> 3"]
    system = parse_config({**TREE, "format": {"system": "Be kind."}})
    assert config_differences(old, system) == ['format.system: null -> "Be kind."']


def test_a_run_is_joined_with_its_own_config_and_refused_with_another(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.open(parse_config(TREE), {"tokenizer": "a"})
    run.open(parse_config({**TREE, "rounds": {"number": 9}}), {"tokenizer": "a"})
    with pytest.raises(ConfigError, match="seed: 0 -> 3"):
        run.open(parse_config({**TREE, "seed": 3}), {"tokenizer": "a"})
    with pytest.raises(ConfigError, match=r"tokenizer: other content than at the start\n.*: put the old one back"):
        run.open(parse_config(TREE), {"tokenizer": "b"})


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not empty and not a run directory"):
        RunDir(tmp_path).open(parse_config(TREE), {})


def test_a_run_of_another_format_is_refused_with_a_sentence_that_says_so(tmp_path: Path) -> None:
    config = parse_config(TREE)
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.yaml").write_text("seed: 1\n")
    (old / "checksums.jsonl").write_text('{"file": "a", "sha256": "00"}\n')
    new = RunDir(tmp_path / "new")
    new.open(config, {})
    new.close()
    tree = json.loads((tmp_path / "new/run.json").read_text())
    (tmp_path / "new/run.json").write_bytes(checksums._sealed({**tree, "format": 99}))
    for root, said in (
        (old, "begun by an older version of selfevo_jax .* this version reads format 2"),
        (tmp_path / "new", "of format 99, and this version of selfevo_jax reads format 2"),
    ):
        for act in (lambda run: run.open(config, {}), lambda run: run.read_config(), verify, status, summarize):
            with pytest.raises(ConfigError, match=said):
                act(RunDir(root))


@pytest.mark.parametrize(
    ("part", "end"),
    [
        ("rounds/0001/rollouts/part-00000.jsonl", "rounds/0001/rollouts/manifest.json"),
        ("rounds/0002/prompts/texts.jsonl", "rounds/0002/prompts/manifest.json"),
        ("rounds/0001/judged/answers.jsonl", "rounds/0001/judged/manifest.json"),
        ("rounds/0001/controls/answers.jsonl", "rounds/0001/controls.json"),
        ("open_ended/0001/texts/open.jsonl", "open_ended/0001/open.jsonl"),
    ],
)
def test_lines_whose_finished_file_could_not_be_written_grow_again(tmp_path, monkeypatch, part, end):
    def full(path, content):
        raise OSError(28, "No space left on device")

    path = tmp_path / part
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a row as it came\n")
    monkeypatch.setattr(checksums, "write_file", full)
    with pytest.raises(OSError, match="No space left"):
        Checksums(tmp_path).write(path, b"the row as it is kept\n")
    assert finished_files(tmp_path, Checksums(tmp_path)) == []
    (tmp_path / end).write_bytes(b"{}")
    assert finished_files(tmp_path, Checksums(tmp_path)) == [part]


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("meta/own_answers.jsonl", True),
        ("evaluations/0001/answers.jsonl", True),
        ("open_ended/0001/logprobs.jsonl", True),
        ("rounds/0001/judged/answers.jsonl", False),
        ("rounds/0001/controls/answers.jsonl", False),
        ("rounds/0001/rollouts/logprobs.jsonl", False),
    ],
)
def test_a_missing_file_is_done_without_where_nothing_is_made_from_it_and_nowhere_else(
    tmp_path: Path, name: str, lost: bool
) -> None:
    run = RunDir(tmp_path / "run")
    run.open(parse_config(TREE), {})
    run.write_rows(run.root / name, [ROW])
    run.close()
    (run.root / name).unlink()
    again = RunDir(run.root)
    again.open(parse_config(TREE), {})
    (note,) = again.take_notes()
    assert (again.lost(), "it is made anew" in note, "the run goes on without it" in note) == (lost, lost, not lost)
    again.close()


def full_at(name: str) -> Callable[[Path, bytes], None]:
    """What writes a file, on a disk that has no room left for one of them."""

    def write(path: Path, content: bytes) -> None:
        if path.name == name:
            raise OSError(28, "No space left on device")
        write_file(path, content)

    return write


def test_a_write_that_was_broken_off_is_no_loss_where_the_run_goes_on_with_another_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run")
    run.open(parse_config(TREE), {})
    file = run.texts("base", "mine")
    with monkeypatch.context() as patched:
        patched.setattr(checksums, "write_file", full_at(file.name))
        with pytest.raises(OSError, match="No space left"):
            run.write_rows(file, [NEXT])
    run.close()
    again = RunDir(run.root)
    again.open(parse_config({**TREE, "mesh": {"fsdp": 2}}), {})
    again.write_rows(file, [ROW])
    again.close()
    assert verify(RunDir(run.root)).faults == []


@pytest.mark.parametrize("broken", ["config.yaml", "fingerprints.json"])
def test_a_start_that_was_broken_off_at_a_record_of_the_run_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    run = RunDir(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(checksums, "write_file", full_at(broken))
        with pytest.raises(OSError, match="No space left"):
            run.open(parse_config(TREE), {"tokenizer": "a"})
    again = RunDir(run.root)
    again.open(parse_config(TREE), {"tokenizer": "a"})
    again.close()
    assert verify(RunDir(run.root)).faults == []


def test_what_a_server_was_asked_is_among_the_costs_as_it_counts_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.open(parse_config(TREE), {})
    run.append_cost({"phase": "round 1: respond, judge, refine", "seconds": 2.0, "decoded": 9, "prefilled": 30})
    asked = {"questions": 3, "failed": 1, "asked_again": 0, "prompt_tokens": 70, "completion_tokens": 8}
    run.append_cost({"phase": "round 1: judged by endpoint", **asked, "seconds": 1.5})
    run.close()
    assert costs(run) == [Cost("rollouts", "0001", 2.0, 9, 30), Cost("judged", "0001", 1.5, 8, 70)]


def test_a_fork_may_ask_the_same_judge_at_another_place_and_no_other_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    forking._check(run, 1, ["judge.batch.endpoint.url", "judge.batch.endpoint.concurrency"], measured=True)
    with pytest.raises(ConfigError, match=r"judge\.batch\.endpoint\.model: the kept files came from it"):
        forking._check(run, 1, ["judge.batch.endpoint.url", "judge.batch.endpoint.model"], measured=True)


def test_a_fork_that_has_not_begun_tells_a_tracker_so_in_one_line(tmp_path: Path) -> None:
    tree = {**TREE, "run_dir": str(tmp_path / "run"), "track": "tensorboard"}
    run = RunDir(tmp_path / "run")
    with run.made_at_once(()) as finish:
        finish({"fingerprints.json": b"{}", "config.yaml": dump_config(parse_config(tree)).encode()})
    with pytest.raises(ConfigError, match=r"run: a fork that has not begun; begin it with selfevo evolve"):
        about(run, parse_config(tree).track[0], "track.0")
