"""What each of the methods that have a name asks, keeps and learns, and what it refuses."""

from types import SimpleNamespace

import pytest
from method_helpers import END, made

from selfevo_jax.chains import Candidate, Feedback, RefinementsChain, Rollout, TwoAnswersChain
from selfevo_jax.config import parse_config
from selfevo_jax.config.methods import DEFAULTS, filled
from selfevo_jax.data import EvaluationRow, MetaRow, PromptRow, QARow
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.judges import Assessment
from selfevo_jax.methods import BASE, open_method
from selfevo_jax.methods.registry import BUILT_IN

SCORES = {"judge": {"kind": "likelihood"}, "data": {"samples_per_prompt": 4}}
WITH = {
    "raft": SCORES,
    "ilf": {"sampling": {"refine": {"temperature": 0.7}}},
    "iterative_dpo": {},
    "self_rewarding": {"data": {"samples_per_prompt": 4}},
    "grpo": {"data": {"samples_per_prompt": 4}},
    "superhf": SCORES,
    "list_preferences": SCORES,
}
"""What a config must say beside the name."""


def config(name, **sections):
    data = {"stories": {}, **sections.pop("data", {})}
    method = {"name": name, "settings": sections.pop("settings", {})}
    return parse_config({"run_dir": "x", "model": {"source": "m"}, "data": data, "method": method, **sections})


def method(name, **sections):
    return open_method(config(name, **{**WITH.get(name, {}), **sections}))


def answer(text, good, score=None, end=END):
    return Candidate(text, "stop", tuple(map(ord, text)), Feedback("f", "stop", good, score), end)


def chain(prompt, *candidates, chosen=0, sample=0):
    return Rollout(prompt, sample, prompt, candidates, chosen)


def asked(found, row):
    """What a method asks the workbench for."""
    bench = SimpleNamespace(chain=lambda row, stages, **how: how, batch=None)
    return found.chain(bench, row, None, round=2, sample=1)


def kept(found, rows, round=1):
    return [(r.prompt, r.sample, r.chosen) for r in found.select(rows, round).kept]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_name_is_enough_of_a_config_but_for_what_only_the_user_can_say(name) -> None:
    found = method(name)
    assert found.name == name
    assert found.reads_labels == (name == "star")


def test_what_a_config_says_itself_is_kept_and_what_it_leaves_out_is_the_method_s() -> None:
    given = {"method": {"name": "spin"}, "rounds": {"number": 7}, "learn": {"objective": {"settings": {"beta": 1}}}}
    tree = filled(given)
    assert tree["rounds"] == {"number": 7, "turns": 0, "prompts": "answered", "variant": "continual_mixed"}
    assert tree["learn"] == {"objective": {"settings": {"beta": 1}, "name": "dpo"}}
    assert given["rounds"] == {"number": 7}
    assert filled({"method": {"name": "star"}, "judge": {"batch": None}})["judge"] == {"batch": None}
    assert filled(tree) == tree
    for other in ({}, {"method": None}, {"method": {"name": ["raft"]}}, {"method": {"name": "mine:Method"}}, None):
        assert filled(other) == other
    assert set(DEFAULTS) <= set(BUILT_IN)


def test_raft_learns_the_best_of_each_prompt_s_samples_from_the_checkpoint_before_on() -> None:
    found = method("raft")
    rows = [chain("p", answer(f"{s}", s > 0.5, s), sample=n) for n, s in enumerate((0.2, 0.9, 0.4))]
    rows += [chain("q", answer(f"{s}", False, s), sample=n) for n, s in enumerate((0.1, 0.3))]
    assert kept(found, rows) == [("p", 1, 0), ("q", 1, 0)]
    lesson = found.learning(made([], rows), 2)
    assert (lesson.start, [e.id for e in lesson.groups["self"]]) == (1, ["p/1", "q/1"])


