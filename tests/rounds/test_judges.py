"""Every judge of a chain in a run's own hands: rollouts, controls, the filter and what is kept of them."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from loop_helpers import Heard, config

from selfevo_jax.chains import Rollout
from selfevo_jax.judges import JudgeSection, open_judge
from selfevo_jax.methods.selection import least_score, select
from selfevo_jax.report.transcripts import Transcript
from selfevo_jax.rounds import Controller
from selfevo_jax.rounds.controls import judge_planted
from selfevo_jax.run.files import read_json

SAMPLES = {"kind": "ensemble", "ensemble": {"samples": 2, "least_read": 1}}
INSTRUCTIONS = {"kind": "ensemble", "ensemble": {"instructions": ["\nFeedback:", "\nIs it right?"], "member": "rating"}}
# an untrained critic gives no verdict; what it says has an "is" in it, and a number behind it
WORDS = {"lead": "is", "good": "1", "bad": "0", "least_mass": 0.0}
LIKELIHOOD = {"kind": "likelihood", "likelihood": WORDS, "top_share": 0.25}


@pytest.fixture(scope="module")
def loop(finished: Path, tmp_path_factory: pytest.TempPathFactory):
    """A finished run, opened again."""
    copy = tmp_path_factory.mktemp("judges") / "run"
    shutil.copytree(finished, copy)
    with contextlib.closing(Controller(config(copy), Heard())) as controller:
        yield controller.loop


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SAMPLES, INSTRUCTIONS, LIKELIHOOD], ids=["samples", "instructions", "likelihood"])
def test_each_judge_gives_rollouts_that_are_read_back_controls_and_a_choice(loop, settings) -> None:
    section = JudgeSection(**settings)
    judge = open_judge(section)
    changed = loop.config.model_copy(update={"judge": section})
    loop = replace(loop, config=changed, bench=replace(loop.bench, judge=judge, config=changed))
    params, prompts = loop.checkpoints.params("meta"), loop.task.prompts(1)

    def sampled(rows) -> list[Rollout]:
        chains = [loop.bench.chain(row, loop.bench.stages(), round=1) for row in rows]
        return loop.bench.roll_out(params, chains, loop.reporter, "judging")

    rollouts = sampled(prompts)
    records = [json.loads(json.dumps(r.to_dict())) for r in rollouts]
    assert [Rollout.from_dict(record).to_dict() for record in records] == [r.to_dict() for r in rollouts]
    # in another order, and so in other slots and batches
    assert [r.to_dict() for r in sampled(prompts[::-1])[::-1]] == [r.to_dict() for r in rollouts]
    feedback = [r.candidates[0].feedback for r in rollouts]
    assert all(len(of.texts) == len(judge.asks) == section.texts for of in feedback)
    assert len({text.tokens for of in feedback for text in of.texts}) > len(prompts) // 2
    assert all("feedback" in Transcript("", r, None).text() for r in rollouts)

    (file := loop.dir.round(1, "controls.json")).unlink()
    counts = judge_planted(loop, 1, rollouts)
    rows = read_json(file)["controls"]
    assert counts["rows"] == len(rows) == 4
    assert all(len(row.get("members", [row])) == section.texts for row in rows)

    chosen = select(rollouts, "feedback", 0, top_share=section.top_share)
    ended = [made for made in (r.candidates[r.chosen] for r in rollouts) if made.finished]
    read = [of for of in (made.feedback for made in ended) if of.rating is not None]
    if section.top_share is None:
        assert all(r.candidates[r.chosen].feedback.good for r in chosen.kept)
    else:
        assert len(read) > 8
        assert chosen.counts.judged_good == len(read) // 4
        assert counts["passed"] == sum(
            row["rating"] is not None and row["rating"] >= least_score(rollouts, section.top_share) for row in rows
        )
