"""A file of prompts is answered: as the run answers, each once, and whatever becomes of the call."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from lock_helpers import owned_by_a_living_process
from loop_helpers import Heard, config
from typer.testing import CliRunner

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.cli import app
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.rounds import generate as module
from selfevo_jax.rounds.generate import UNFINISHED, Batch, generate
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.lock import LockError

pytestmark = pytest.mark.usefixtures("quick_compiles")


def asked(**changes) -> Batch:
    given = {"prompts": "", "columns": {}, "limit": None, "samples": 1, "refined": False, "temperature": None}
    return Batch(**{**given, **changes})


def test_answers_are_those_of_the_evaluation_and_a_call_that_goes_on_makes_the_others_alone(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(finished / "evaluations/0002/stories.jsonl")
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text("".join(json.dumps({"id": row["id"], "prompt": row["prompt"]}) + "\n" for row in rows))
    command = ["generate", f"{finished}@2", "--prompts", str(prompts), "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = read_rows(out)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["response"] for row in found] == [row["candidates"][0]["text"].strip() for row in rows]
    assert not out.with_name(out.name + UNFINISHED).exists()
    assert isinstance(CliRunner().invoke(app, command).exception, ConfigError)  # it is there by now

    # the same call, killed when seven rows were there
    left = []
    real = module.journal_of

    def killed(path: Path, belongs: str, reporter: object):
        journal = real(path, belongs, reporter)
        for row in [] if journal.rows else found[:7]:
            journal.append(row)
        return journal

    def sample(config: object, rows: object, wanted: list, *_: object) -> None:
        left.extend((row.id, sample) for row, sample in wanted)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "journal_of", killed)
    monkeypatch.setattr(module, "_sample", sample)
    CliRunner().invoke(app, [*command, "--force"])
    assert left == [(row["id"], 0) for row in found[7:]]


def rollout(id: str, sample: int, prompt: str, error: str | None = None) -> Rollout:
    feedback = Feedback("Too low. Verdict: incorrect", "stop", False, None)
    good = Feedback("Verdict: correct", "stop", True, None)
    candidates = Candidate(" 3 ", "stop", (1,), feedback), Candidate(f" {id}/{sample}", "stop", (2,), good)
    return Rollout(id, sample, prompt, candidates, 1, error)


@pytest.mark.parametrize(("slots", "taken"), [(256, 6), (4, 4), (None, None)])
def test_there_are_no_more_slots_than_answers(tmp_path: Path, slots: int | None, taken: int | None) -> None:
    rows = [PromptRow(id, id) for id in "abc"]
    fitted = module._fitted(config(tmp_path, sampling__slots=slots), rows, asked(samples=2), "keep", Heard())
    assert fitted.sampling.slots == taken


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> list:
    """Answers without a model; the list has every prompt and sample that was asked for."""
    asked_for: list = []

    def sample(config, rows, left, batch, reporter, done) -> None:
        asked_for.append([(row.id, number) for row, number in left])
        for row, number in reversed(left):
            done(rollout(row.id, number, row.prompt, "too long" if row.id == "c" else None))

    monkeypatch.setattr(module, "_sample", sample)
    return asked_for


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "p.csv"
    path.write_text("id,problem\na,Say 1.\nb,Say 2.\nc,Say 3.\n")
    return str(path)


def test_each_sample_of_each_prompt_is_a_row_in_their_order(tmp_path: Path, prompts: str, sampler: list) -> None:
    batch = asked(prompts=prompts, columns={"prompt": "problem"}, samples=2, refined=True)
    rows = generate(config(tmp_path / "run"), batch, tmp_path / "o.jsonl", Heard())
    assert [(row["id"], row["sample"]) for row in rows] == [(id, n) for id in "abc" for n in (0, 1)]
    assert rows[1] == {
        "id": "a",
        "sample": 1,
        "prompt": "Say 1.",
        "response": "a/1",
        "finish": "stop",
        "first": "3",
        "feedback": "Too low. Verdict: incorrect",
        "good": False,
    }
    assert [row.get("error") for row in rows] == [None] * 4 + ["too long"] * 2


def test_more_samples_are_added_to_those_that_are_there_and_other_settings_begin_anew(
    tmp_path: Path, prompts: str, sampler: list
) -> None:
    run, out = config(tmp_path / "run"), tmp_path / "o.jsonl"
    batch = asked(prompts=prompts, columns={"prompt": "problem"}, temperature=0.5)
    generate(run, batch, out, Heard())
    generate(run, asked(**{**vars(batch), "samples": 2}), out, Heard())
    assert sampler[1:] == [[(id, 1) for id in "abc"]]
    heard = Heard()
    generate(run, asked(**{**vars(batch), "temperature": 0.9}), out, heard)
    assert len(sampler[2]) == 3
    assert any("6 texts are changed, or of a call with other models, prompts or settings" in one for one in heard.lines)
    generate(run.model_copy(update={"seed": 7}), asked(**{**vars(batch), "temperature": 0.9}), out, Heard())
    assert len(sampler[3]) == 3


def test_a_call_that_goes_on_says_of_rows_that_failed_before_what_the_first_one_said(
    tmp_path: Path, prompts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(config, rows, left, batch, reporter, done) -> None:
        for row, number in left:
            response = Candidate("", "error", ()) if row.id in lost else Candidate("3", "stop", (1,))
            done(Rollout(row.id, number, row.prompt, (response,), 0, "too long" if row.id in lost else None))

    monkeypatch.setattr(module, "_sample", sample)
    batch = asked(prompts=prompts, columns={"prompt": "problem"})
    refused = pytest.raises(ConfigError, match="3 of 3 rows could not be run.* Nothing could be answered")
    for lost, ends in (("abc", refused), ("abc", refused), ("ab", nullcontext()), ("ab", nullcontext())):
        heard = Heard()
        with ends:
            generate(config(tmp_path / "run"), batch, tmp_path / f"{lost}.jsonl", heard)
        assert lost == "abc" or any("2 of 3 rows could not be run" in line for line in heard.lines)


def test_a_second_call_for_a_file_is_refused_with_the_name_of_the_first_and_leaves_no_lock(
    tmp_path: Path, prompts: str, sampler: list
) -> None:
    out = tmp_path / "o.jsonl"
    lock = tmp_path / ".o.jsonl.lock"
    other = owned_by_a_living_process(lock)
    command = ["generate", "builtin:stories", "--prompts", prompts, "--column", "prompt=problem", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, LockError)
    assert f"{out}: process {other.pid} on " in str(done.exception)
    assert "is writing this file" in str(done.exception)
    assert str(done.exception).endswith("or name another file")
    assert sampler == []
    lock.unlink()
    assert CliRunner().invoke(app, command).exception is None
    assert [path.name for path in tmp_path.glob("*o.jsonl*")] == ["o.jsonl"]


def test_a_slot_holds_what_the_prompts_need(tmp_path: Path, sampler: list, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "Mia has 7 shells. " * 12}) + "\n")
    lengths: list[int] = []
    monkeypatch.setattr(module, "_sample", lambda config, *_: lengths.append(config.sampling.cache_length))
    short = config(tmp_path / "run", sampling__cache_length=64)
    for length in ("raise", "fit", "keep"):
        with pytest.raises(KeyError):  # nothing was sampled
            generate(short, asked(prompts=str(path)), tmp_path / f"{length}.jsonl", Heard(), length)
    assert lengths[0] == lengths[1] == 128
    assert lengths[2] == 64


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "x.csv"], "--out x.csv: expected a name that ends in .jsonl"),
        (["--out", "x.jsonl", "--column", "prompt"], "expected NAME=FIELD"),
    ],
)
def test_what_cannot_be_written_or_read_is_refused(words: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["generate", "builtin:stories", "--prompts", "builtin:vicuna/questions", *words])
    assert isinstance(done.exception, ConfigError)
    assert says in str(done.exception)


def test_prompts_that_cannot_be_used_are_refused_before_a_model_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": ""}\n{"text": "x"}\n{"prompt": "fine"}\n')
    with pytest.raises(DataError, match=r"(?s)p.jsonl:1, .*text is empty.*p.jsonl:2, .*is missing") as seen:
        generate(config(tmp_path / "run"), asked(prompts=str(path)), tmp_path / "o.jsonl", Heard())
    assert len(seen.value.faults) == 2
