"""How a study is written, and what is said of a faulty one; pure."""

from pathlib import Path

import pytest
import yaml

from selfevo_jax.errors import ConfigError, Faults
from selfevo_jax.methods import open_method
from selfevo_jax.methods.registry import BUILT_IN as METHODS
from selfevo_jax.progress import Reporter
from selfevo_jax.study import conduct, read_study

BASE = {"run_dir": "x", "model": {"source": "m"}, "data": {"prompts": "p.jsonl", "meta_skill": "d.jsonl"}}


def study(folder: Path, overrides: tuple[str, ...] = (), base: dict = BASE, **keys: object):
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "configs/base.yaml").write_text(yaml.safe_dump(base))
    file = folder / "studies/study.yaml"
    file.write_text(yaml.safe_dump({"base": "../configs/base.yaml", "out": "runs/s", **keys}, sort_keys=False))
    return read_study(file, overrides)


def test_each_variant_and_seed_is_a_run_of_its_own_folder(tmp_path: Path) -> None:
    found = study(tmp_path, seeds=[2, 1], variants={"a": None, "b": {"rounds.select": "none", "learn": {"steps": 7}}})
    assert [run.name for run in found.runs] == ["a/seed-2", "b/seed-2", "a/seed-1", "b/seed-1"]
    last = found.runs[-1].config
    assert (last.run_dir, last.seed, last.rounds.select, last.learn.steps) == ("runs/s/b/seed-1", 1, "none", 7)
    assert found.baseline == "a"
    assert found.runs[0].config.learn.steps == 150


def test_sections_of_a_variant_are_merged_and_dotted_keys_take_a_whole_value(tmp_path: Path) -> None:
    base = BASE | {"data": BASE["data"] | {"evaluation": {"one": "1.jsonl"}}}
    merged = {"data": {"evaluation": {"two": "2.jsonl"}}}
    whole = {"data.evaluation": {"two": "2.jsonl"}}
    found = study(tmp_path, base=base, variants={"a": {}, "b": merged, "c": whole})
    assert [list(run.config.data.evaluation) for run in found.runs] == [["one"], ["one", "two"], ["two"]]


def test_overrides_hold_for_every_run_and_those_of_the_study_for_the_study(tmp_path: Path) -> None:
    found = study(
        tmp_path, ("rounds.number=1", "seeds=[5]", "out=elsewhere/", "baseline=b"), variants={"a": {}, "b": {}}
    )
    assert {run.config.rounds.number for run in found.runs} == {1}
    assert [run.config.run_dir for run in found.runs] == ["elsewhere/a/seed-5", "elsewhere/b/seed-5"]
    assert found.baseline == "b"


def test_the_seed_is_the_base_config_s_where_none_is_named(tmp_path: Path) -> None:
    assert [run.seed for run in study(tmp_path, base=BASE | {"seed": 9}).runs] == [9]


def test_every_faulty_variant_is_named_with_its_keys(tmp_path: Path) -> None:
    variants = {"a": {"rounds.selct": "none"}, "fine": {}, "b": {"learn.steps": "many"}, "c": {"seed.x": 1}}
    with pytest.raises(ConfigError) as error:
        study(tmp_path, base=BASE | {"seed": 1}, variants=variants)
    first, second, third = str(error.value).splitlines()
    assert "variant a: unknown key 'rounds.selct'; did you mean 'select'?" in first
    assert "variant b: learn.steps: found 'many', expected a whole number" in second
    assert "variant c: override of 'seed.x': 'seed' is a value, not a section" in third


