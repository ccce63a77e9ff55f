"""A key that is set and that the method does not read is refused, and one that it reads is taken."""

import pytest
from method_helpers import made

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import Config, parse_config
from selfevo_jax.config.load import override, set_key
from selfevo_jax.errors import ConfigError
from selfevo_jax.methods import open_method
from selfevo_jax.methods.checks import BY_METHOD
from selfevo_jax.methods.registry import BUILT_IN

SAMPLES, SCORES = "data.samples_per_prompt=4", "judge.kind=confidence"
WITH = {
    **dict.fromkeys(("raft", "superhf", "list_preferences"), (SAMPLES, SCORES)),
    **dict.fromkeys(("grpo", "self_rewarding"), (SAMPLES,)),
    "ilf": ("sampling.refine.temperature=0.7",),
}


def method(name, *changes):
    tree = {"run_dir": "x", "model": {"source": "m"}, "data": {"stories": {}}, "method": {"name": name}}
    for text in (*WITH.get(name, ()), *changes):
        set_key(tree, *override(text))
    return open_method(parse_config(tree))


WHATEVER_THE_METHOD = {
    "rounds": "number variant pool decay prompts order order_rounds keep quantiles margin extremes minimum_kept "
    "stop_when_worse",
    "judge": "kind good_rating scale good_score ensemble likelihood settings",
    "learn": "steps epochs learning_rate warmup_steps schedule end_fraction b1 b2 weight_decay clip_norm batch_rows "
    "length packing accumulate compute_dtype first_moment_dtype remat scan_layers objective lora",
}
"""Read by the loop, the evaluation or the fine-tuning of any run; or refused by the section itself where `select`,
`order` or `kind` does not read it."""


def test_of_every_key_it_is_known_whether_all_methods_read_it_or_those_alone_that_say_so():
    for name, keys in WHATEVER_THE_METHOD.items():
        own = [key.partition(".")[2] for key in BY_METHOD if key.startswith(f"{name}.")]
        fields = [*Config.model_fields[name].annotation.model_fields]
        assert sorted([*keys.split(), *(key for key in own if "." not in key)]) == sorted(fields)
    for name in BUILT_IN:
        found = method(name)
        settings = {f"method.settings.{key}" for key in found.settings}
        assert {*found.reads} - {*BY_METHOD} <= settings | {"method.settings.pairs"}


REFUSED = [
    ("spin", "rounds.pass_rate=[0.2,0.8]"),
    ("spin", "rounds.select=extremes"),
    ("spin", "judge.batch={kind: pairwise}"),
    ("spin", "rounds.controls=8"),
    ("spin", "learn.objective={name: cdpo, settings: {label_smoothing: controls}}"),
    ("self_training", "rounds.turns=2"),
    ("self_training", "judge.batch={kind: scorer}"),
    ("self_training", "rounds.controls_warn_above=0.5"),
    ("sdpo", "judge.batch={kind: scorer}"),
    ("sdpo", "rounds.select=none"),
    ("ilf", "judge={kind: confidence, top_share: 0.5}"),
    ("debate", "rounds.pass_rate=[0.2,0.8]"),
    ("debate", "judge.batch={kind: pairwise, ties: keep}"),
    ("grpo", "rounds.per_prompt=2"),
    ("grpo", "judge.top_share=0.5", SCORES),
    ("list_preferences", "rounds.per_prompt=2"),
    ("list_preferences", "rounds.select=threshold"),
    ("iterative_dpo", "judge.top_share=0.5", SCORES),
    ("iterative_dpo", "method.settings.pairs=samples", SAMPLES, "learn.objective.name=kto"),
    ("iterative_dpo", "rounds.per_prompt=2", "learn.objective.name=kto"),
    ("iterative_dpo", "rounds.select=extremes", "learn.objective.name=kto"),
    ("iterative_dpo", "rounds.select=extremes", "method.settings.pairs=refinement"),
    ("iterative_dpo", "rounds.select=extremes"),
    ("chain_of_hindsight", "method.settings.markers=[a,b]", "method.settings={pairs: refinement, feedback: true}"),
    ("raft", "judge.top_share=0.5"),
    ("rest_em", "judge.top_share=0.5", SCORES, "rounds.select=threshold"),
    ("self_refine", "judge.top_share=0.5", SCORES, "rounds.select=none"),
    ("self_refine", "rounds.controls=8", "rounds.turns=0", "rounds.select=none"),
    ("self_refine", "rounds.controls_warn_above=0.5", "rounds.controls=0"),
    ("self_refine", "rounds.pass_rate=[0.2,0.8]", "judge.batch={kind: pairwise}"),
    ("self_refine", "learn.qa_share=0.5"),
    ("self_refine", "learn.w_feedback=0", "rounds.variant=continual_self_only"),
    ("self_refine", "learn.meta_share=0.5", "rounds.variant=continual_self_only"),
    ("iterative_dpo", "learn.direct_share=0.5", "learn.meta_share=0"),
]
"""Method, what it does not read, and what else is set."""


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: " ".join(case)[:60])
def test_what_is_set_and_not_read_is_refused_with_its_key(case):
    name, key, *others = case
    first = key.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{first}[a-z_.]*: found .*; (leave it out|give a number below 0.5)"):
        method(name, *others, key)


@pytest.mark.parametrize(
    "case",
    [
        ("self_training", "rounds.controls=0"),
        ("grpo", "rounds.per_prompt=null"),
        ("spin", "rounds.per_prompt=32"),
        ("rest_em", "judge.top_share=0.5", SCORES),
        ("star", "judge.top_share=0.5"),
        ("iterative_dpo", "rounds.pass_rate=[0.2,0.8]", "learn.objective.name=kto", SAMPLES),
        ("spin", "learn.w_direct=0.5"),
        ("self_refine", "learn.qa_share=0.5", "data={prompts: p.jsonl, meta_skill: m.jsonl, qa: q.jsonl}"),
        ("spin", "rounds.number=0", "rounds.controls=8"),
    ],
    ids=" ".join,
)
def test_what_is_read_or_asks_for_nothing_is_taken(case):
    name, *changes = case
    method(name, *([*changes, "data.stories=null"] if any("qa:" in text for text in changes) else changes))


def test_single_answers_are_learnt_of_prompts_within_the_pass_rate_alone():
    def rows(prompt, *goods):
        said = [Candidate(f"{n}", "stop", (50 + n,), Feedback("f", "stop", good, None)) for n, good in enumerate(goods)]
        return [Rollout(prompt, n, prompt, (first,), 0) for n, first in enumerate(said)]

    kto = method("iterative_dpo", "learn.objective.name=kto", "rounds.pass_rate=[0.2,0.8]", SAMPLES)
    lesson = kto.learning(made([*rows("easy", True, True), *rows("some", True, False)]), 1)
    assert [group.members[0].id for group in lesson.groups["self"]] == ["some/0/0", "some/1/0"]
