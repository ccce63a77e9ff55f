"""A model against another side: who is sampled, who is asked, what is kept, and what the command shows and writes."""

import functools
import json
import shutil
from pathlib import Path

import pytest
from completions_server import Server, serving
from loop_helpers import Heard, config
from typer.testing import CliRunner

from selfevo_jax.checkpoint.source import ASSETS
from selfevo_jax.cli import app
from selfevo_jax.config import Config
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError, SelfevoError
from selfevo_jax.evaluate import win_rate
from selfevo_jax.judges import JudgePrompt, Pair
from selfevo_jax.rounds import texts, winrate
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.run.journal import Journal

ROWS = [PromptRow("1", "Mia has 7 shells. How many now?"), PromptRow("2", "Tom has 2 cups. How many now?")]
PAIR = JudgePrompt("", "{question} {answer_a} or {answer_b}?", "It is [[")


def test_two_models_and_a_judge_share_a_sampler_and_no_text_is_sampled_twice(tmp_path: Path, monkeypatch) -> None:
    other = tmp_path / "other"
    shutil.copytree(ASSETS / "stories", other)
    opened, loop = [], config(tmp_path / "run", sampling__slots=4)
    once = functools.cache(lambda: real(loop))
    real = texts.open_workbench

    def open_one(c: Config) -> Workbench:
        opened.append(c.model.source)
        return once()  # one sampler is compiled for all of this test

    monkeypatch.setattr(texts, "open_workbench", open_one)

    def contest(journal: Journal, brief: bool = False) -> list[Pair]:
        models = texts.Models(loop, texts.Kept(journal), Heard(), lambda bench: [20, 40, 60])
        theirs = winrate.answers_of(models, str(other), "other", ROWS)
        mine = winrate.answers_of(models, "builtin:stories", "model", ROWS)
        judge = winrate.ModelJudge(models, "builtin:stories", brief)
        return winrate.compared(judge, ROWS, mine, theirs, PAIR)

    path = tmp_path / "texts.jsonl"
    with Journal(path, belongs="this") as journal:
        pairs = contest(journal)
        assert len(journal.rows) == 8  # two answers to each prompt, and a judgement in each order
    assert opened == [str(other)]
    assert all(pair.answers[0] == pair.answers[1] != "" for pair in pairs)  # the same weights, greedy
    assert win_rate(pairs).unread.keys() <= {"none", "clipped"}  # this model knows no such verdict
    # half of it is there: only the rest is sampled, to the same texts
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    with Journal(path, belongs="this") as journal:
        assert contest(journal) == pairs
    assert opened == [str(other), "builtin:stories"]
    with Journal(path, belongs="this") as journal:
        assert contest(journal) == pairs
    assert len(opened) == 2
    with Journal(tmp_path / "brief.jsonl") as journal:
        brief = contest(journal, brief=True)
    assert all(j.text.startswith("It is [[") for pair in brief for j in pair.judgements)


def test_a_brief_judge_s_text_is_whole_with_its_opening_and_its_end() -> None:
    def opened(text: str, finish: str) -> str:
        return winrate.opened(texts.Said(text, finish), PAIR).text

    assert [opened(" A", "stop_string"), opened("A", "length")] == ["It is [[A]]", "It is [[A"]
    assert winrate.opened(texts.Said("", "error", "too long"), PAIR).text == ""


