"""A trained model taken out: what others read of it, and that what differs is refused and leaves nothing."""

import importlib.util
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_bucket import serve
from loop_helpers import config, unfinished
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from selfevo_jax.checkpoint import huggingface_export, open_model, save_adapters
from selfevo_jax.checkpoint.weights import flatten
from selfevo_jax.cli import app
from selfevo_jax.errors import ConfigError, ModelError, SelfevoError
from selfevo_jax.export import Form, card, export, writing
from selfevo_jax.export.check import logits_of
from selfevo_jax.export.texts import said
from selfevo_jax.model import LoraConfig, init_adapters
from selfevo_jax.progress import Reporter
from selfevo_jax.run.chosen import choose
from selfevo_jax.run.files import read_rows
from selfevo_jax.storage import place
from selfevo_jax.text import checked_texts

QUIET = Reporter(quiet=True)
STORIES = "builtin:stories"
PROMPTS = ["Mia has 7 shells. Then Mia finds 5. How many now?\nAnswer:", "Then Ben sells 4", "é 日本"]


def taken(source, out: Path, **form) -> Path:
    export(choose(str(source)), out, Form(**form), QUIET)
    return out


@pytest.fixture(scope="module")
def folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest checkpoint of a finished run, exported."""
    return taken(finished, tmp_path_factory.mktemp("exported") / "stories")


def prompt_ids(finished: Path) -> list[tuple[list[int], list[int]]]:
    """Of every evaluation row of the newest checkpoint: its prompt's ids, and the greedy answer as it was recorded."""
    tok = open_model(STORIES).tokenizer
    rows = read_rows(finished / "evaluations" / "0002" / "stories.jsonl")
    first = [(row["prompt"], row["candidates"][0]) for row in rows]
    return [
        ([tok.bos_id, *tok.encode(f"{prompt}\nAnswer:")], [*answer["tokens"], *answer["end"]])
        for prompt, answer in first
    ]


def test_transformers_has_the_ids_logits_and_greedy_answers_of_the_run(folder, finished):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ours, theirs = (
        open_model(str(finished / "checkpoints" / "0002")),
        transformers.AutoTokenizer.from_pretrained(folder),
    )
    for text in checked_texts(ours.tokenizer):
        assert theirs.encode(text) == [ours.tokenizer.bos_id, *ours.tokenizer.encode(text, special=True)], text
    model, told = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    ids = [theirs.encode(prompt) for prompt in PROMPTS]
    wanted = logits_of(ours.config, ours.load(None, jnp.float32), ids)
    with torch.no_grad():
        found = np.concatenate([model(torch.tensor([one])).logits[0].numpy() for one in ids])
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
    asked = prompt_ids(finished)
    assert len(asked) == 16
    for prompt, answer in asked:
        made = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)[0, len(prompt) :].tolist()
        assert made[: len(answer)] == answer


