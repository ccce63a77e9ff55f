"""Held-out ordinary answers and the texts of a run: measured by checkpoint, kept, shown, and warned of."""

import io
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loop_helpers import Heard, config, run
from rich.console import Console

from selfevo_jax.config import Config, parse_config
from selfevo_jax.errors import ConfigError, DataError
from selfevo_jax.evaluate import FAULTS
from selfevo_jax.model import Transformer
from selfevo_jax.report import WIDTH, status, summarize, tables
from selfevo_jax.rounds import opening, ordinary
from selfevo_jax.run import RunDir, verify
from selfevo_jax.run.forking import fork
from selfevo_jax.run.verify import records

pytestmark = pytest.mark.slow
ROWS = [{"q": f"Say {n} and {n + 1}.", "a": f"{n}, then {n + 1}"} for n in range(9)]


def with_ordinary(root: Path, rows: list[dict] = ROWS) -> Config:
    file = root.parent / "ordinary.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = config(root).model_dump(mode="json")
    tree["data"]["ordinary"] = {"source": str(file), "columns": {"prompt": "q", "answer": "a"}}
    return parse_config(tree)


@pytest.fixture(scope="module")
def measured(finished: Path, tmp_path_factory) -> Path:
    """A finished run to which ordinary answers are added: nothing of it is sampled or trained again."""
    root = tmp_path_factory.mktemp("ordinary") / "run"
    config = with_ordinary(root, [*ROWS, {"q": "Count.", "a": "1 2 3 " * 90}])
    fork(RunDir(finished), config, "2", Heard())
    run(config)
    assert not (root / "costs.jsonl").exists()
    return root


def record(root: Path, name: str) -> dict:
    return json.loads((root / f"ordinary/{name}.json").read_text())


def test_the_base_finds_answers_as_probable_as_the_model_itself_does_row_by_row(measured: Path, tmp_path: Path) -> None:
    bench = opening.prepare(with_ordinary(tmp_path / "run"), Heard())[1]
    format, found = bench.format, record(measured, "base")
    assert (found["rows"], found["too_long"], found["not_finite"]) == (10, 1, 0)
    assert found["log_likelihood"]["n"] == len(ROWS)
    model, params = Transformer(bench.model), jax.device_get(bench.base_params())
    sides = []
    for row in ROWS:
        head = format.respond(row["q"])
        sides.append((head, [*format.continuation(head, row["a"]), *format.end]))
    width = max(len(head) + len(said) for head, said in sides)
    tokens = np.array([np.pad([*head, *said], (0, width - len(head) - len(said))) for head, said in sides])
    places = np.broadcast_to(np.arange(width), tokens.shape)
    logps = jax.nn.log_softmax(jax.jit(model.apply)({"params": params}, tokens, places)[0])
    picked = jnp.take_along_axis(logps[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
    expected = [float(p[len(h) - 1 : len(h) + len(s) - 1].mean()) for p, (h, s) in zip(picked, sides, strict=True)]
    by_row = [value for value in found["by_row"].values() if value is not None]
    np.testing.assert_allclose(sorted(by_row), sorted(expected), atol=2e-4)
    assert found["log_likelihood"]["value"] == pytest.approx(np.mean(expected), abs=2e-4)
    assert found["log_likelihood"]["stderr"] == pytest.approx(np.std(expected, ddof=1) / 3, abs=2e-4)
    assert found["tokens"] == sum(len(said) for _, said in sides)


def test_report_and_status_show_texts_and_ordinary_answers_of_each_checkpoint(measured: Path) -> None:
    summary, shown = summarize(RunDir(measured)), status(RunDir(measured))
    assert summary.complete
    assert [row.checkpoint for row in summary.ordinary] == ["base", "meta", "round 1", "round 2"]
    base, meta, *_ = summary.ordinary
    assert base.change is None
    assert "by_row" not in meta.figures
    before, after = (row.figures["log_likelihood"]["value"] for row in (base, meta))
    assert meta.change["gain"] == pytest.approx(after - before, abs=1e-4)
    assert {phase.name: phase.state for phase in shown.phases}["ordinary answers, meta"] == "done"
    assert any("nats a token, 9 rows, too long 1" in line for line in shown.lines())
    for row in summary.rows:
        assert row.texts is not None
        assert all(row.texts[fault]["n"] == 16 for fault in FAULTS)
    out = io.StringIO()
    for table in tables(summary):
        Console(file=out, width=WIDTH).print(table)
    assert "texts of direct answers" in out.getvalue()
    assert "held-out ordinary answers" in out.getvalue()
    assert "…" not in out.getvalue()


def test_texts_of_a_run_that_was_measured_without_such_figures_are_read_from_what_it_kept(measured, tmp_path) -> None:
    root = shutil.copytree(measured, tmp_path / "run")
    expected = summarize(RunDir(root)).rows
    for file in root.glob("evaluations/*.json"):
        old = {name: {k: v for k, v in of.items() if k != "texts"} for name, of in json.loads(file.read_text()).items()}
        file.write_text(json.dumps(old))
    assert summarize(RunDir(root)).rows == expected


def test_what_a_kill_left_out_is_read_alone_and_the_records_are_the_same(measured, tmp_path, monkeypatch) -> None:
    root = shutil.copytree(measured, tmp_path / "run")
    expected, read = records(measured), []
    (root / "ordinary/meta.json").unlink()
    real = ordinary.sequence_logps
    monkeypatch.setattr(ordinary, "sequence_logps", lambda *given, **more: read.append(1) or real(*given, **more))
    config_file = parse_config({**RunDir(root).read_config().model_dump(mode="json"), "run_dir": str(root)})
    run(config_file)
    assert read == [1]
    assert {k: v for k, v in records(root).items() if k not in ("config.yaml", "report.json")} == {
        k: v for k, v in expected.items() if k not in ("config.yaml", "report.json")
    }
    assert verify(RunDir(root)).faults == []


def test_answers_that_a_run_learns_are_not_held_out(tmp_path: Path) -> None:
    plain = config(tmp_path / "run")
    asked = opening.open_task(plain).questions().rows[0].prompt
    for prompt in (asked, asked.upper(), " ".join(asked.split()[:-3])):
        with pytest.raises(DataError, match=r"data.ordinary.*1 of its 1 prompts are also in data.meta_skill"):
            opening.prepare(with_ordinary(tmp_path / "run", [{"q": prompt, "a": "7"}]), Heard())


def test_rows_without_an_answer_and_rows_of_which_none_fits_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ordinary.jsonl:2, field 'a': is missing"):
        opening.prepare(with_ordinary(tmp_path / "run", [ROWS[0], {"q": "Say."}]), Heard())
    with pytest.raises(ConfigError, match=r"data.ordinary: the shortest of its 1 rows has \d+ tokens"):
        opening.prepare(with_ordinary(tmp_path / "run", [{"q": "Count.", "a": "1 2 3 " * 200}]), Heard())
