"""What methods learn that compare samples, or read what feedback and hindsight say; and what they refuse."""

import pytest
from method_helpers import END, Layout, made

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.methods import open_method
from selfevo_jax.methods.answers import Answer
from selfevo_jax.methods.preferences import Pair, pair_groups

SAMPLES = {"data": {"samples_per_prompt": 4}}
SCORED = {**SAMPLES, "judge": {"kind": "likelihood"}}
WITH = {
    "grpo": SAMPLES,
    "list_preferences": SCORED,
    "superhf": SCORED,
}


def method(name, **sections):
    given = {**WITH.get(name, {}), **sections}
    data, settings = {"stories": {}, **given.pop("data", {})}, given.pop("settings", {})
    tree = {"run_dir": "x", "model": {"source": "m"}, "data": data, "method": {"name": name, "settings": settings}}
    return open_method(parse_config({**tree, **given}))


def answer(text, good, score=None, finish="stop", end=END):
    said = Feedback("f", "stop", good, score, tuple(map(ord, "why")))
    return Candidate(text, finish, tuple(map(ord, text)), said, end)


def samples(prompt, *firsts):
    return [Rollout(prompt, n, prompt, (first,), 0) for n, first in enumerate(firsts)]


def scored(prompt, *scores):
    return samples(prompt, *(answer(f"{n}", None if s is None else s > 0.5, s) for n, s in enumerate(scores)))


def text(example, weight=0.0):
    return "".join(chr(t) for t, w in zip(example.tokens, example.weights, strict=True) if w > weight and t > 3)


def shown(example):
    return "".join(chr(t) if t > 3 else "|" for t in example.tokens)


def test_each_sample_of_a_group_counts_by_how_much_better_than_the_others_it_is() -> None:
    rows = [*scored("p", 1.0, 0.0, 0.0, 1.0), *scored("q", 1.0, 1.0), *scored("r", 1.0, None)]
    rows += samples("cut", answer("a", True, 1.0, finish="length"), answer("b", False, 0.0))
    settings = {"learn": {"objective": {"settings": {"advantage": "dr_grpo"}}}}
    found = method("grpo", **settings)
    lesson = found.learning(made([], rows), 2)
    assert lesson.start == 1
    assert lesson.notices == ("4 answers to 1 prompts are learnt from; to 3 all score the same",)
    units = lesson.groups["self"]
    assert [(e.id, e.extras) for e in units] == [
        (f"p/{n}/0", {"advantage": gain, "drawn": 1.0}) for n, gain in enumerate((0.5, -0.5, -0.5, 0.5))
    ]
    assert [text(e) for e in units] == ["0", "1", "2", "3"]
    assert all(set(e.extras.values()) == {0.0} for name in ("meta", "direct") for e in lesson.groups[name])
    kept = found.select(rows, 2)
    assert ([(r.prompt, r.sample) for r in kept.kept], kept.counts.kept) == ([("p", n) for n in range(4)], 4)
    with pytest.raises(EmptySelectionError, match=r"round 1: 0 answers .* to 1 all score the same; more samples"):
        found.learning(made(scored("q", 1.0, 1.0)), 1)


def test_extremes_count_for_all_of_a_group_or_the_best_for_more() -> None:
    rows = scored("p", 0.2, 0.5, 0.1, 0.4)
    (plain,) = method("grpo").groups(rows)
    gains = [gain for _, gain in plain]

    def weighed(rule):
        (found,) = method("grpo", rounds={"select": "extremes", "extremes": rule}).groups(rows)
        return [round(gain / of, 3) for (_, gain), of in zip(found, gains, strict=True)]

    assert weighed("best_worst") == [0, 1, 1, 0]
    assert weighed("best_random") == [0.571, 2.286, 0.571, 0.571]


def test_what_is_learnt_behind_feedback_is_the_response_with_the_refining_chain_as_its_teacher() -> None:
    rows = [*samples("p", answer("good", True)), *samples("q", answer("bad", False, end=(3,)))]
    rows += samples("r", answer("eh", None))
    found = method("sdpo")
    lesson = found.learning(made(rows), 1)
    units = lesson.groups["self"]
    assert [shown(e) for e in units] == ["|pgood|", "|qbad"]
    assert [shown(e.teacher) for e in units] == ["|pgood|Jwhy|Rgood|", "|qbad|Jwhy|Rbad"]
    assert [e.extras for e in units] == [{"taught": 1.0}] * 2
    assert lesson.notices == ("2 answers are learnt from",)
    assert {e.extras["taught"] for e in lesson.groups["meta"]} == {0.0}
    counts = found.select(rows, 1).counts
    assert (counts.kept, counts.unscored) == (2, 1)
    short = method("sdpo", learn={"length": 16})
    (told,) = short.learning(made(rows), 1).notices
    assert told == "1 answers are learnt from; 1 with their feedback are longer than learn.length"


