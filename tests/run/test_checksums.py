"""A changed byte is found and named; what a kill leaves between a line and its file is no fault."""

from pathlib import Path

import pytest

from selfevo_jax.errors import SelfevoError
from selfevo_jax.run import checksums
from selfevo_jax.run.checksums import FILE, HEAD, Checksums
from selfevo_jax.run.files import write_file


def killed_before(root: Path, name: str, content: bytes) -> Path:
    """What is left of a write where a kill, or a full disk, comes before the file takes its place."""
    path = root / name
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checksums, "write_file", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            Checksums(root).write(path, content)
    return path


def store(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    Checksums(root).write(path, content)
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
    killed_before(tmp_path, "a.json", b"new")
    assert Checksums(tmp_path).fault(path) is None
    path.write_bytes(b"new")
    assert Checksums(tmp_path).fault(path) is None
    path.write_bytes(b"other")
    assert Checksums(tmp_path).fault(path) is not None


def test_a_write_that_fails_again_and_again_leaves_the_old_content_in_order(tmp_path: Path) -> None:
    path = store(tmp_path, "a.json", b"old")
    for attempt in (b"new 1", b"new 2", b"new 3"):  # each on a full disk, each in a process of its own
        killed_before(tmp_path, "a.json", attempt)
        sums = Checksums(tmp_path)
        sums.settle(sums.names())
        assert Checksums(tmp_path).fault(path) is None
    path.write_bytes(b"other")
    with pytest.raises(SelfevoError, match="a.json: its content has changed"):
        Checksums(tmp_path).settle(["a.json"])


def test_a_torn_last_line_is_cut_before_the_next_is_written(tmp_path: Path) -> None:
    path = store(tmp_path, "a.json", b"a")
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + whole[:9])
    assert Checksums(tmp_path).record_faults() == []
    assert Checksums(tmp_path).fault(path) is None
    store(tmp_path, "b.json", b"b")
    assert Checksums(tmp_path).names() == ["a.json", "b.json"]


def test_any_change_of_the_record_of_checksums_is_found_and_named(tmp_path: Path) -> None:
    for name in "abcd":
        store(tmp_path, f"{name}.json", name.encode())
    file, head = tmp_path / FILE, tmp_path / HEAD
    whole, lines, told = file.read_bytes(), file.read_bytes().splitlines(keepends=True), head.read_bytes()
    lost = [
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)),
        *(b"".join(lines[:n] + lines[n + 1 :]) for n in range(4)),
        *(b"".join(lines[: n + 1] + lines[n:]) for n in range(3)),
        whole[: len(whole) // 2],
        b"".join(lines[:-1]),
        b"",
    ]
    for content in lost:
        file.write_bytes(content)
        assert any(fault.startswith(FILE) for fault in Checksums(tmp_path).record_faults()), content
        with pytest.raises(SelfevoError, match=r"checksums\.jsonl.*; restore it from a copy of the run"):
            Checksums(tmp_path).repair()
    file.unlink()
    assert Checksums(tmp_path).record_faults() == [f"{FILE}: missing"]
    for content in (whole * 2, whole + lines[-1]):  # nothing is lost
        file.write_bytes(content)
        assert any(fault.startswith(f"{FILE}:5") for fault in Checksums(tmp_path).record_faults())
        assert len(Checksums(tmp_path).repair()) == 1
        assert file.read_bytes() == whole
        assert Checksums(tmp_path).record_faults() == []
    for content in (told[:-9], told * 2, told.replace(b"4", b"5", 1), b""):
        head.write_bytes(content)
        assert Checksums(tmp_path).record_faults() == [f"{HEAD}: its content has changed"]
        assert len(Checksums(tmp_path).repair()) == 1
        assert head.read_bytes() == told
    head.unlink()
    assert Checksums(tmp_path).record_faults() == [f"{HEAD}: missing"]
    assert len(Checksums(tmp_path).repair()) == 1
    assert head.read_bytes() == told


def test_a_kill_between_a_line_and_the_count_of_lines_is_no_fault(tmp_path: Path) -> None:
    store(tmp_path, "a.json", b"a")
    told = (tmp_path / HEAD).read_bytes()
    store(tmp_path, "b.json", b"b")
    (tmp_path / HEAD).write_bytes(told)
    (tmp_path / "b.json").unlink()
    assert Checksums(tmp_path).fault(tmp_path / "b.json") is None
    assert Checksums(tmp_path).record_faults() == []
    assert Checksums(tmp_path).repair() == []
    assert Checksums(tmp_path).names() == ["a.json", "b.json"]


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
    sums.adopt(folder)
    (folder / "params/d/1").write_bytes(b"")
    assert sums.size_fault(folder / "params/d/1") == "checkpoints/0001/params/d/1: its content has changed"
