"""The texts that a method says its chains draw are those that they ask for."""

from collections import Counter
from types import SimpleNamespace

import pytest
from method_helpers import END, Layout

from selfevo_jax.chains import StageParams
from selfevo_jax.config import parse_config
from selfevo_jax.data import EvaluationRow
from selfevo_jax.judges import open_judge
from selfevo_jax.methods import Draws, open_method
from selfevo_jax.methods.registry import BUILT_IN
from selfevo_jax.plan.lengths import Lengths
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.sample import Completion, SamplingParams

RESPOND, FEEDBACK, REFINE = 50, 30, 20
STAGES = {
    name: {"max_new_tokens": most} for name, most in (("respond", RESPOND), ("feedback", FEEDBACK), ("refine", REFINE))
}
SAMPLES = {"data": {"samples_per_prompt": 4}}
SCORES = {**SAMPLES, "judge": {"kind": "confidence"}}
WITH = {
    **dict.fromkeys(("raft", "superhf", "list_preferences"), SCORES),
    **dict.fromkeys(("grpo", "self_rewarding"), SAMPLES),
    "ilf": {"sampling": {**STAGES, "refine": {"max_new_tokens": REFINE, "temperature": 0.7}}},
}
TWICE = {"rounds": {"turns": 2}}
CASES = [
    *[(name, {}) for name in sorted(BUILT_IN)],
    *[(name, TWICE) for name in ("self_refine", "iterative_dpo", "chain_of_hindsight")],
    ("self_refine", {"rounds": {"turns": 0, "select": "none"}}),
    ("self_refine", {"judge": {"kind": "ensemble", "ensemble": {"samples": 5}}}),
    ("ilf", {"settings": {"refinements": 7}}),
    ("star", {"settings": {"hint": None}}),
]


def opened(name, sections):
    sections = {"sampling": STAGES, **WITH.get(name, {}), **sections}
    data, settings = {"stories": {}, **sections.pop("data", {})}, sections.pop("settings", {})
    tree = {"run_dir": "x", "model": {"source": "m"}, "method": {"name": name, "settings": settings}}
    return parse_config({**tree, "data": data, **sections})


def drawn(config):
    """Limit -> how many texts with it one chain asks for, where feedback calls every answer bad."""
    bench = SimpleNamespace(config=config, format=Layout(), judge=open_judge(config.judge), cut=None, batch=None)
    bench.tokenizer = SimpleNamespace(decode=lambda ids: "".join(map(chr, ids)))
    bench.chain = lambda *args, **how: Workbench.chain(bench, *args, **how)
    stages = StageParams(*(SamplingParams(max_new_tokens=most) for most in (RESPOND, FEEDBACK, REFINE)))
    row = EvaluationRow("i", "How many?", {"answer": "8"})
    chain, found = open_method(config).chain(bench, row, stages, round=1, sample=0), Counter()
    request = chain.next(None)
    while request is not None:
        found[request.params.max_new_tokens] += 1
        said = "Verdict: incorrect" if request.params is stages.feedback else "8"
        tokens = tuple(map(ord, said))
        request = chain.next(Completion(tokens, said, (-0.1,) * len(tokens), "stop", None, END, (-0.1,)))
    assert chain.result.error is None
    return found


@pytest.mark.parametrize(("name", "sections"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_chain_draws_as_many_texts_of_each_stage_as_its_method_says(name, sections):
    config = opened(name, sections)
    found, said = drawn(config), open_method(config).draws
    assert (found[RESPOND], found[FEEDBACK], found[REFINE]) == (
        said.respond,
        said.feedback * config.judge.texts,
        said.refine,
    )
    assert Lengths.of(config).drawn_in_all == sum(most * count for most, count in found.items())


def test_what_is_beside_the_longest_text_is_no_part_of_it():
    several = Lengths.of(opened("ilf", {"settings": {"refinements": 4}}))
    assert (several.draws, several.turns) == (Draws(feedback=5, refine=4), 1)
    assert several.drawn == RESPOND + FEEDBACK + REFINE + FEEDBACK
    assert (several.extends, several.short_extends) == (4, 5 + 4)
    two = Lengths.of(opened("debate", {}))
    assert (two.drawn, two.drawn_in_all, two.extends, two.short_extends) == (RESPOND, 2 * RESPOND, 1, 1)
    assert (several.answer, two.answer) == (RESPOND, RESPOND)