@pytest.mark.parametrize(
    ("written", "override"),
    [
        ({"rounds": {"turns": 2}, "rounds.select": "none"}, "variants.a.rounds.select=threshold"),
        ({"rounds": {"turns": 2}, "rounds.select": "none"}, "variants.a.rounds={turns: 2, select: threshold}"),
        ({"rounds.turns": 2, "rounds": {"select": "none"}}, "variants.a.rounds.select=threshold"),
    ],
)
def test_an_override_of_a_variant_holds_however_its_key_is_written_there(tmp_path: Path, written, override) -> None:
    variants = {"a": {**written, "rounds.quantiles": [0.5]}, "b": written}
    more = ("variants.a.rounds.quantiles=[0.25]", "judge.kind=rating")
    first, second = (run.config.rounds for run in study(tmp_path, (override, *more), variants=variants).runs)
    assert (first.select, first.turns, first.quantiles) == ("threshold", 2, (0.25,))
    assert (second.select, second.turns) == ("none", 2)


def test_an_override_is_of_the_variant_that_is_there_where_its_name_has_a_dot(tmp_path: Path) -> None:
    variants = {"v1": {"rounds.turns": 2}, "v1.0": {"learn": {"steps": 5}, "rounds.turns": 2}}
    changes = ("variants.v1.0.learn.steps=3", "variants.v1.0.rounds.turns=4", "variants.v1.learn.steps=7")
    found = {run.variant: run.config for run in study(tmp_path, changes, variants=variants).runs}
    assert {name: (of.learn.steps, of.rounds.turns) for name, of in found.items()} == {"v1": (7, 2), "v1.0": (3, 4)}
    whole = study(tmp_path, ("variants.v1.0={learn.steps: 9}",), variants=variants).runs
    assert [(run.variant, run.config.learn.steps, run.config.rounds.turns) for run in whole][1] == ("v1.0", 9, 1)


def test_sets_with_names_that_begin_alike_up_to_a_dot_are_sets_of_their_own(tmp_path: Path) -> None:
    variants = {name: {"data.evaluation": {name: f"{name}.jsonl"}} for name in ("v1.0", "v1.1", "v1")}
    assert [run.variant for run in study(tmp_path, variants=variants).runs] == [*variants]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"variant": {}}, "unknown key 'variant' of a study; did you mean 'variants'"),
        ({"out": None}, "out: missing; expected the folder of its runs"),
        ({"seeds": [1, 1]}, "seeds: expected different whole numbers"),
        ({"seeds": ["a"]}, "seeds: expected different whole numbers"),
        ({"variants": ["a"]}, "variants: found list, expected names and keys"),
        ({"variants": {"a/b": {}}}, "'a/b' names a folder"),
        ({"variants": {"a": [1]}}, "variant a: found list, expected the keys that differ"),
        ({"variants": {"a": {"seed": 3}}}, "variant a: seed: set by the study; list it in `seeds`"),
        ({"variants": {"a": {}}, "baseline": "b"}, "baseline: 'b' is no variant; expected one of a"),
        ({"variants": {"a": {}}, "baseline": ["a"]}, "baseline: '['a']' is no variant; expected one of a"),
        (
            {"variants": {"a": {"data.evaluation": {"s": "1"}}, "b": {"data.evaluation": {"s": "2"}}}},
            "variant b: data.evaluation.s: found '2', '1' in variant a; variants are compared on the same rows",
        ),
        (
            {"variants": {"a": {}, "b": {"data.ordinary": "o.jsonl"}, "c": {"data.ordinary": "q.jsonl"}}},
            "variant c: data.ordinary: found 'q.jsonl', 'o.jsonl' in variant b; variants are compared on the same rows "
            "by the same scorer, so give both the same",
        ),
        (
            {"variants": {name: {"data.open_ended.v": "v.jsonl", "model.source": name} for name in "ab"}},
            "variant b: model.source: found 'b', 'a' in variant a; of the open-ended set 'v' the base is a side or",
        ),
        ({"variants": {"a": {}, "b": {"data.evaluation_rows": 3}}}, "data.evaluation_rows: found 3, None in variant a"),
        ({"variants": {"a": {}, "b": {"platform": "cpu"}}}, "platform: all runs are made by one process"),
    ],
)
def test_a_faulty_study_is_one_clear_line(tmp_path: Path, keys: dict, said: str) -> None:
    with pytest.raises(ConfigError, match="study.yaml: ") as error:
        study(tmp_path, **keys)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_all_that_would_stop_some_variant_is_told_before_any_run(tmp_path: Path, monkeypatch) -> None:
    def prepare(config, reporter):
        faults = Faults()
        faults.add(ConfigError(f"steps {config.learn.steps}"))
        faults.add(ConfigError("and more"))
        if config.learn.steps > 1:
            faults.refuse()

    monkeypatch.setitem(conduct.__globals__, "prepare", prepare)
    monkeypatch.chdir(tmp_path)
    found = study(tmp_path, seeds=[1, 2], variants={"a": {"learn.steps": 2}, "b": {"learn.steps": 1}, "c": {}})
    with pytest.raises(ConfigError) as error:
        conduct(found, Reporter(quiet=True))
    told = ["variant a: steps 2", "variant a: and more", "variant c: steps 150", "variant c: and more"]
    assert str(error.value).splitlines() == told
    assert not (tmp_path / "runs").exists()