def prefers_long(prompt: str, n: int) -> str | None:
    """A judge that likes the longer answer, and cannot be understood on the third prompt; its mark is the words."""
    if "Assistant's Answer" in prompt:
        return f"says Rating: [[{prompt.count('word ') + prompt.count('text ')}]]"
    if "prompt 3" in prompt:
        return "says I am not sure."
    first, second = (len(part.partition("]\n")[2]) for part in prompt.split("[The Start of Assistant")[1:])
    return f"says Long is good. [[{'A' if first > second else 'B'}]]"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A config, prompts, and answers of two sides."""
    found = {name: tmp_path / f"{name}.jsonl" for name in ("prompts", "mine", "theirs")}
    rows = dict.fromkeys(found, "")
    for i in range(12):
        rows["prompts"] += json.dumps({"question_id": i, "turns": [f"prompt {i}?"]}) + "\n"
        rows["mine"] += json.dumps({"question_id": i, "answer": "word " * (5 + i)}) + "\n"
        rows["theirs"] += json.dumps({"question_id": i, "answer": "text " * 10}) + "\n"
    for name, path in found.items():
        path.write_text(rows[name])
    found["config"] = tmp_path / "config.yaml"
    found["config"].write_text("run_dir: x\nmodel: {source: builtin:stories}\ndata: {stories: {}}\n")
    return found


def call(files: dict[str, Path], server: Server, *more: str):
    sides = ["--model", str(files["mine"]), "--against", str(files["theirs"]), "--prompts", str(files["prompts"])]
    judge = ["--judge", server.url, "--judge-model", "big"]
    return CliRunner().invoke(app, ["winrate", str(files["config"]), *sides, *judge, *more])


def test_the_command_judges_given_answers_by_a_server_shows_every_figure_and_writes_every_text(files, tmp_path) -> None:
    pytest.importorskip("openai")
    out = tmp_path / "rows.jsonl"
    with serving(prefers_long) as server:
        done = call(files, server, "--out", str(out))
        assert done.exit_code == 0, done.output
        assert len(server.asked) == 24
        again = call(files, server, "--out", str(out))
        assert "exists already" in str(again.exception)
        figures = json.loads(call(files, server, "--json", "--ratings").stdout)
    # 5 to 14 words against 10 (as long: the second in both orders, a disagreement), without the third prompt
    assert "6, 1, 4 of 11 judged pairs" in done.output
    assert (figures["wins"], figures["ties"], figures["losses"], figures["unjudged"]) == (6, 1, 4, 1)
    # marks above 10 are none: of the model's answers those of 5 to 10 words count
    assert (figures["ratings"]["model"]["value"], figures["ratings"]["model"]["unread"]) == (7.5, 6)
    assert figures["ratings"]["against"]["value"] == 10.0
    assert all(len(line) <= 80 for line in done.output.splitlines() if "/" not in line)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(i) for i in range(12)]
    assert rows[11]["outcome"] == "win"
    assert rows[11]["judgements"]["model_second"] == {
        "text": "Long is good. [[B]]",
        "verdict": "B",
        "unread": None,
        "error": None,
    }
    assert (rows[3]["outcome"], rows[3]["judgements"]["model_first"]["unread"]) == (None, "none")
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_call_that_was_broken_off_goes_on_and_asks_nothing_twice(files, tmp_path) -> None:
    pytest.importorskip("openai")
    out = tmp_path / "rows.jsonl"
    fault = ["401"]
    with serving(
        lambda prompt, n: fault.pop() if "prompt 8?" in prompt and fault else prefers_long(prompt, n)
    ) as server:
        broken = call(files, server, "--out", str(out), "--judge-concurrency", "1")
        assert isinstance(broken.exception, ConfigError)
        kept = len((tmp_path / "rows.jsonl.unfinished").read_bytes().splitlines())
        assert kept == 16
        done = call(files, server, "--out", str(out))
        assert "16 texts of an earlier call are there" in done.output
        assert sorted(server.asked.values()) == [1] * 23 + [2]
    assert len(out.read_text().splitlines()) == 12


def test_texts_of_another_call_are_put_beside_with_a_warning(files, tmp_path) -> None:
    pytest.importorskip("openai")
    out = tmp_path / "rows.jsonl"
    with serving(lambda prompt, n: "401" if "prompt 8?" in prompt else prefers_long(prompt, n)) as server:
        call(files, server, "--out", str(out), "--judge-concurrency", "1")
        said = call(files, server, "--out", str(out), "--limit", "8").output
    assert "16 texts are changed, or of a call with other models, prompts or settings" in said
    assert len((tmp_path / "rows.jsonl.unfinished.1").read_bytes().splitlines()) == 16
    assert len(out.read_text().splitlines()) == 8


def test_settings_that_no_text_depends_on_do_not_begin_anew(tmp_path) -> None:
    one = texts.settings_of(config(tmp_path))
    assert texts.settings_of(config(tmp_path / "x", sampling__slots=2, learn={"steps": 9}, seed=7)) == one
    assert texts.settings_of(config(tmp_path, sampling__dtype="bfloat16")) != one


def test_what_the_command_cannot_do_is_one_clear_line(files, tmp_path) -> None:
    def refused(*more: str) -> str:
        sides = ["--against", str(files["theirs"]), "--prompts", str(files["prompts"])]
        done = CliRunner().invoke(app, ["winrate", str(files["config"]), *sides, *more])
        assert isinstance(done.exception, SelfevoError)
        return str(done.exception)

    assert "which cannot judge; name a judge" in refused("--model", str(files["mine"]))
    assert "--judge-model NAME" in refused("--judge", "http://127.0.0.1:1/v1")
    assert "credentials" in refused("--judge", "http://me:secret@127.0.0.1:1/v1", "--judge-model", "m")
