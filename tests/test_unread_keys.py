"""A key that is set, and that nothing reads since another is what it is, is told at the start of a run."""

from pathlib import Path

import pytest

from selfevo_jax.annotate.section import annotation
from selfevo_jax.config import load_config, override, parse_config, read_tree, set_key, unread
from selfevo_jax.study import read_study

ROOT = Path(__file__).parents[1]
FILES = {"prompts": "p.jsonl", "meta_skill": "m.jsonl"}


def told(*changes: str) -> list[str]:
    tree = {"run_dir": "x", "model": {"source": "m"}, "data": FILES}
    for text in changes:
        set_key(tree, *override(text))
    return list(unread(parse_config(tree)))


QA_ALONE = "data={prompts: p.jsonl, qa: q.jsonl}"
APART = "data={instructions: {apart: [base]}}"
KINDS = "data={instructions: {kinds: ['punctuation:no_comma', 'change_case:lowercase']}}"
WORSE = ("rounds.stop_when_worse=true", "data.evaluation={s: s.jsonl}")
OF_GRPO = "learn.objective.settings"
GRPO = ["learn.objective.name=grpo", "rounds.variant=continual_mixed", "sampling.respond.temperature=1"]


@pytest.mark.parametrize(
    ("key", "others", "instead"),
    [
        ("judge.ensemble.weight=0.7", ["judge.kind=ensemble"], ["judge.ensemble.join=mean_minus_variance"]),
        ("saving.keep_every=5", [], ["saving.keep_last=2"]),
        ("saving.keep_best=false", ["saving.keep_last=2", *WORSE], ["rounds.stop_when_worse=false"]),
        ("evaluate.k=9", ["evaluate.modes=[direct]"], ["evaluate.modes=[direct, both]"]),
        ("sampling.refine.top_p=0.9", [], ["sampling.refine.temperature=0.7"]),
        ("sampling.refine.min_p=0.1", ["evaluate.modes=[consistency]"], ["evaluate.modes=[both]"]),
        ("sampling.respond.top_k=5", ["sampling.respond.temperature=0"], ["data={stories: {}}"]),
        ("data.meta_feedback=verdict", [QA_ALONE], ["data.meta_skill=m.jsonl"]),
        ("meta.direct_share=0.5", [QA_ALONE], ["data.meta_skill=m.jsonl"]),
        ("meta.qa_share=0.5", [], ["data.qa=q.jsonl"]),
        ("meta.meta_share=0.3", [], ["meta.meta_share=null"]),
        ("learn.qa_share=0.5", ["data={instructions: {}}"], ["data.instructions.meta.own_prompts=20"]),
        ("data.evaluation_rows=20", [], ["data.ordinary=o.jsonl"]),
        ("data.evaluation_rows=20", ["data={instructions: {}}"], ["data.evaluation={s: s.jsonl}"]),
        ("data.instructions.evaluation.arguments=0.5", [APART], ["data.instructions.apart=[base, arguments]"]),
        ("data.instructions.three_share=0.2", [KINDS], ["data.instructions.kinds=null"]),
        ("rounds.order=cyclical", ["data.self_written={from_round: 1}"], ["data.self_written.from_round=2"]),
        ("learn.objective.settings.constant_length=64", GRPO, [f"{OF_GRPO}.loss_aggregation=constant"]),
    ],
)
def test_what_nothing_reads_is_told_with_its_key_and_what_is_read_is_not(key, others, instead) -> None:
    assert [line.partition(": found ")[0] for line in told(*others, key)] == [key.partition("=")[0]]
    assert told(*others, key, *instead) == []


def test_a_key_of_an_annotation_that_nothing_reads_is_told() -> None:
    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "m"}
    asks = {"system": "Be kind.", "answer": "Answer: {prompt}"}
    tree = {"endpoint": endpoint, "templates": asks, "responses": {"base": "b", "price": {"read": 1, "written": 2}}}
    told = [*annotation(tree, "x").unread()]
    assert [line.partition(": is set")[0] for line in told] == ["templates.answer", "responses.price"]
    of_server = {**tree, "responses": {**tree["responses"], "base": None, "model": "n"}}
    assert [*annotation(of_server, "x").unread()] == []
    (line,) = annotation({"endpoint": endpoint, "templates": asks, "kind": "qa"}, "x").unread()
    assert line == "templates.system: is set, but kind is qa, so that nothing reads it; leave it out"


def test_no_shipped_config_or_study_has_a_key_that_nothing_reads() -> None:
    files = [*(ROOT / "configs").glob("*.yaml"), *(ROOT / "studies").glob("*.yaml")]
    studies = [read_study(file) for file in files if "variants" in read_tree(file)]
    configs = [load_config(file) for file in files if "variants" not in read_tree(file)]
    configs += [run.config for study in studies for run in study.runs if run.seed == study.runs[0].seed]
    assert len(studies) > 3
    assert [line for config in configs for line in unread(config)] == []