def test_the_folder_says_what_servers_ask_for(folder, finished):
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 1000.0
    assert config["dtype"] == config["torch_dtype"] == "float32"
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 1, "eos_token_id": [2], "pad_token_id": 3}
    names = {file.name for file in folder.iterdir()}
    assert names == {
        *("README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1
    card = (folder / "README.md").read_text()
    for part in (
        "round 2 of the run `run`, trained from `builtin:stories`",
        "self_refine, objective sft",
        "| stories | round 2 | 16 |",
        "{prompt}\nAnswer:",
        "vllm serve ./stories --dtype float32",
        "`</s>` (2)",
    ):
        assert part in card, part


@pytest.mark.parametrize("name", ["stories", 'it\'s "mine" ünd $HOME'])
@pytest.mark.parametrize("adapters", [None, SimpleNamespace(lora=SimpleNamespace(rank=4))])
def test_what_the_card_says_to_type_is_one_command_whatever_the_name(name, adapters):
    chat = SimpleNamespace(config=SimpleNamespace(kind="chat"))
    for format, path in ((None, "completions"), (chat, "chat/completions")):
        blocks = card._serving(name, Form("float32", gguf=adapters is None), format, adapters)
        commands = [shlex.split(block.split("```")[1].replace("\\\n", " ")) for block in blocks]
        (curl,) = (words for words in commands if words[0] == "curl")
        assert curl[1].endswith(f"/v1/{path}")
        assert json.loads(curl[-1])["model"] == (f"./{name}" if adapters is None else name)
        assert any(f"./{name}" in word or word == f"{name}.gguf" for words in commands for word in words)


def test_what_a_card_quotes_stays_a_block_whatever_is_in_it():
    assert card._fenced("a") == "```\na\n```"
    assert card._fenced("```py\n{prompt}\n```") == "````\n```py\n{prompt}\n```\n````"
    assert [card._code("a"), card._code("'```'")] == ["`a`", "```` '```' ````"]


def test_the_card_names_feedback_of_the_model_s_own_where_that_is_what_the_rounds_learn_by(finished):
    def told(name, **changes):
        chosen = choose(f"{finished}@{name}")
        return card._what(replace(chosen, config=config(finished, **changes)), None)

    scorer = {"batch": {"kind": "scorer"}}
    assert "`builtin:stories` by its own language feedback (SELF" in told("1")
    assert "made from `builtin:stories` before its rounds (M_meta of SELF" in told("meta")
    assert "in rounds of the method star" in told("1", method={"name": "star"})
    assert "method self_refine with the judge scorer, which reads labels." in told("1", judge=scorer)
    assert "in rounds of the method self_refine." in told("1", rounds={"turns": 0, "select": "none"})


def test_a_run_gives_its_newest_checkpoint_or_the_one_that_is_named(finished, tmp_path):
    assert choose(str(finished)).source == str(finished / "checkpoints" / "0002")
    assert choose(f"{finished}@1").name == "0001"
    assert choose(f"{finished}@meta").shown == "meta"
    assert choose(f"{finished}@base").source == STORIES
    inside = choose(str(finished / "checkpoints" / "0001"))
    assert (inside.shown, inside.run.root) == ("round 1", finished)
    assert choose(STORIES).run is None
    with pytest.raises(ConfigError, match="has not finished 3"):
        choose(f"{finished}@3")
    for other in ("latest", "-1", "٣", ""):
        with pytest.raises(ConfigError, match=rf"expected @ROUND, @meta or @base behind the run, found '@{other}'"):
            choose(f"{finished}@{other}")
    with pytest.raises(ModelError, match="nothing there"):
        choose(str(tmp_path / "nowhere@2"))
    copied = shutil.copytree(finished, tmp_path / "run")
    (copied / "checkpoints" / "0001" / "REMOVED").write_text("{}")
    with pytest.raises(ConfigError, match="was removed"):
        choose(f"{copied}@1")


def test_a_round_that_was_killed_while_it_sampled_keeps_no_checkpoint_from_being_exported(finished, tmp_path):
    copied = shutil.copytree(finished, tmp_path / "run")
    unfinished(copied, 2, 3)
    read, whole = (said(choose(f"{root}@1")) for root in (copied, finished))
    assert read.prompts == whole.prompts
    assert len(read.texts) > 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_rounded_to_the_dtype_that_is_asked_for(dtype, tmp_path):
    out = taken(STORIES, tmp_path / "out", dtype=dtype)
    assert json.loads((out / "config.json").read_text())["dtype"] == dtype
    exact = flatten(open_model(STORIES).load(None, jnp.float32))
    for name, leaf in flatten(open_model(str(out)).load(None, jnp.float32)).items():
        np.testing.assert_array_equal(leaf, exact[name].astype(dtype).astype(jnp.float32), err_msg=name)


def test_a_difference_is_refused_and_leaves_nothing(monkeypatch, tmp_path):
    written = writing.export_huggingface

    def spoilt(params, config, tokenizer, out, **more):
        written(params, config, tokenizer, out, **more)
        arrays = load_file(out / "model.safetensors")
        arrays["model.norm.weight"] = arrays["model.norm.weight"] * 1.01
        save_file(arrays, out / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(writing, "export_huggingface", spoilt)
    with pytest.raises(ModelError, match="a logit differs by .* nothing is kept"):
        taken(STORIES, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []

    def other_end(params, config, tokenizer, out, **more):
        written(params, config, tokenizer, out, **(more | {"eos_ids": (3,)}))

    monkeypatch.setattr(writing, "export_huggingface", other_end)
    with pytest.raises(ModelError, match="the ids that end a text"):
        taken(STORIES, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_dtype_cannot_hold_is_refused(tmp_path):
    source = shutil.copytree(Path(writing.__file__).parents[1] / "assets" / "stories", tmp_path / "large")
    arrays = load_file(source / "model.safetensors")
    arrays["final_norm.scale"] = arrays["final_norm.scale"] * 1e6
    save_file(arrays, source / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"in float16: final_norm.scale has NaN or infinite .* choose --dtype bfloat16"
    ):
        taken(source, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_moved_by_force_alone(tmp_path):
    runner, out = CliRunner(), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    refused = runner.invoke(app, ["export", STORIES, str(out)])
    assert "not empty; name another folder" in str(refused.exception)
    assert (out / "mine").read_text() == "mine"
    done = runner.invoke(app, ["export", STORIES, str(out), "--force", "--dtype", "bfloat16"])
    assert done.exit_code == 0, done.output
    assert "the ids of 200 texts are equal" in done.output
    assert (tmp_path / "out.before.1" / "mine").read_text() == "mine"
    assert open_model(str(out)).config == open_model(STORIES).config


def test_a_folder_without_a_name_is_refused_and_a_link_is_followed(tmp_path, monkeypatch):
    runner = CliRunner()
    monkeypatch.chdir(tmp_path)
    for name in (".", "..", "/"):
        assert "has no name of its own" in str(runner.invoke(app, ["export", STORIES, name]).exception)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    done = runner.invoke(app, ["export", STORIES, "link"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "link").is_symlink()
    assert open_model(str(tmp_path / "there")).config == open_model(STORIES).config


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(error, monkeypatch, tmp_path):
    def full(*arguments, **more):
        raise error

    monkeypatch.setattr(huggingface_export, "save_file", full)
    with pytest.raises(SelfevoError, match=rf"{tmp_path}: the export could not be .*(?i:no space).*Make room"):
        taken(STORIES, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
def test_what_has_no_counterpart_in_a_gguf_file_is_refused_before_weights_are_read(monkeypatch, tmp_path):
    source = shutil.copytree(Path(writing.__file__).parents[1] / "assets" / "stories", tmp_path / "capped")
    tree = json.loads((source / "model.json").read_text())
    (source / "model.json").write_text(json.dumps(tree | {"sliding_window": 8}))
    monkeypatch.setattr(writing, "require_finite", None)  # what reads them
    with pytest.raises(ModelError, match="GGUF files of models with sliding_window are not written; leave --gguf out"):
        taken(source, tmp_path / "out", gguf=True)


def test_adapters_are_taken_out_as_peft_with_their_base_beside_them(tmp_path):
    source, lora = open_model(STORIES), LoraConfig(rank=2, alpha=4.0, targets=("q", "o", "up"))
    drawn = init_adapters(source.config, lora, jax.random.key(0))
    adapters = jax.tree.map(lambda leaf: leaf + 0.05, drawn)
    save_adapters(tmp_path / "own", adapters, lora, STORIES, source.config, source.tokenizer.files())
    out = taken(tmp_path / "own", tmp_path / "peft", adapters=True)
    assert {file.name for file in (out / "base").iterdir()} >= {"config.json", "model.safetensors"}
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(out / "base")
    wanted = flatten(open_model(str(tmp_path / "own")).load(None, jnp.float32))
    again = open_model(str(out))
    for name, leaf in flatten(again.load(None, jnp.float32)).items():
        np.testing.assert_allclose(leaf, wanted[name], atol=1e-6, err_msg=name)
    of_a_folder = tmp_path / "beside"
    base = taken(STORIES, tmp_path / "hf")
    save_adapters(of_a_folder, adapters, lora, str(base), source.config, source.tokenizer.files())
    out = taken(of_a_folder, tmp_path / "small", adapters=True, dtype="bfloat16")
    assert not (out / "base").exists()
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    with pytest.raises(ConfigError, match="holds whole weights and no adapters"):
        taken(STORIES, tmp_path / "none", adapters=True)
    merged = flatten(open_model(str(taken(tmp_path / "own", tmp_path / "merged"))).load(None, jnp.float32))
    for name, leaf in merged.items():
        np.testing.assert_array_equal(leaf, wanted[name], err_msg=name)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gguf_file_is_read_back_as_the_same_model(dtype, tmp_path):
    out = taken(STORIES, tmp_path / "out", gguf=True, dtype=dtype)
    found, wanted = open_model(str(out / "out.gguf")), open_model(str(out))
    assert found.config == wanted.config
    exact = flatten(open_model(STORIES).load(None, jnp.float32))
    for name, leaf in flatten(found.load(None, jnp.float32)).items():
        np.testing.assert_array_equal(leaf, exact[name].astype(dtype).astype(jnp.float32), err_msg=name)
    for text in checked_texts(wanted.tokenizer):
        assert found.tokenizer.encode(text, special=True) == wanted.tokenizer.encode(text, special=True), text


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is None, reason="gcsfs is not installed")
def test_a_bucket_gets_the_whole_folder_or_nothing(folder, monkeypatch, finished):
    with serve() as bucket:
        for name, value in bucket.env.items():
            monkeypatch.setenv(name, value)
        out = place("gs://bucket/exports/stories")
        taken(finished, out)
        for file in folder.iterdir():
            assert (out / file.name).read_bytes() == file.read_bytes(), file.name
        with pytest.raises(ConfigError, match="not empty"):
            CliRunner().invoke(app, ["export", STORIES, str(out)], catch_exceptions=False)
        bring, later = writing.bring_file, place("gs://bucket/exports/later")

        def broken(source, to):
            if to.name == "config.json":
                raise OSError("gone away")
            bring(source, to)

        monkeypatch.setattr(writing, "bring_file", broken)
        with pytest.raises(SelfevoError, match=r"the bucket did not take it \(gone away\)"):
            taken(STORIES, later)
        assert not any(name.startswith("exports/later") for name in bucket.objects)