def test_rest_em_starts_from_the_base_on_what_passed_in_the_last_round() -> None:
    found = method("rest_em")
    rows = [[chain(f"{n}{k}", answer("yes", True)) for k in "ab"] + [chain("c", answer("no", False))] for n in (1, 2)]
    lesson = found.learning(made(*rows), 2)
    assert (lesson.start, [e.id for e in lesson.groups["self"]]) == (BASE, ["2a/0", "2b/0"])
    many = [chain("p", answer(f"{n}", n != 2), sample=n) for n in range(14)]
    assert len(kept(found, many)) == 10
    rising = method("rest_em", rounds={"select": "threshold", "quantiles": [0, 1]}, **SCORES)
    rows = [chain("p", answer(f"{s}", False, s), sample=n) for n, s in enumerate((0.2, 0.9))]
    assert [len(kept(rising, rows, round)) for round in (1, 2, 3)] == [2, 1, 1]


def test_star_learns_what_is_right_and_what_was_right_after_a_hint() -> None:
    def row(prompt, gold, *texts):
        rollout = chain(prompt, *(answer(text, None) for text in texts))
        return rollout.assessed([Assessment(text == gold, float(text == gold)) for text in texts])

    hinted = [row("a", "7", "7", "7"), row("b", "5", "5", "4"), row("c", "8", "9", "8"), row("d", "3", "1", "2")]
    found = method("star").select(hinted, 1)
    assert [(r.prompt, r.candidates[r.chosen].text) for r in found.kept] == [("a", "7"), ("b", "5"), ("c", "8")]
    assert found.counts.refined == 1
    lesson = method("star").learning(made(hinted), 1)
    shown = ["".join(map(chr, e.tokens[1:-1])) for e in lesson.groups["self"]]
    assert (lesson.start, shown) == (BASE, ["a7", "b5", "c8"])
    plain = [row("a", "7", "7"), row("b", "5", "5"), row("c", "8", "9")]
    assert len(method("star", settings={"hint": None}).select(plain, 1).kept) == 2


def test_star_shows_the_gold_answer_in_its_hint_and_only_there() -> None:
    gold = EvaluationRow("i", "How many?", {"answer": "8"})
    how = asked(method("star"), gold)
    assert (how["kind"], how["second"], how["judge"]) == (TwoAnswersChain, "How many?\n(Hint: the answer is 8.)", False)
    assert "second" not in asked(method("star", settings={"hint": None}), gold)
    worked = EvaluationRow("i", "How many?", {"answer": "He has 3 + 5 = <<3+5=8>>8.\n#### 8"})
    assert asked(method("star"), worked)["second"] == how["second"]
    with pytest.raises(ConfigError, match=r"prompt 'i' has no gold answer that can be scored, but star"):
        asked(method("star"), PromptRow("i", "How many?"))
    with pytest.raises(ConfigError, match=r"method.settings.hint: found {level}, but gold rows have prompt, answer"):
        asked(method("star", settings={"hint": "{prompt} {level}"}), gold)


@pytest.mark.parametrize(
    ("scorer", "columns", "shown"),
    [
        ("choice", {"answer": 1, "choices": ["p", "q"]}, "B"),
        ("choice", {"answer": "(b)"}, "B"),
        ("exact", {"answer": ["Paris", "paris, France"]}, "Paris"),
        ("exact", {"answer": [51.0]}, "51"),
        ("number", {"answer": 51.0}, "51"),
    ],
)
def test_star_shows_the_gold_answer_in_the_words_of_an_answer(scorer, columns, shown) -> None:
    sets = {"s": {"source": "s.jsonl", "scorers": [scorer]}}
    found = method("star", data={"stories": None, "prompts": "p.jsonl", "meta_skill": "d.jsonl", "evaluation": sets})
    hinted = asked(found, EvaluationRow("i", "Which?", columns))["second"]
    assert hinted == f"Which?\n(Hint: the answer is {shown}.)"


def test_star_writes_a_column_of_the_hint_as_a_person_would() -> None:
    columns = {"answer": "8", "choices": ["tea", "2 cups"], "steps": [1.0, 2.5], "by": {"a": "é"}, "none": None}
    row = EvaluationRow("i", "Which?", columns)
    found = asked(method("star", settings={"hint": "{prompt} {choices}; {steps}; {by}; {none}."}), row)["second"]
    assert found == 'Which? tea, 2 cups; 1, 2.5; {"a": "é"}; .'


