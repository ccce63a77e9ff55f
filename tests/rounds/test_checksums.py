"""A changed byte is found and named; what a kill leaves between a line and its file is no fault."""

from pathlib import Path

import pytest

from selfevo_jax.errors import SelfevoError
from selfevo_jax.rounds.checksums import FILE, Checksums
from selfevo_jax.rounds.files import write_file


def store(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    Checksums(root).expect(path, content)
    write_file(path, content)
    return path


@pytest.mark.parametrize("at", range(6))
def test_any_changed_byte_is_found_and_the_file_named(tmp_path: Path, at: int) -> None:
    path = store(tmp_path, "rounds/0001/metrics.json", b"abcdef")
    sums = Checksums(tmp_path)
    assert list(sums.faults()) == []
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert list(sums.faults()) == ["rounds/0001/metrics.json: its content has changed"]
    with pytest.raises(SelfevoError, match=r"rounds/0001/metrics.json: its content has changed since .* restore it"):
        sums.require(path)
    path.unlink()
    assert sums.fault(path) == "rounds/0001/metrics.json: missing"


def test_a_kill_before_the_file_takes_its_place_leaves_the_old_content_in_order(tmp_path: Path) -> None:
    path = store(tmp_path, "a.json", b"old")
    Checksums(tmp_path).expect(path, b"new")
    assert Checksums(tmp_path).fault(path) is None
    path.write_bytes(b"new")
    assert Checksums(tmp_path).fault(path) is None
    path.write_bytes(b"other")
    assert Checksums(tmp_path).fault(path) is not None


def test_a_write_that_fails_again_and_again_leaves_the_old_content_in_order(tmp_path: Path) -> None:
    path = store(tmp_path, "a.json", b"old")
    for attempt in (b"new 1", b"new 2", b"new 3"):  # each on a full disk, each in a process of its own
        Checksums(tmp_path).expect(path, attempt)
        sums = Checksums(tmp_path)
        sums.settle(sums.names())
        assert Checksums(tmp_path).fault(path) is None
    path.write_bytes(b"other")
    with pytest.raises(SelfevoError, match="a.json: its content has changed"):
        Checksums(tmp_path).settle(["a.json"])


def test_a_torn_last_line_is_cut_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = store(tmp_path, "a.json", b"a")
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + whole[:9])
    assert Checksums(tmp_path).fault(path) is None
    store(tmp_path, "b.json", b"b")
    assert Checksums(tmp_path).names() == ["a.json", "b.json"]
    (tmp_path / FILE).write_bytes(b"{" + (tmp_path / FILE).read_bytes())
    with pytest.raises(SelfevoError, match=r"checksums.jsonl:1: not readable"):
        Checksums(tmp_path).names()


def test_a_checkpoints_files_are_noted_together_and_forgotten_when_it_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "0001"
    for name in ("model.json", "params/d/1"):
        write_file(folder / name, b"x")
    sums = Checksums(tmp_path)
    sums.adopt(folder)
    assert sums.names(folder) == ["checkpoints/0001/model.json", "checkpoints/0001/params/d/1"]
    (folder / "params/d/1").write_bytes(b"y")
    with pytest.raises(SelfevoError, match="checkpoints/0001/params/d/1: its content has changed"):
        sums.require(folder)
    sums.forget(folder)
    sums.require(folder)
    assert Checksums(tmp_path).names(folder) == []