STUDIES = Path(__file__).parents[1] / "studies"


def test_the_quickstart_study_has_the_rows_of_its_table() -> None:
    found = read_study(STUDIES / "quickstart.yaml")
    assert (found.baseline, len(found.runs)) == ("self", 21)
    configs = {run.variant: run.config for run in found.runs if run.seed == 1}
    assert list(configs) == [
        "self",
        "restart",
        "self_training",
        "supervised",
        "no_filter",
        "random_filter",
        "self_alone",
    ]
    assert configs["self_training"].method.name == "self_training"
    assert (configs["restart"].learn.epochs, configs["restart"].learn.steps) == (4, None)


def test_the_paper_s_study_is_configs_alone() -> None:
    configs = {run.variant: run.config for run in read_study(STUDIES / "self_paper.yaml").runs}
    assert configs["qa_alone"].data.has_meta is False
    assert configs["self"].data.evaluation.keys() == {"gsm8k", "svamp"}
    assert [configs["self"].data.to_write(round) > 0 for round in (1, 2, 3)] == [False, True, True]
    assert not any(configs["given_prompts"].data.to_write(round) for round in (1, 2, 3))
    assert not configs["one_round"].data.to_write(1)
    assert configs["one_round"].data.prompts_per_round == 3 * configs["self"].data.prompts_per_round


def test_every_variant_of_the_study_of_pairs_is_one_that_its_method_takes() -> None:
    found = read_study(Path(__file__).parents[1] / "studies/iterative_dpo.yaml", ())
    assert {open_method(run.config).name for run in found.runs} == {"self_refine", "iterative_dpo"}


def tokens_of_a_round(config) -> float:
    """Tokens that a round samples, about, where a response is called bad six times of ten."""
    answer, text, bad = 6, 31, 0.6
    texts = text * config.judge.texts if open_method(config).judges and config.judge.batch is None else 0
    refined = config.rounds.turns * config.method.settings.get("refinements", 1) if texts else 0
    hinted = answer if config.method.settings.get("hint") else 0
    chain = answer + texts + bad * refined * (answer + texts) + hinted
    return config.data.prompts_per_round * config.data.samples_per_prompt * chain


def test_the_study_of_methods_has_each_of_them_on_as_many_sampled_tokens_and_steps() -> None:
    found = read_study(STUDIES / "methods.yaml")
    configs = {run.variant: run.config for run in found.runs if run.seed == 1}
    methods = {name: open_method(config).name for name, config in configs.items()}
    # a model as small as this one's cannot read a question that shows it two answers
    assert set(methods.values()) == set(METHODS) - {"debate"}
    budget = tokens_of_a_round(configs["self"])
    assert {name: round(tokens_of_a_round(c) / budget, 1) for name, c in configs.items()} == dict.fromkeys(configs, 1.0)
    assert {(c.learn.steps, c.learn.batch_rows, c.learn.length, c.rounds.number) for c in configs.values()} == {
        (200, 16, 128, 3)
    }
    assert [name for name, config in configs.items() if open_method(config).reads_labels] == ["star"]
