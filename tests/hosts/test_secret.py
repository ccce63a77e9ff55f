"""Where the processes of a run have their secret from."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from selfevo_jax.cli import secret as cli
from selfevo_jax.cli.secret import shared_secret
from selfevo_jax.errors import ConfigError
from selfevo_jax.hosts import SECRET_FILE, start_hosts
from selfevo_jax.hosts.secret import secret_of_environment
from selfevo_jax.run import RunDir, records


def test_all_who_come_at_once_find_one_secret_that_the_owner_alone_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with ThreadPoolExecutor(16) as pool:
        keys = {found.key for found in pool.map(shared_secret, [folder] * 64)}
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert stat.S_IMODE((folder / SECRET_FILE).stat().st_mode) == 0o600
    assert os.listdir(folder) == [SECRET_FILE]


def test_the_next_start_finds_the_same_secret_and_another_folder_has_its_own(tmp_path: Path) -> None:
    assert shared_secret(tmp_path).key == shared_secret(str(tmp_path)).key
    assert shared_secret(tmp_path).key != shared_secret(tmp_path / "other").key


def test_the_secret_makes_no_run_directory_and_is_no_record(tmp_path: Path) -> None:
    shared_secret(tmp_path)
    assert records(tmp_path) == {}
    RunDir(tmp_path).require_free()


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"x" * 5000])
def test_a_damaged_file_is_refused_with_its_name_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(cli, "WRITTEN_SECONDS", 0.2)
    (tmp_path / SECRET_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{SECRET_FILE}: .*remove"):
        shared_secret(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused_with_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match=r"file.*or give all processes the same SELFEVO_SECRET"):
        shared_secret(tmp_path / "file")


def test_the_variable_is_taken_as_it_is_and_one_that_is_too_short_is_refused() -> None:
    assert secret_of_environment({}) is None
    assert secret_of_environment({"SELFEVO_SECRET": " \n"}) is None
    found = secret_of_environment({"SELFEVO_SECRET": "0123456789abcdef\n"})
    assert found is not None
    assert found.key == b"0123456789abcdef"
    with pytest.raises(ConfigError, match="SELFEVO_SECRET: holds a secret of 4 bytes, expected 16 to 4096") as raised:
        secret_of_environment({"SELFEVO_SECRET": "open"})
    assert "open;" not in str(raised.value)


def test_several_processes_without_a_secret_are_refused_before_anything_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SELFEVO_SECRET", raising=False)
    with pytest.raises(ConfigError, match="SELFEVO_SECRET is not set; give all of them the same"):
        start_hosts("127.0.0.1:1", 2, 0)
