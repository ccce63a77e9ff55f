import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from selfevo_jax.api.settings import as_overrides, as_tree
from selfevo_jax.config import (
    dump_config,
    forms,
    load_config,
    override,
    parse_config,
    read_tree,
    set_key,
    usable_config,
)
from selfevo_jax.config.forms import fields
from selfevo_jax.errors import ConfigError

MINIMAL = "run_dir: runs/x\nmodel: {source: builtin:stories}\ndata: {stories: {}}\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["2e-5", "2.0e-5", "0.00002", "2E-5"])
def test_a_number_in_scientific_notation_is_a_number(tmp_path: Path, text: str) -> None:
    config = load_config(write(tmp_path, MINIMAL + f"learn: {{learning_rate: {text}}}\n"))
    assert config.learn.learning_rate == pytest.approx(2e-5)
    assert load_config(write(tmp_path, MINIMAL), [f"learn.learning_rate={text}"]).learn.learning_rate == 2e-5


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'learn.learning_rte'; did you mean 'learning_rate'"):
        load_config(write(tmp_path, MINIMAL + "learn: {learning_rte: 1e-3}\n"))


def test_a_wrong_value_names_file_and_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml: learn.steps: found 0, expected a whole number above 0"):
        load_config(write(tmp_path, MINIMAL), ["learn.steps=0"])


