"""What `import selfevo_jax as se` offers: a model that answers, judges, refines and scores; runs as plain values."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loop_helpers import config
from typer.testing import CliRunner

import selfevo_jax as se
from selfevo_jax.cli import app
from selfevo_jax.cli.asking import feedback_lines
from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.progress import counted
from selfevo_jax.run import RunDir
from selfevo_jax.run.chosen import point_named
from selfevo_jax.run.warned import warned

PROMPT = "Mia has 7 shells. Then Mia finds 5. How many now?"


@pytest.fixture(scope="module")
def model(finished: Path) -> se.Model:
    return se.load(str(finished), {"sampling.slots": 16})


@pytest.fixture(scope="module")
def measured(finished: Path) -> list[dict]:
    """Greedy chains of the newest checkpoint, as the run has kept them."""
    lines = (finished / "evaluations/0002/stories.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_importing_it_imports_neither_jax_nor_anything_else_that_takes_long() -> None:
    code = "import selfevo_jax, sys; print(sorted({'jax', 'pydantic', 'numpy', 'rich', 'typer'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_its_names_are_completed_before_anything_is_imported() -> None:
    code = "import selfevo_jax, sys; print(set(selfevo_jax.__all__) <= set(dir(selfevo_jax)), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: model.sample(17), r"prompts: found 17 \(int\), expected a text or a list of texts"),
        (lambda model: model.sample(["a", 3]), r"prompts\[1\]: found 3 \(int\), expected a text"),
        (lambda model: model.sample({"prompt": "x"}), r"prompts: found {'prompt': 'x'} \(dict\), expected a text or"),
        (lambda model: model.refine(None), "prompts: found None"),
        (lambda model: model.sample("a \ud800"), "prompts: half of a surrogate pair"),
        (lambda model: model.judge([PROMPT], ["\udc00"]), r"answers\[0\]: half of a surrogate pair"),
        (lambda model: model.judge(PROMPT, 12), r"answers: found 12 \(int\), expected a text"),
        (lambda model: model.score([PROMPT], [12]), r"answers\[0\]: found 12 \(int\), expected a text"),
        (lambda model: model.sample(PROMPT, temperature="hot"), r"temperature: found 'hot' \(str\), expected a number"),
        (lambda model: model.refine(PROMPT, temperature=[1]), "temperature: found"),
        (lambda model: model.refine(PROMPT, turns="2"), r"turns: found '2' \(str\), expected a whole number from 0 on"),
        (lambda model: model.sample(PROMPT, n=2.5), r"n: found 2.5 \(float\), expected a whole number from 1 on"),
        (lambda model: model.sample(PROMPT, n=None), "n: found None"),
        (lambda model: model.sample(PROMPT, top_k=1.5), "top_k: found 1.5"),
        (lambda model: model.sample(PROMPT, stop=5), "stop: found 5"),
        (lambda model: model.sample(PROMPT, seed="x"), r"seed: found 'x' \(str\), expected a whole number or None"),
        (lambda _: se.load(17), r"source: found 17 \(int\), expected a text or a path"),
        (lambda _: se.load("builtin:stories", 17), r"settings: found 17 \(int\), expected a mapping"),
        (lambda _: se.load("builtin:stories", seed=None), "seed: found None"),
        (lambda _: se.evolve(17), r"config: found 17 \(int\), expected a text or a path"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named_with_what_was_found_and_expected(model: se.Model, call, said) -> None:
    with pytest.raises(ConfigError, match=said):
        call(model)


def test_one_round_is_counted_as_one() -> None:
    assert [counted(n, "round") for n in (0, 1, 1200)] == ["0 rounds", "1 round", "1,200 rounds"]


def test_a_chat_says_of_feedback_without_a_verdict_that_the_answer_was_not_refined() -> None:
    asked = [se.Candidate("5", "stop", (), se.Feedback("Hm.", "length", good, None)) for good in (None, True)]
    assert feedback_lines(asked[0], 0) == ["feedback: Hm.", "no verdict could be read; not refined"]
    assert feedback_lines(asked[0], 1)[-1] == "no verdict could be read; not refined further"
    assert feedback_lines(asked[1], 0) == ["feedback: Hm."]
    lines = se.Feedback("Step 1: right.\nVerdict: correct", "stop", True, None).lines()
    assert lines == ["feedback: Step 1: right.\n  Verdict: correct"]
    assert feedback_lines(se.Candidate("5", "stop", ()), 0) == []


@pytest.mark.parametrize("name", [2, "2", "0002", "round 2"])
def test_a_round_has_every_name_that_methods_show(finished: Path, name: int | str) -> None:
    run = se.read_run(finished)
    assert point_named(name) == "0002"
    assert run.steps(name) == run.steps("0002") != []
    assert next(run.chains(name)) == next(run.chains(2))


def test_every_name_that_a_run_gives_to_a_checkpoint_is_taken_by_its_methods(finished: Path) -> None:
    run = se.read_run(finished)
    assert run.steps("base") == []
    for name in [*(of.checkpoint for of in run.accuracies()), *(of.name for of in run.checkpoints())]:
        run.steps(name)
    for name in ("last", "-1", -1, 1.0, True, None, "round"):
        with pytest.raises(ConfigError, match="no checkpoint of a run; expected 'base', 'meta', or a round as 1"):
            run.steps(name)
    with pytest.raises(ConfigError, match="only rounds have chains"):
        run.chains("meta")
    with pytest.raises(ConfigError, match="has not finished 0007"):
        run.load("round 7")


def test_five_requests_are_five_different_texts_that_end_with_the_turn(model: se.Model) -> None:
    assert repr(model).endswith(": 348,192 parameters, format plain>")
    together = model.sample(PROMPT, n=5, temperature=30.0)
    apart = [model.sample(PROMPT, temperature=30.0)[0] for _ in range(5)]
    listed = [texts[0] for texts in model.sample([PROMPT] * 5, temperature=30.0)]
    for texts in (together, apart, listed):
        assert len({text.tokens for text in texts}) == 5
    stops = model._bench.format.stop_ids
    assert not {token for text in together for token in text.tokens} & set(stops)


def test_a_seed_makes_the_same_texts_again_whatever_else_is_asked(model: se.Model) -> None:
    alone = model.sample(PROMPT, n=2, temperature=30.0, seed=3)
    beside = model.sample(["What?", PROMPT, "Why?"], n=2, temperature=30.0, seed=3)[1]
    assert [text.tokens for text in alone] == [text.tokens for text in beside]
    assert model.sample(PROMPT, n=2, temperature=30.0, seed=4)[0].tokens != alone[0].tokens


def test_it_answers_judges_and_refines_as_the_run_did(model: se.Model, measured: list[dict]) -> None:
    prompts = [row["prompt"] for row in measured]
    answers = model.sample(prompts, temperature=0)
    assert [texts[0].text for texts in answers] == [row["candidates"][0]["text"] for row in measured]
    chains = model.refine(prompts)
    assert [chain.prompt for chain in chains] == prompts
    for chain, row in zip(chains, measured, strict=True):
        assert [c.text for c in chain.candidates] == [c["text"] for c in row["candidates"]]
        assert [c.feedback.text for c in chain.candidates] == [c["feedback"]["text"] for c in row["candidates"]]
        assert chain.chosen == row["chosen"]
    said = model.judge(prompts[:4], [row["candidates"][0]["text"] for row in measured[:4]])
    assert [feedback.good for feedback in said] == [row["candidates"][0]["feedback"]["good"] for row in measured[:4]]


def test_what_was_drawn_is_as_probable_as_the_score_says(model: se.Model) -> None:
    (drawn,) = model.sample(PROMPT, temperature=0)
    found = model.score(PROMPT, drawn.text)
    assert found.tokens == len(drawn.tokens)
    assert found.logprob == pytest.approx(sum(drawn.logprobs), abs=1e-4)
    assert found.greedy
    first, other = model.score([PROMPT, PROMPT], [drawn.text, drawn.text + " and more"])
    assert first == found
    assert other.logprob < first.logprob


def test_raw_prompts_are_continued_as_they_are(model: se.Model) -> None:
    begin, tokenizer = "Mia has 7 shells. Then Mia", model._bench.tokenizer
    (drawn,) = model.sample(begin, raw=True, temperature=0, max_new_tokens=4)
    assert len(drawn.tokens) <= 4
    before = tokenizer.encode_run(begin, prefix=True)
    assert begin + drawn.text == tokenizer.decode([*before, *drawn.tokens])
    stopped = model.sample(begin, raw=True, temperature=0, stop=drawn.text.strip()[:2])[0]
    assert stopped.finish == "stop_string"


def test_a_raw_text_is_as_probable_as_its_parts_one_behind_the_other(model: se.Model) -> None:
    parts = ("Mia has 7 shells.", " Then Mia finds 5.")
    whole, first, second = model.score(["", "", parts[0]], ["".join(parts), *parts], raw=True)
    assert whole.tokens == first.tokens + second.tokens
    assert whole.logprob == pytest.approx(first.logprob + second.logprob, abs=1e-3)


def test_what_cannot_be_run_says_why_and_harms_no_other(model: se.Model) -> None:
    long, short = model.sample(["word " * 500, PROMPT], temperature=0)
    assert long[0].finish == "error"
    assert "the cache holds 128" in long[0].error
    assert short[0].error is None
    lost, said = model.judge([PROMPT] * 2, ["word " * 500, "12"])
    assert (lost.good, lost.finish, said.error) == (None, "error", None)
    assert "the cache holds 128" in lost.error
    for call in (lambda: model.judge([PROMPT], []), lambda: model.score([PROMPT], ["a", "b"])):
        with pytest.raises(ConfigError, match=r"answers: found \d for 1 prompt, expected one for each"):
            call()
    with pytest.raises(ConfigError, match="n: found 0"):
        model.sample(PROMPT, n=0)
    with pytest.raises(ConfigError, match="temperature"):
        model.sample(PROMPT, temperature=-1)


def test_a_faulty_setting_and_a_model_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'sampling.cache_lenght'; did you mean 'cache_length'"):
        se.load("builtin:stories", {"sampling.cache_lenght": 64})
    with pytest.raises(ModelError, match="nothing there"):
        se.load(str(tmp_path / "none"))


def test_a_run_is_read_as_plain_values(finished: Path, tmp_path: Path) -> None:
    run = se.read_run(finished)
    assert run.complete
    assert run.config.rounds.number == 2
    assert [(of.name, of.round, of.kept) for of in run.checkpoints()] == [
        ("meta", 0, True),
        ("0001", 1, True),
        ("0002", 2, True),
    ]
    figures = json.loads((finished / "evaluations/0001.json").read_text())["stories"]
    (found,) = [of for of in run.accuracies() if (of.checkpoint, of.mode) == ("round 1", "direct")]
    assert (found.set, found.scorer, found.n) == ("stories", "number", 16)
    assert [found.share, found.low, found.high] == [figures["direct"][key] for key in ("share", "low", "high")]
    rows = [json.loads(line) for line in (finished / "rounds/0002/rollouts/part-00000.jsonl").open()]
    assert [chain.to_dict() for chain in run.chains(2)] == [se.Rollout.from_dict(row).to_dict() for row in rows]
    assert [step.step for step in run.steps("0001")] == [1, 2, 3, 4]
    assert {cost.kind for cost in run.costs()} >= {"rollouts", "training", "evaluation"}
    assert run.verdict().startswith("Direct accuracy from meta to round 2")
    assert repr(run) == f"<Run {finished}: 2 rounds, complete>"
    with pytest.raises(ConfigError, match="round 3 has no finished chains"):
        run.chains(3)  # at the call, not when the first is asked for
    with pytest.raises(ConfigError, match="no finished checkpoint '0003'"):
        run.steps("0003")
    with pytest.raises(ConfigError, match="no run directory"):
        se.read_run(finished / "rounds")
    (tmp_path / "link").symlink_to(finished)  # in a folder that is no run links are nobody's business
    with pytest.raises(ConfigError, match="no run directory"):
        se.read_run(tmp_path)


def test_evolve_goes_on_with_a_run_and_finds_that_nothing_is_left(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/costs.jsonl").unlink()
    tree = config(tmp_path / "elsewhere", rounds__number=3).model_dump(mode="json")
    run = se.evolve(tree, {"run_dir": str(tmp_path / "run"), "rounds.number": 2}, quiet=True)
    assert (run.path, run.complete) == (str(tmp_path / "run"), True)
    lost = f"{tmp_path}/run/costs.jsonl: missing; the run goes on without it"
    assert lost in warned(RunDir(run.path))
    assert json.dumps(lost)[1:-1] in (tmp_path / "run/report.html").read_text()
    assert f"Warning: {lost}" in CliRunner().invoke(app, ["report", run.path]).output.replace("\n", " ")
    with pytest.raises(ConfigError, match=r"a run with another config is here:\n  seed: 0 -> 1"):
        se.evolve(tree, {"run_dir": str(tmp_path / "run"), "seed": 1}, quiet=True)
