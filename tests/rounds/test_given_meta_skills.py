"""A model that has its meta-skills already: no D_meta, no training before the rounds."""

import json
from pathlib import Path

import numpy as np
import pytest
from loop_helpers import config, run, weights

from selfevo_jax.errors import ConfigError
from selfevo_jax.report import status, summarize
from selfevo_jax.run import RunDir, verify
from selfevo_jax.tasks.stories import generate as stories

pytestmark = pytest.mark.slow


def test_a_run_without_d_meta_begins_with_the_model_as_it_is(finished: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = stories.make_stories("prompts", 8, changes=3)
    prompts.write_text("".join(json.dumps({"prompt": row.text}) + "\n" for row in rows))
    given = finished / "checkpoints/meta"
    root = tmp_path / "run"
    changes = {"data": {"prompts": str(prompts)}, "model": {"source": str(given)}}
    with pytest.raises(ConfigError, match="name exactly one of meta_skill, meta_from_solutions and .*meta.steps: 0"):
        config(root, **changes)
    c = config(
        root, **changes, meta={"steps": 0}, rounds={"number": 1, "select": "none", "controls": 0, "minimum_kept": 1}
    )
    run(c)
    for old, new in zip(weights(given), weights(root / "checkpoints/meta"), strict=True):
        np.testing.assert_array_equal(old, new)
    assert summarize(RunDir(root)).complete
    assert [phase for phase in status(RunDir(root)).phases if phase.state != "done"] == []
    assert verify(RunDir(root)).faults == []
    assert set(json.loads((root / "rounds/0001/metrics.json").read_text())["training"]["examples"]) == {"self"}
    before = weights(root / "checkpoints/0001")
    run(c)  # a finished run is left as it is
    for old, new in zip(before, weights(root / "checkpoints/0001"), strict=True):
        np.testing.assert_array_equal(old, new)


def test_d_qa_alone_is_a_supervised_baseline(tmp_path: Path) -> None:
    rows = stories.make_stories("prompts", 8, changes=3)
    for name in ("prompts", "qa"):
        told = [{"prompt": row.text, "answer": stories.answer_text(row.answer)} for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("prompts", "qa")}
    run(config(tmp_path / "run", data=files, rounds={"number": 0}))
    found = json.loads((tmp_path / "run/meta/COMMITTED").read_text())["training"]
    assert found["examples"] == {"qa": 8}
    assert summarize(RunDir(tmp_path / "run")).complete
