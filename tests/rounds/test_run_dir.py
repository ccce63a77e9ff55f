import json
from pathlib import Path

import pytest

from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.report import status, summarize
from selfevo_jax.rounds import checksums, verify
from selfevo_jax.rounds.journal import Journal
from selfevo_jax.rounds.run_dir import RunDir, config_differences

TREE = {"run_dir": "x", "model": {"source": "builtin:stories"}, "data": {"stories": {}}}
ROW = {"id": "1", "text": "nüchtern ☃"}


@pytest.mark.parametrize("cut", range(1, len((json.dumps(ROW, ensure_ascii=False) + "\n").encode())))
def test_a_torn_last_line_is_redone_and_the_others_are_kept(tmp_path: Path, cut: int) -> None:
    line = (json.dumps(ROW, ensure_ascii=False) + "\n").encode()
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + line[:cut])
    with Journal(path) as journal:
        assert journal.rows == [ROW]
        journal.append({"id": "2"})
    assert [json.loads(text) for text in path.read_text().splitlines()] == [ROW, {"id": "2"}]


def test_a_row_survives_although_the_journal_is_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path).append(ROW)
    assert Journal(path).rows == [ROW]


def test_a_journal_that_follows_has_the_first_rows_and_writes_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    line = (json.dumps(ROW, ensure_ascii=False) + "\n").encode()
    path.write_bytes(line + line + line[:9])
    with Journal(path, follows=1) as journal:
        assert journal.rows == [ROW]
        journal.append({"id": "2"})
        assert journal.rows == [ROW, {"id": "2"}]
    assert path.read_bytes() == line + line + line[:9]
    assert Journal(tmp_path / "none.jsonl", follows=0).rows == []


def test_keys_that_change_what_is_computed_are_named() -> None:
    old = parse_config(TREE)
    new = parse_config({**TREE, "seed": 3, "rounds": {"number": 9}, "sampling": {"slots": 2}, "mesh": {"fsdp": 2}})
    assert config_differences(old, new) == ["seed: 0 -> 3"]


def test_a_run_is_joined_with_its_own_config_and_refused_with_another(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.open(parse_config(TREE), {"tokenizer": "a"})
    run.open(parse_config({**TREE, "rounds": {"number": 9}}), {"tokenizer": "a"})
    with pytest.raises(ConfigError, match="seed: 0 -> 3"):
        run.open(parse_config({**TREE, "seed": 3}), {"tokenizer": "a"})
    with pytest.raises(ConfigError, match="tokenizer: other content"):
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