def test_hindsight_lays_the_worse_answer_before_the_better_one_in_one_sequence() -> None:
    refined = Rollout("p", 0, "p", (answer("no", False), answer("yes", True)), 1)
    settings = {"markers": ["<", ">"], "worse_weight": 0.5}
    (unit,) = method("chain_of_hindsight", settings=settings).learning(made([refined]), 1).groups["self"]
    assert (shown(unit), text(unit), text(unit, 0.5)) == ("|p<no|>yes|", "noyes", "yes")
    cut = Rollout("p", 0, "p", (answer("no", False, finish="cut", end=()), answer("yes", True)), 1)
    (other,) = method("chain_of_hindsight", settings=settings).learning(made([cut]), 1).groups["self"]
    ends = [e.weights[e.tokens == END[0]].tolist() for e in (unit, other)]
    assert ends == [[0.5, 1.0], [0.0, 1.0]]  # an end that the model did not say is not taught
    settings = {"pairs": "refinement", "feedback": True, "worse_weight": 0}
    (unit,) = method("chain_of_hindsight", settings=settings).learning(made([refined]), 1).groups["self"]
    assert (shown(unit), text(unit)) == ("|pno|Jwhy|Ryes|", "yes")


def test_the_samples_of_a_prompt_are_one_list_the_best_first() -> None:
    rows = [*scored("p", 0.2, 0.9, 0.9, None), *scored("q", 0.5, 0.5), *scored("r", 0.1)]
    found = method("list_preferences")
    lesson = found.learning(made(rows), 1)
    (group,) = lesson.groups["self"]
    assert [e.id for e in group.members] == ["p/1/0", "p/2/0", "p/0/0"]
    assert [e.extras for e in group.members] == [{"place": n + 1.0, "value": v} for n, v in enumerate((0.9, 0.9, 0.2))]
    assert lesson.notices == ("1 lists are learnt from; of 2 prompts all answers are equally good",)
    assert [(r.prompt, r.sample) for r in found.select(rows, 1).kept] == [("p", 1), ("p", 2), ("p", 0)]
    bad_ones = method("list_preferences", learn={"objective": {"name": "d2o"}})
    (group,) = bad_ones.learning(made(rows), 1).groups["self"]
    assert [e.extras["side"] for e in group.members] == [1.0, 1.0, -1.0]


def test_of_a_pair_the_plain_draw_counts_as_that_of_the_start() -> None:
    refined = Rollout("p", 0, "p", (answer("no", False), answer("yes", True)), 1)
    first, second = samples("q", answer("a", False), answer("b", True))
    pairs = [Pair(Answer(refined, 1), Answer(refined, 0)), Pair(Answer(second, 0), Answer(first, 0))]
    groups = pair_groups(pairs, Layout(), ("side", "of_reference", "reference"))
    assert [[e.extras["of_reference"] for e in g.members] for g in groups] == [[0, 1], [1, 0]]


def test_superhf_is_raft_that_stays_near_its_start() -> None:
    found = method("superhf")
    assert (found.config.learn.objective.name, found.config.rounds.select) == ("sft_kl", "best_of_n")
    rows = scored("p", 0.2, 0.9)
    assert [e.id for e in found.learning(made(rows), 1).groups["self"]] == ["p/1"]


IN_OTHER_WORDS = {"kind": "ensemble", "ensemble": {"instructions": ["Is it true?", "Is it whole?"]}}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "grpo",
            {"sampling": {"respond": {"temperature": 0.8}}},
            r"sampling.respond.temperature: found 0.8, but learn.objective grpo",
        ),
        ("grpo", {"rounds": {"variant": "restart"}}, r"rounds.variant: found restart, but learn.objective grpo"),
        ("grpo", {"rounds": {"select": "none"}}, r"rounds.select: found none, but grpo learns groups"),
        ("grpo", {"learn": {"objective": {"name": "sft"}}}, r"learn.objective.name: found sft, but grpo takes grpo"),
        ("grpo", {"data": {}}, r"data.samples_per_prompt: found 1"),
        ("sdpo", {"rounds": {"select": "none"}}, r"rounds.select: found none, but sdpo does not read it"),
        ("sdpo", {"rounds": {"pool": "all"}}, r"rounds.pool: found all, but sdpo takes last"),
        ("list_preferences", {"learn": {"objective": {"name": "dpo"}}}, r"found dpo, but lists are compared"),
        ("list_preferences", {"data": {}}, r"data.samples_per_prompt: found 1"),
        ("superhf", {"learn": {"objective": {"name": "sft"}}}, r"found sft, but superhf takes sft_kl"),
        ("chain_of_hindsight", {"settings": {"markers": ["a"]}}, r"method.settings.markers: found"),
        ("chain_of_hindsight", {"settings": {"feedback": True}}, r"method.settings.pairs: feedback stands before"),
        ("chain_of_hindsight", {"settings": {"worse_weight": 2}}, r"method.settings.worse_weight: found 2"),
        (
            "chain_of_hindsight",
            {"settings": {"pairs": "refinement", "feedback": True}, "judge": IN_OTHER_WORDS},
            r"judge.ensemble.instructions: chain_of_hindsight shows one text of feedback behind format.judge",
        ),
        ("sdpo", {"judge": IN_OTHER_WORDS}, r"judge.ensemble.instructions: sdpo shows one text of feedback"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name, changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        method(name, **changes)
