"""Open-ended prompts inside a run: each checkpoint answers once, one judge compares and rates, every text is kept."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from loop_helpers import Heard, config, run
from rich.console import Console

from selfevo_jax.config import Config, parse_config
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import JudgePrompt
from selfevo_jax.report import WIDTH, open_transcripts, status, summarize, tables, verdict_on_open
from selfevo_jax.rounds import open_ended, opening, texts, winrate
from selfevo_jax.rounds.survey import run_phases
from selfevo_jax.run import RunDir, verify
from selfevo_jax.run.artefacts import EVALUATION, OPEN_ENDED, artefacts, inputs, is_read_by
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.verify import records
from selfevo_jax.tasks import open_task

pytestmark = pytest.mark.slow
ROWS = [f"Mia has {n} shells. Then Mia finds 5. How many now?" for n in range(3, 12)]


def with_open(root: Path, **sampling: object) -> Config:
    """M_0, and M_meta that is M_0: what is looked at here needs no training."""
    prompts, given = root.parent / "open.jsonl", root.parent / "given.jsonl"
    prompts.write_text("".join(json.dumps({"key": f"q/{n}", "query": row}) + "\n" for n, row in enumerate(ROWS)))
    lines = [{"id": f"q/{n}", "answer": "I do not know. " * (1 + n % 3)} for n in range(len(ROWS))]
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    section = {"source": str(prompts), "columns": {"prompt": "query", "id": "key"}, "brief": True}
    tree = config(root, rounds={"number": 0}, meta={"steps": 0}).model_dump(mode="json")
    tree["data"]["open_ended"] = {
        "shells": section,
        "given": {**section, "against": str(given), "judge": "self", "brief": False},
    }
    tree["sampling"] |= sampling
    return parse_config(tree)


class Likes:
    """A judge with opinions: of nine prompts it likes the model in three, the other side in three, the answer shown
    first in two, and does not understand the sixth."""

    def __init__(self, models: texts.Models) -> None:
        self.kept = models.kept

    def said(self, stage: str, prompt: JudgePrompt, shown: dict[str, str]) -> dict[str, texts.Said]:
        for key, text in shown.items():
            if f"{stage}/{key}" not in self.kept:
                self.kept.add(f"{stage}/{key}", texts.Said(self.likes(stage, int(key[-1]), text)))
        return {key: self.kept[f"{stage}/{key}"] for key in shown}

    def likes(self, stage: str, n: int, text: str) -> str:
        if n == 5:
            return "Hm."
        model = "A" if text.rstrip().endswith("know.") else "B"
        return f"[[{(model, 'AB'.replace(model, ''), 'A')[n % 3]}]]" if stage == "pair" else f"Rating: {1 + n}"


def short(patch: pytest.MonkeyPatch) -> None:
    """Judges' prompts that a model of 256 positions can be shown, a judge with opinions, and the sampler's programs of
    the other tests."""
    whole = config(Path("x"))
    usual = lambda bench, task: run_phases(replace(bench, config=whole), open_task(whole))  # noqa: E731
    patch.setattr(opening, "run_phases", usual)
    patch.setattr(opening, "open_phases", lambda bench, sets: [])
    patch.setattr(winrate, "mt_bench_pair", lambda: JudgePrompt("", "{question}\n{answer_a}\n{answer_b}", "[["))
    patch.setattr(winrate, "mt_bench_single", lambda: JudgePrompt("", "{question}\n{answer}", "[["))
    real = open_ended.ModelJudge
    choose = lambda models, source, brief: real(models, source, brief) if brief else Likes(models)  # noqa: E731
    patch.setattr(open_ended, "ModelJudge", choose)


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("open") / "run"
    with pytest.MonkeyPatch.context() as patch:
        short(patch)
        run(with_open(root))
    return root


def record(root: Path, name: str) -> dict:
    return json.loads((root / f"open_ended/{name}.json").read_text())


def test_each_checkpoint_is_measured_with_every_figure_and_its_error(judged: Path) -> None:
    base, meta = record(judged, "base"), record(judged, "meta")
    assert base["shells"]["win_rate"] is None  # beside itself
    assert base["shells"]["rating_against"] is None
    assert meta["shells"]["win_rate"]["pairs"] == len(ROWS)
    assert meta["shells"]["win_rate"]["unjudged"] == len(ROWS)  # this model knows no such verdict: counted, in no rate
    assert meta["shells"]["rating"]["unread"] == len(ROWS)
    assert meta["shells"]["rating"]["value"] is None
    for found in (base["given"], meta["given"]):
        assert found["win_rate"]["unjudged"] == 1
        assert found["win_rate"]["unread"] == {"none": 2}
        assert found["outcomes"]["q/5"] is None
        assert [found["win_rate"][key] for key in ("wins", "ties", "losses")] == [3, 2, 3]
        assert (found["win_rate"]["first_slot"]["value"], found["win_rate"]["consistency"]["share"]) == (10 / 16, 6 / 8)
        assert (found["better"], found["worse"]) == (False, False)
        assert found["win_rate"]["length_controlled"]["n"] == len(ROWS) - 1
        assert found["rating"]["n"] == len(ROWS) - 1
        assert found["rating"]["stderr"] is not None
        assert found["rating_gain"]["n"] == len(ROWS) - 1
        assert found["length"]["n"] == len(ROWS)


def test_every_text_is_kept_once_and_those_of_the_other_side_are_the_base_s_own(judged: Path) -> None:
    base, meta = (read_rows(judged / f"open_ended/{name}/texts/shells.jsonl") for name in ("base", "meta"))
    stages = {id.split("/")[0] for id in (row["id"] for row in base)}
    assert stages == {"answer", "rating of the model"}
    assert len(base) == 2 * len(ROWS)
    assert {row["id"].split("/")[0] for row in meta} == {"answer", "pair", "rating of the model"}
    assert len(meta) == 4 * len(ROWS)
    for row in read_rows(judged / "open_ended/meta/shells.jsonl"):
        assert row["model"] == row["against"] != ""  # M_meta is M_0 here
        assert [one["text"].startswith("[[") for one in row["judgements"].values()] == [True, True]
        assert row["ratings"]["model"] == row["ratings"]["against"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [3, 25, 40])
def test_a_run_that_is_killed_while_it_judges_ends_with_equal_bytes_and_asks_nothing_twice(
    judged: Path, monkeypatch, after: int
) -> None:
    short(monkeypatch)
    root, asked, real = judged.parent / f"killed-{after}", [], texts.Kept.append

    def append(self, row) -> None:
        if len(asked) == after:
            raise Killed
        asked.append((str(self._journal.path) if self._journal is not None else "", row["id"]))
        real(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(texts.Kept, "append", append)
        with pytest.raises(Killed):
            run(with_open(root))
    assert not verify(RunDir(root)).faults
    again = []
    monkeypatch.setattr(
        texts.Kept, "append", lambda self, row: (again.append((str(self._journal.path), row["id"])), real(self, row))
    )
    run(with_open(root))
    assert not set(asked) & set(again)
    one, other = (records(path) for path in (judged, root))
    told = [name for name in one if name.startswith("open_ended/")]
    assert len(told) == 10
    assert {name: one[name] for name in told} == {name: other[name] for name in told}


def test_the_run_s_status_tables_and_sentences_tell_of_it(judged: Path) -> None:
    found = RunDir(judged)
    lines = "\n".join(status(found).lines())
    assert "judge answers of base" in lines
    assert "2 of 2 sets" in lines
    assert "All is done" in lines
    summary = summarize(found)
    assert summary.complete
    assert [(row.checkpoint, row.set) for row in summary.open_ended][:2] == [("base", "shells"), ("base", "given")]
    out = io.StringIO()
    for table in tables(summary):
        Console(file=out, width=WIDTH).print(table)
    shown = out.getvalue()
    assert "given: win rate against" in shown
    assert "±" in shown
    assert "…" not in shown
    shells, given = verdict_on_open(summary.open_ended)
    assert shells.endswith("no pair could be judged.")
    assert given.startswith("given: meta against")
    texts_shown = "\n".join(open_transcripts(found, "meta", "given"))
    assert "other side" in texts_shown
    assert "judge, model first: [[" in texts_shown


def test_it_rests_on_what_answers_and_judgements_are_made_of_and_on_nothing_of_the_rounds(tmp_path: Path) -> None:
    loop = with_open(tmp_path / "run")
    names = [one.name for one in artefacts(loop)]
    assert names[:2] == ["evaluation of base", "open-ended evaluation of base"]
    base = next(one for one in artefacts(loop) if one.name == "open-ended evaluation of base")
    keys = set(base.rests_on(inputs(loop)))
    assert {"model.source", "sampling.respond.max_new_tokens", "sampling.feedback.max_new_tokens"} <= keys
    assert any(key.startswith("data.open_ended.shells") for key in keys)
    others = ("rounds.turns", "judge.kind", "sampling.refine.max_new_tokens", "sampling.respond.temperature", "seed")
    assert not keys & set(others)
    assert not is_read_by("data.open_ended.shells.judge", (EVALUATION,))
    assert is_read_by("data.evaluation_rows", (OPEN_ENDED,))


def test_a_slot_that_holds_nothing_of_what_a_judge_is_shown_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.open_ended.shells: what its judge is shown has \d+ tokens at least"):
        run(with_open(tmp_path / "run"))


def test_a_judge_that_does_not_stay_the_same_is_told_of(judged: Path, monkeypatch) -> None:
    short(monkeypatch)
    heard: Heard = run(with_open(judged))
    assert any("'given': judge: self" in line for line in heard.lines)
    assert not any("judge: self" in line and "shells" in line for line in heard.lines)