def test_ilf_learns_the_best_of_several_refinements_the_earliest_of_equal_ones() -> None:
    found = method("ilf")
    assert (asked(found, None)["kind"], asked(found, None)["refinements"]) == (RefinementsChain, 4)
    bad = answer("no", False, 0.0)
    rows = [
        chain("a", bad, answer("1", False, 0.1), answer("2", True, 0.7), answer("3", True, 0.7), chosen=2),
        chain("b", answer("fine", True, 0.9)),
        chain("c", bad, answer("1", False, 0.4), chosen=1),
        chain("d", bad, answer("1", True, 0.6), answer("2", True, 0.8), answer("3", None), chosen=1),
        chain("e", bad, answer("1", None)),
    ]
    assert kept(found, rows) == [("a", 0, 2), ("d", 0, 2)]
    assert found.select(rows, 1).counts.unscored == 1
    twice = [chain("a", bad, answer(f"{n}", True, 0.5), chosen=1, sample=n) for n in range(3)]
    assert kept(found, twice) == [("a", 0, 1)]


def test_self_rewarding_compares_the_best_with_the_worst_of_mean_marks() -> None:
    found = method("self_rewarding")
    marks = (3.33, 4.67, 2.0, 4.67)
    rows = [chain("p", answer(f"{n}", m > 3, m), sample=n) for n, m in enumerate(marks)]
    pairs, _ = found.found(rows)
    assert [(pair.better.rollout.sample, pair.worse.rollout.sample) for pair in pairs] == [(1, 2)]
    assert len(found.config.judge.ensemble.texts) == 3


def test_debate_learns_the_answer_that_wins_in_both_orders() -> None:
    def row(prompt, *ratings):
        return chain(prompt, answer("one", None), answer("other", None)).assessed(
            [Assessment(None if of is None else False, of) for of in ratings]
        )

    found = method("debate")
    how = asked(found, PromptRow("i", "Why?"))
    assert (how["kind"], how["second"], how["judge"]) == (TwoAnswersChain, "Why?", False)
    rows = [row("a", 0.0, 1.0), row("b", 1.0, 0.0), row("c", 0.5, 0.5), row("d", None, None)]
    assert kept(found, rows) == [("a", 0, 1), ("b", 0, 0)]
    assert found.select(rows, 1).counts.unscored == 1


META = [MetaRow("m", "p", "r", "f", "written", False), MetaRow("m2", "p", "r", "f", "other", False)]