def test_a_study_in_place_of_a_config_is_named_as_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml: a study, and no config of one run; run it by `selfe"):
        load_config(write(tmp_path, "base: mine.yaml\nout: runs/x\nvariants: {a: {}}\n"))


def test_a_duplicated_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 5: key 'seed' is duplicated"):
        load_config(write(tmp_path, MINIMAL + "seed: 1\nseed: 2\n"))


def test_a_missing_file_an_empty_one_and_a_bad_override_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="expected sections"):
        load_config(write(tmp_path, ""))
    for bad in ("seed", "=3", ".=3", "learn.=3", "learn..steps=3"):
        with pytest.raises(ConfigError, match="expected key=value"):
            load_config(write(tmp_path, MINIMAL), [bad])


def test_data_needs_exactly_one_source_of_feedback_examples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exactly one of meta_skill, meta_from_solutions and meta_from_equations"):
        load_config(write(tmp_path, "run_dir: x\nmodel: {source: a}\ndata: {prompts: p.jsonl}\n"))


def test_a_dumped_config_loads_as_the_same_config(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), ["rounds.number=2", "format.kind=chat", "learn.clip_norm=.inf"])
    assert load_config(write(tmp_path, dump_config(config))) == config
    assert json.dumps(config.learn.clip_norm, allow_nan=False) == "1e+38"  # no limit, in a form that every record has


@pytest.mark.parametrize(
    "text", ["1e3", "1.5e3", ".5E1", "010", "1:30", "yes", "a\x85b", "\u2028", "a: b # c", "\ufeffx"]
)
def test_a_text_is_written_so_that_it_is_read_back_as_a_text(tmp_path: Path, text: str) -> None:
    config = load_config(write(tmp_path, MINIMAL + f"format: {{system: {json.dumps(text)}}}\n"))
    assert config.format.system == text
    assert load_config(write(tmp_path, dump_config(config))) == config


def test_a_character_that_json_writes_as_two_is_one(tmp_path: Path) -> None:
    text = "You are \U0001f600, \u2028 and \x7f"
    assert override(f"format.system={json.dumps(text)}") == ("format.system", text)
    assert as_overrides({"format.system": text}) == [f"format.system={json.dumps(text)}"]
    tree = {text[8]: text}
    assert read_tree(write(tmp_path, f"x: {json.dumps(tree)}\n")) == {"x": tree}
    with pytest.raises(ConfigError, match=r"config.yaml: line 4: half of a surrogate pair"):
        load_config(write(tmp_path, MINIMAL + 'format: {system: "\\ud83d"}\n'))
    with pytest.raises(ConfigError, match="override of 'format.system': line 1: half of a surrogate pair"):
        override('format.system="\\ude00\\ud83d"')


def test_settings_of_python_are_those_of_a_config_or_refused_by_their_key() -> None:
    given = {"a": Path("/x"), "b": np.int64(3), "c": np.float32(0.5), "d": np.bool_(True), "e": 1e-5, "f": [1, None]}
    plain = {"a": "/x", "b": 3, "c": 0.5, "d": True, "e": 1e-5, "f": [1, None]}
    assert dict(map(override, as_overrides(given))) == plain
    assert as_tree({"a": given, 1: ()}) == {"a": plain, "1": []}
    for value in ({1, 2}, b"x", np.zeros(2), object()):
        with pytest.raises(ConfigError, match=r"settings\['a.b'\]: found a value of type"):
            as_overrides({"a.b": value})
        with pytest.raises(ConfigError, match=r"config\['a'\]: found a value of type (?!dict)"):
            as_tree({"a": {"b": value}})


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join([f'*{m}'] * 8)}]\n" for m, n in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "? [1]\n: 2\n",
        "seed: 2024-13-45\n",
        "seed: " + "[" * 1500,
        "seed: " + "9" * 5000,
        "seed: !!bool x\n",
        BOMB + MINIMAL + "seed: *h\n",
        MINIMAL + "rounds: {number: 1000000000}\n",
        "x: " + "y" * 2**20,
    ],
    ids=["list as key", "no date", "deep", "long number", "no boolean", "aliases", "rounds", "large"],
)
def test_what_is_no_config_is_one_short_error_with_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="config.yaml") as told:
        load_config(write(tmp_path, text))
    assert len(str(told.value)) < 4000


@pytest.mark.parametrize("name", ["../../out", "/out", "a/b", "", ".hidden", "a\n"])
def test_the_name_of_an_evaluation_set_can_be_no_path(tmp_path: Path, name: str) -> None:
    given = "run_dir: runs/x\nmodel: {source: builtin:stories}\ndata: {prompts: p, meta_skill: m, evaluation: "
    with pytest.raises(ConfigError, match="data.evaluation"):
        load_config(write(tmp_path, f"{given}{{{json.dumps(name)}: rows.jsonl}}}}\n"))
    load_config(write(tmp_path, given + "{gsm8k_test.v2: rows.jsonl}}\n"))


SECRETS = [
    "https://me:hunter2@host/model",
    "https://hunter2@host/model",
    "gs://bucket/model?access_token=hunter2",
    "https://host/f.jsonl?a=1&X-Amz-Signature=hunter2",
    "https://host/f.jsonl?sig=hunter2",
    "see https://host/a?b=c;api_key=hunter2 now",
    "https://host/a?api%5Fkey=hunter2",
    "https://host/a?token%3Dhunter2",
    "https://host/a?token[]=hunter2",
    "https://host/a?Authorization=hunter2",
    "https://host/a?sas=hunter2",
    "https://host/a?page=2&code=hunter2",
    "https://host/a?subscription-key=hunter2",
    "https://me:with/slash@hunter2@host/a",
    "https:/me:hunter2@host/a",
    "AccountName=a;AccountKey=hunter2;EndpointSuffix=b",
]


@pytest.mark.parametrize("url", SECRETS)
@pytest.mark.parametrize(
    "where",
    [
        "model: {source: %s}",
        "format: {stop_strings: [a, %s]}",
        "data: {evaluation: {x: %s}}",
        "modle: {source: %s}",
        "data: {stories: [%s]}",
        "%s: 1",
        "seed: %s",
        "rounds: {number: {a: [%s]}}",
    ],
)
def test_a_secret_in_a_url_is_refused_wherever_it_is_and_not_repeated(tmp_path: Path, url: str, where: str) -> None:
    key, _, _ = where.partition(":")
    with pytest.raises(ConfigError, match="config.yaml: .*a URL with credentials") as told:
        load_config(write(tmp_path, MINIMAL.replace(f"\n{key}:", "\n#") + where % json.dumps(url) + "\n"))
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("url", SECRETS)
@pytest.mark.parametrize(
    "override", ["%s", "model.source=%s", "model.sorce=%s", "model=[%s", "%s=x", "model.source.x=%s", "seed=!!int '%s'"]
)
def test_a_secret_in_an_override_is_refused_and_not_repeated(tmp_path: Path, url: str, override: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config(write(tmp_path, MINIMAL), [override % url])
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "where",
    ["track: {kind: 'toys:Diary', token: %s}", "track: [{kind: wandb, api_key: %s}]", "scorer: {password: %s}"],
)
def test_a_setting_that_is_a_key_by_its_name_is_refused_and_not_repeated(tmp_path: Path, where: str) -> None:
    with pytest.raises(
        ConfigError, match=r"(token|api_key|password): a key or password; .* by the environment"
    ) as told:
        load_config(write(tmp_path, MINIMAL + where % "hunter2" + "\n"))
    assert "hunter2" not in str(told.value)


def test_an_evaluation_set_may_be_called_secret(tmp_path: Path) -> None:
    data = {"prompts": "p.jsonl", "evaluation": {"secret": "s.jsonl"}}
    tree = {**yaml.safe_load(MINIMAL), "meta": {"steps": 0}, "data": data}
    assert list(parse_config(tree).data.evaluation) == ["secret"]


@pytest.mark.parametrize("text", ["model: {source: %s", "model: [%s}", "a: b: %s", "x: !t %s", "x: *%s", '"%s'])
def test_a_secret_in_malformed_yaml_is_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config(write(tmp_path, text % "https://me:hunter2@host/model"))
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "text", ["Ask: what is ?key=value", "https://host/a?page=2", "mail me@host", "gs://b/a@1", "code: 12, sort_key: b"]
)
def test_texts_without_secrets_are_no_secrets(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, MINIMAL + f"format: {{system: {json.dumps(text)}}}\n")).format.system == text


@pytest.mark.parametrize(
    "text",
    [
        "password: *hunter2",
        "password: !hunter2 x",
        "password: !!python/object:hunter2 x",
        "learn: {steps: !!int hunter2}",
        "learn: {steps: !!float hunter2}",
        "learn: {steps: !!timestamp hunter2}",
        "learn: {steps: password=hunter2}",
        "seed: 'api_key: hunter2'",
    ],
)
def test_what_yaml_cannot_read_is_not_repeated_either(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_config(write(tmp_path, MINIMAL + text + "\n"))
    assert "hunter2" not in str(told.value)
    key, _, value = text.partition(": ")
    with pytest.raises(ConfigError) as told:
        load_config(write(tmp_path, MINIMAL), [f"{key}={value}"])
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "steps"), [("010", 10), ("1_000", 1000), ("0x10", 16), ("1e2", 100), ("1:30", None), ("0o17", None)]
)
def test_a_number_is_the_one_that_is_written(tmp_path: Path, text: str, steps: int | None) -> None:
    config = write(tmp_path, MINIMAL)
    if steps is not None:
        assert load_config(config, [f"learn.steps={text}"]).learn.steps == steps
        return
    with pytest.raises(ConfigError, match=f"found '{text}', expected a whole number above 0"):
        load_config(config, [f"learn.steps={text}"])


@pytest.mark.parametrize("override", ["learn.steps=", "run_dir= ", "run_dir=''", "learn.lora={targets: []}"])
def test_an_empty_value_is_no_value(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        load_config(write(tmp_path, MINIMAL), [override])


def test_a_key_that_needs_a_value_is_not_said_to_take_null(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no value, and run_dir needs one") as told:
        load_config(write(tmp_path, MINIMAL), ["run_dir="])
    assert "null" not in str(told.value)
    with pytest.raises(ConfigError, match="run_dir: missing"):
        load_config(write(tmp_path, MINIMAL), ["run_dir=null"])


@pytest.mark.parametrize("key", ["seed", "rounds.number", "learn", "sampling.respond.temperature", "learn.lora"])
def test_null_on_the_command_line_unsets_any_key_that_has_a_default(tmp_path: Path, key: str) -> None:
    text = MINIMAL + "seed: 3\nrounds: {number: 1}\nsampling: {respond: {temperature: 1}}\n"
    text += "learn: {steps: 3, lora: {rank: 2}}\n"
    found, default = load_config(write(tmp_path, text), [f"{key}=null"]), load_config(write(tmp_path, MINIMAL))
    for part in key.split("."):
        found, default = getattr(found, part), getattr(default, part)
    assert found == default


def test_null_takes_out_a_set_with_a_name_of_the_users_and_no_other(tmp_path: Path) -> None:
    sets = [f"data.evaluation.{name}={name}.jsonl" for name in ("one", "two")]
    file = write(tmp_path, MINIMAL.replace("stories: {}", "prompts: p.jsonl, meta_skill: m.jsonl"))
    assert [*load_config(file, [*sets, "data.evaluation.one=null"]).data.evaluation] == ["two"]
    with pytest.raises(ConfigError, match="data.evaluation.tow': null takes an entry out; there are one, two"):
        load_config(file, [*sets, "data.evaluation.tow=null"])


def test_an_override_is_of_the_set_that_is_there_where_its_name_has_a_dot(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        "stories: {}", "prompts: p, meta_skill: m, evaluation: {v1: a.jsonl, v1.0: b.jsonl, v2.x: c}"
    )
    given = ["data.evaluation.v1.0.scorers=exact", "data.evaluation.v1.source=d.jsonl", "data.evaluation.v2.x=null"]
    found = load_config(write(tmp_path, text), given).data.evaluation
    assert {name: (of.source, of.scorers[0].kind) for name, of in found.items()} == {
        "v1": ("d.jsonl", "number"),
        "v1.0": ("b.jsonl", "exact"),
    }


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (["data.evaluation_rows=64"], "evaluation_rows; set data.stories.evaluation_rows in place of it"),
        (["data.prompts=p.jsonl"], "prompts; remove data.prompts, or set data.stories=null to use your own files"),
    ],
)
def test_a_key_of_files_beside_a_task_is_one_fault_with_the_tasks_own_key(given: list[str], remedy: str) -> None:
    tree = read_tree(Path(__file__).parents[1] / "configs" / "quickstart.yaml")
    for text in given:
        set_key(tree, *override(text))
    assert usable_config(tree) == (None, [f"config: data: stories stands beside {remedy}"])


def test_what_a_config_lacks_without_its_faulty_keys_is_no_fault_of_the_users() -> None:
    tree = {"run_dir": "x", "model": {"source": "a"}, "data": {"prompts": "p", "meta_skil": "m"}}
    assert [fault.partition(";")[0] for fault in usable_config(tree)[1]] == ["config: unknown key 'data.meta_skil'"]


@pytest.mark.parametrize(("written", "override"), [("epochs: 2", "learn.steps=4"), ("steps: 4", "learn.epochs=2")])
def test_an_override_of_steps_or_epochs_takes_the_other_out(tmp_path: Path, written: str, override: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"run_dir: x\nmodel: {{source: builtin:stories}}\ndata: {{stories: {{}}}}\nlearn: {{{written}}}\n")
    learn = load_config(file, [override]).learn
    assert (learn.steps, learn.epochs) == ((4, None) if "steps" in override else (None, 2.0))
    assert load_config(file, [override.split("=", maxsplit=1)[0] + "=null"]).learn == load_config(file).learn


def test_an_override_changes_the_named_key_and_not_what_shares_its_anchor(tmp_path: Path) -> None:
    text = MINIMAL + "meta: &t {steps: 8, lora: &l {rank: 2}}\nlearn: *t\n"
    config = load_config(write(tmp_path, text), ["learn.steps=600", "learn.lora.rank=4"])
    assert (config.meta.steps, config.learn.steps) == (8, 600)
    assert (config.meta.lora, config.learn.lora) != (None, None)
    assert (config.meta.lora.rank, config.learn.lora.rank) == (2, 4)
    merged = "sampling: {respond: &r {max_new_tokens: 8}, feedback: {<<: *r}, refine: {<<: *r, top_k: 3}}\n"
    config = load_config(write(tmp_path, MINIMAL + merged), ["sampling.refine.max_new_tokens=9"])
    assert [getattr(config.sampling, s).max_new_tokens for s in ("respond", "feedback", "refine")] == [8, 8, 9]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("learn.lr=1", "did you mean 'learning_rate'"),
        ("learn.num_train_epochs=1", "did you mean 'epochs'"),
        ("meta.batch_size=1", "did you mean 'batch_rows'"),
        ("sampling.max_tokens=1", "did you mean 'sampling.respond.max_new_tokens' or"),
        ("sampling.respond.max_tokens=1", "did you mean 'max_new_tokens'"),
        ("sampling.max_model_len=1", "did you mean 'cache_length'"),
        ("learn.max_length=1", "did you mean 'length'"),
        ("rounds.num_rounds=1", "did you mean 'number'"),
        ("model.model_name_or_path=1", "did you mean 'source'"),
        ("model_name_or_path=1", "did you mean 'model.source'"),
        ("output_dir=1", "did you mean 'run_dir'"),
        ("learning_rate=1", "did you mean 'meta.learning_rate' or 'learn.learning_rate'"),
        ("sampling.temperature=1", "did you mean 'sampling.respond.temperature' or"),
        ("lr=1", "did you mean 'meta.learning_rate' or 'learn.learning_rate'"),
        ("data.train_file=1", "did you mean 'prompts'"),
        ("nothing.like=1", "known keys: run_dir, "),
        ("rounds.zzz=1", "known keys: number, .*`selfevo keys rounds` lists all"),
        ("zzz=1", "`selfevo keys` lists all"),
    ],
)
def test_the_usual_name_elsewhere_leads_to_ours(tmp_path: Path, given: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key .*{hint}"):
        load_config(write(tmp_path, MINIMAL), [given])


def test_every_usual_name_leads_to_a_key_that_there_is() -> None:
    known = {full.rpartition(".")[2] for full, _ in fields()}
    assert set(forms._OTHER_NAMES) <= known


NAN = float("nan")
WRONG = ["ten", "", [], ["a"], {}, {"a": 1}, True, False, None, -1e9, 0.5, NAN, 10**5000, "1e", "null"]
PYDANTIC = ["pydantic", "Input", "should be", "Field", "validation", "instance", "dictionary", "Traceback", "unable"]


def fault(tree: dict) -> str | None:
    try:
        parse_config(tree)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("key", [full for full, _ in fields()])
def test_a_wrong_value_of_any_key_is_one_line_that_says_what_the_key_wants(key: str) -> None:
    faults = []
    for value in WRONG:
        tree = {"run_dir": "x", "model": {"source": "a"}, "data": {"stories": {}}}
        *path, last = key.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
        faults.append(fault(tree))
        assert faults[-1] is not None or value is not NAN, "nan is within all bounds, and no value of any key"
    faults = [text for text in faults if text is not None]
    assert len(faults) >= 3
    for text in faults:
        told = (key, "data: stories", "source: missing", "kind: missing", "url: missing")  # what else such a tree lacks
        assert any(part in line for line in text.splitlines() for part in told)
        assert not [word for word in PYDANTIC if word in text], text
        assert len(text) < 1000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("learn.steps=ten", "learn.steps: found 'ten', expected a whole number above 0"),
        ("learn.steps=true", "learn.steps: found true, expected a whole number above 0"),
        ("rounds.stop_when_worse=1", "rounds.stop_when_worse: found 1, expected true or false"),
        ("rounds.stop_when_worse=maybe", "rounds.stop_when_worse: found 'maybe', expected true or false"),
        ("rounds.variant=resart", "rounds.variant: found 'resart', expected restart, continual_mixed or"),
        ("format.template=3", "format.template: found 3, expected a section of settings .*enable_thinking: false"),
        ("format.respond={prompt}", "format.respond: found a section, expected a text, or null .*quotes"),
        ("evaluate.modes=[direct,both2]", "evaluate.modes.1: found 'both2', expected a list, each direct, refined"),
        ("evaluate.modes=[dierct]", r"^[^\n]*modes.0: found 'dierct', expected [^\n]*; did you mean 'direct'\?$"),
        ("learn.b2=1", "learn.b2: found 1, expected a number from 0 below 1"),
        ("mesh.data=0", "mesh.data: found 0, expected a whole number above 0, or -1 for what the others leave"),
        ("mesh.fsdp=-1", "mesh: data and fsdp are -1; one of them at most takes what the others leave"),
        ("evaluate.modes=[]", "evaluate.modes: found a list of 0, expected a list, each direct, refined, consistency"),
        ("run_dir=5", "run_dir: found 5, expected a text"),
        ("seed=9223372036854775808", "seed: found 9223372036854775808, expected a whole number from 0 up to"),
        ("format.template={depth: .nan}", "format.template.depth: found nan, expected a finite number"),
        ("method.settings={markers: [.inf]}", "method.settings.markers.0: found inf, expected a finite number"),
        ("data=3", "data: found 3, expected a section with keys such as stories"),
    ],
)
def test_a_wrong_value_is_told_with_the_right_form(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(Path(__file__).parent.parent / "configs" / "quickstart.yaml", [given])


def test_a_section_without_keys_is_that_of_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL + "learn:\nrounds:\n")) == load_config(write(tmp_path, MINIMAL))
