"""The sampler's shapes are those of the whole run, whatever phase a process begins with."""

import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from loop_helpers import Heard, config

from selfevo_jax.data import PromptRow, QARow
from selfevo_jax.rounds import Controller
from selfevo_jax.rounds.survey import Phase, evaluation_phases, fit_lengths, run_phases, survey
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.sample import Engine

AFTER_ROLLOUTS = ("controls.json", "self_curated.jsonl", "grades.jsonl", "metrics.json", "COMMITTED")


class Began(Exception):
    """The first chains of a process have been asked for."""


@pytest.fixture
def shapes_at_first_use(monkeypatch):
    """Runs a config up to its first chains; returns the title of that phase and the shapes compiled for it."""
    found = {}

    def begin(engine, params, chains, **_):
        found["shapes"] = {n: engine.rows_of(n) for n in engine.extend_lengths}, engine.decode_rows
        found["chain"] = chains[0].id
        raise Began

    prepared = Engine.compilations
    monkeypatch.setattr(Engine, "compilations", lambda *args, **kw: prepared(*args, **kw) and [lambda: None])
    monkeypatch.setattr(Engine, "run", begin)

    def until_first_use(c):
        with contextlib.closing(Controller(c, Heard())) as controller, pytest.raises(Began):
            controller.run()
        return found["chain"], found["shapes"]

    return until_first_use


def test_shapes_are_the_same_whichever_phase_a_process_begins_with(finished, tmp_path, shapes_at_first_use):
    chains, shapes = zip(shapes_at_first_use(config(tmp_path / "fresh")), strict=True)
    for name, removed in {
        "evaluation": ["evaluations/0002.json"],
        "round 2": ["rounds/0002", "checkpoints/0002", "evaluations/0002.json"],
        "controls": [f"rounds/0002/{name}" for name in AFTER_ROLLOUTS] + ["checkpoints/0002", "evaluations/0002.json"],
    }.items():
        shutil.copytree(finished, tmp_path / name)
        for part in removed:
            where = tmp_path / name / part
            shutil.rmtree(where) if where.is_dir() else where.unlink(missing_ok=True)
        chain, its_shapes = shapes_at_first_use(config(tmp_path / name))
        chains, shapes = (*chains, chain), (*shapes, its_shapes)
    evaluated, again, rolled_out, control = chains
    assert evaluated == again  # the first row, first by the base, then by the last checkpoint
    assert rolled_out.startswith("r2-")
    assert control.startswith("control-r2-")
    assert all(one == shapes[0] for one in shapes)


def test_every_phase_of_a_run_counts_also_the_controls(finished: Path) -> None:
    costs = [json.loads(line) for line in (finished / "costs.jsonl").read_text().splitlines()]
    titles = [row["phase"] for row in costs]
    assert "round 1: judge planted answers" in titles
    assert "round 2: judge planted answers" in titles
    assert sum(row["compiles"] for row in costs) == 0  # all that a phase needs is compiled ahead
    assert sum(row["padding"] for row in costs) < 0.5 * sum(row["prefilled"] for row in costs)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return open_workbench(config(tmp_path_factory.mktemp("survey") / "run"))


def test_a_survey_holds_lengths_of_all_phases_and_repeats_itself(bench):
    short = [QARow(f"q{i}", "How many?", "1") for i in range(900)]
    long = [PromptRow(f"p{i}", "Mia has 7 shells. " * 4) for i in range(300)]
    task = SimpleNamespace(
        evaluation=lambda: {"x": SimpleNamespace(rows=short, votes=True)},
        prompts=lambda round: long,
        questions=lambda: None,
    )
    found = survey(bench, run_phases(bench, task))
    brief, wide = (len(bench.format.respond(row.prompt)) for row in (short[0], long[0]))
    assert max(found) > wide  # a planted answer is judged behind its prompt
    assert {brief, wide} <= set(found)
    assert found == survey(bench, run_phases(bench, task))
    assert len(found) < 16 * 512
    assert max(survey(bench, evaluation_phases(bench, short, 1))) < wide


def test_what_a_slot_holds_already_is_no_length_of_the_survey(bench):
    rows = [PromptRow(f"p{i}", f"Mia has 7 shells. Then Mia finds 5. {'She is glad. ' * 3}{i}") for i in range(4)]
    whole = [len(bench.format.respond(row.prompt)) for row in rows]
    lengths = survey(bench, [Phase(rows, judge=False)])
    assert max(lengths) == max(whole)
    assert sorted(lengths)[len(lengths) // 2] < 12  # the end alone differs
    copies = survey(bench, [Phase(rows[:1], samples=4, judge=False)])
    assert copies.count(1) >= len(copies) // 2


def test_lengths_are_chosen_by_how_many_chains_each_of_the_survey_stands_for(bench, monkeypatch):
    told = []
    monkeypatch.setattr(Engine, "fit", lambda self, lengths, each: told.append((lengths, each)))
    phases = [Phase([PromptRow(f"p{i}", "How many?") for i in range(256)], samples=n, times=2.0) for n in (1, 3)]
    fit_lengths(bench, phases)
    fit_lengths(bench, [Phase([])])
    assert told == [(survey(bench, phases), 4.0), ([], None)]


def test_texts_beyond_the_cache_choose_no_shape(bench):
    row = PromptRow("p", "Mia has 7 shells. " * 200)
    assert survey(bench, [Phase([row])]) == [n for n in survey(bench, [Phase([row])]) if n <= bench.engine.cache_length]
    assert survey(bench, [Phase([])]) == []