def test_spin_pairs_what_is_written_with_the_model_s_own_answers_to_the_same_prompts() -> None:
    found = method("spin")
    qa = [QARow("q", "asked", "of D_QA"), QARow("q2", "p2", "same")]
    rows = [
        chain("p", answer("own", None)),
        chain("asked", answer("own, too", None)),
        chain("p2", answer("same", None)),
        chain("unknown", answer("own", None)),
    ]
    lesson = found.learning(made(rows, meta=META, qa=qa), 1)
    assert lesson.start == 0
    assert lesson.notices == ("2 pairs are learnt from; left out: 1 of equal texts",)
    sides = [
        [("".join(map(chr, e.tokens[e.weights > 0][:-1])), e.extras["side"]) for e in g.members]
        for g in lesson.groups["self"]
    ]
    assert sides == [[("of D_QA", 1), ("own, too", -1)], [("written", 1), ("own", -1)]]
    assert (found.judges, found.filters, asked(found, None)["judge"]) == (False, False, False)
    with pytest.raises(EmptySelectionError, match=r"round 1: no answer of the model differs from what is written"):
        found.learning(made([chain("p2", answer("same", None))], qa=qa), 1)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("raft", {"rounds": {"turns": 1}}, r"rounds.turns: found 1, but raft takes 0; set it to that"),
        ("raft", {"rounds": {"select": "none"}}, r"rounds.select: found none, but raft takes best_of_n"),
        ("raft", {"judge": {}}, r"rounds.select: best_of_n ranks by scores"),
        ("rest_em", {"rounds": {"variant": "continual_mixed"}}, r"rounds.variant: found continual_mixed, but rest_em"),
        (
            "rest_em",
            {"rounds": {"select": "none"}},
            r"rounds.select: found none, but rest_em takes feedback, or thresh",
        ),
        ("star", {"judge": {"batch": None}}, r"judge.batch.kind: found none, but star learns what is right"),
        ("star", {"settings": {"hint": "{prompt}"}}, r"method.settings.hint: found '{prompt}', expected a text with"),
        (
            "ilf",
            {"settings": {"refinements": 1}},
            r"method.settings.refinements: found 1, expected a whole number of 2",
        ),
        ("ilf", {"sampling": {}}, r"sampling.refine.temperature: found 0, but ilf draws 4 refinements"),
        ("ilf", {"rounds": {"select": "none"}}, r"rounds.select: found none, but ilf does not read it; leave it out$"),
        ("debate", {"judge": {"batch": {"kind": "scorer"}}}, r"judge.batch.kind: found scorer, but debate compares"),
        ("debate", {"rounds": {"select": "random"}}, r"rounds.select: found random, but debate does not read"),
        ("debate", {"sampling": {"respond": {"temperature": 0}}}, r"sampling.respond.temperature: found 0, but debate"),
        ("spin", {"rounds": {"prompts": "given"}}, r"rounds.prompts: found given, but spin takes answered"),
        (
            "spin",
            {"learn": {"objective": {"name": "kto"}}},
            r"found kto, but spin learns pairs; set it to dpo$",
        ),
        ("spin", {"data": {"self_written": {}}}, r"rounds.prompts: answered stands beside data.self_written"),
        ("spin", {"learn": {"objective": {"name": "xpo"}}}, r"found xpo, which reads 'of_reference' of each"),
        ("spin", {"learn": {"objective": {"name": "sft"}}}, r"learn.objective.name: found sft, but spin learns pairs"),
        ("raft", {"learn": {"objective": {"name": "dpo"}}}, r"reads 'side' .*; set it to sft, or method.name to itera"),
        ("raft", {"learn": {"objective": {"name": "pro"}}}, r"reads 'place' .*, or method.name to list_preferences$"),
        ("iterative_dpo", {"learn": {"objective": {"name": "d2o"}}}, r"found d2o, which reads 'place' of each"),
        (
            "iterative_dpo",
            {"rounds": {"variant": "restart", "select": "none"}},
            r"^rounds.variant: found restart, .* set it to continual_mixed\nrounds.select: found none, ",
        ),
        ("dpo", {}, r"method.name: found dpo, which is an objective; set .*, such as iterative_dpo$"),
        ("copg", {}, r"method.name: found copg, which is an objective; set .*, such as list_preferences$"),
        (
            "sdpo",
            {"rounds": {"turns": 1, "pool": "all"}},
            r"^rounds.turns: found 1, but sdpo takes 0; set it to that\nrounds.pool: found all, but sdpo takes last;",
        ),
        (
            "sdpo",
            {"rounds": {"select": "none"}, "judge": {"batch": {"kind": "scorer"}}},
            r"^rounds.select: found none, .* does not read it; leave it out\njudge.batch: found scorer, but sdpo does",
        ),
        ("ilf", {"judge": {"batch": {"kind": "pairwise"}}}, r"judge.batch.kind: pairwise compares one refinement with"),
        ("star", {"rounds": {"prompts": "answered"}}, r"rounds.prompts: found answered, but judge.batch scorer knows"),
        (
            "rest_em",
            {"rounds": {"pass_rate": [0.3, 0.32]}, "data": {"samples_per_prompt": 4}},
            r"rounds.pass_rate: found \[0.3, 0.32\], but of 4 responses to a prompt no share called good is between",
        ),
        (
            "self_rewarding",
            {"data": {"samples_per_prompt": 4}, "sampling": {"feedback": {"temperature": 0}}},
            r"sampling.feedback.temperature: found 0, but judge.ensemble draws several texts of one instruction",
        ),
        (
            "raft",
            {"sampling": {"respond": {"temperature": 0}}},
            r"sampling.respond.temperature: found 0, but data.samples_per_prompt is 4, and all samples",
        ),
        (
            "star",
            {"rounds": {"select": "improvement"}},
            r"rounds.select: improvement compares refinements, but star makes none; set it to feedback",
        ),
        (
            "grpo",
            {"judge": {"batch": {"kind": "pairwise"}}},
            r"judge.batch.kind: pairwise compares a refinement with its response, but grpo makes none",
        ),
        ("self_rewarding", {"settings": {"pairs": "both"}}, r"method.settings: self_rewarding has none here"),
        ("self_rewarding", {"data": {}}, r"data.samples_per_prompt: found 1, but pairs of samples need 2"),
    ],
)
def test_settings_of_another_method_are_refused(name, changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        method(name, **changes)
