"""Pairs and verdicts out of a round's own chains, and what iterative_dpo learns of them."""

from dataclasses import replace

import pytest
from method_helpers import END, Layout, made

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.config import parse_config
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.judges import Assessment
from selfevo_jax.judges.by_pairs import PairwiseJudge
from selfevo_jax.methods import open_method
from selfevo_jax.methods.preferences import judged_answers, refinement_pairs, sample_pairs, usable_pairs


def answer(text, good, rating=None, finish="stop", end=END):
    feedback = None if good == "unasked" else Feedback("f", "stop", good, rating)
    return Candidate(text, finish, tuple(map(ord, text)), feedback, end)


def chain(prompt, *candidates, chosen=0, sample=0, error=None):
    return Rollout(prompt, sample, prompt, candidates, chosen, error)


def samples(prompt, *firsts):
    return [chain(prompt, first, sample=n) for n, first in enumerate(firsts)]


def shown(pairs):
    return [(pair.better.text, pair.worse.text) for pair in pairs]


def test_a_refinement_called_good_is_better_than_the_response_called_bad_and_nothing_else_is() -> None:
    rows = [
        chain("a", answer("no", False), answer("yes", True), chosen=1),
        chain("b", answer("fine", True)),
        chain("c", answer("no", False), answer("worse", False), chosen=1),
        chain("d", answer("eh", None), answer("yes", True), chosen=1),
        chain("e", answer("no", False), answer("no", True), chosen=1),
        chain("f", answer("no", False), answer("yes, b", True, finish="length"), chosen=1),
        chain("g", answer("no", False), answer("yes", True), chosen=1, error="too long"),
        chain("h", answer("no", False), answer(" ", True), chosen=1),
    ]
    pairs, left = usable_pairs(refinement_pairs(rows), None)
    assert shown(pairs) == [("yes", "no")]
    assert left == {"of equal texts": 1, "with an answer that is cut off or empty": 2}


@pytest.mark.parametrize(
    ("firsts", "pair"),
    [
        ([answer("a", False), answer("b", True), answer("c", True), answer("d", False)], [("b", "a")]),
        ([answer("a", True), answer("b", True)], []),
        ([answer("a", None), answer("b", True)], []),
        ([answer("a", False, finish="length"), answer("b", True)], []),
        # marks of four samples: the second over the third
        ([answer(t, m > 4, m) for t, m in zip("abcd", (3.33, 4.67, 2.0, 4.67), strict=True)], [("b", "c")]),
    ],
)
def test_the_best_sample_of_a_prompt_is_better_than_the_worst_where_they_differ(firsts, pair) -> None:
    others = samples("another prompt", answer("z", True))
    assert shown(sample_pairs([*samples("p", *firsts), *others])) == pair


def test_a_pair_is_taken_once_and_a_prompt_gives_no_more_than_the_cap() -> None:
    rows = [chain("p", answer(w, False), answer("yes", True), chosen=1, sample=n) for n, w in enumerate("aabc")]
    pairs, left = usable_pairs(refinement_pairs(rows), 2)
    assert shown(pairs) == [("yes", "a"), ("yes", "b")]
    assert left == {"that are there already": 1, "over rounds.per_prompt": 1}


def test_every_whole_answer_with_a_verdict_counts_and_one_called_good_and_bad_counts_not() -> None:
    rows = [
        chain("p", answer("no", False), answer("yes", True), chosen=1),
        chain("p", answer("yes", True), sample=1),
        chain("p", answer("maybe", True), answer("maybe", False), sample=2),
        chain("p", answer("unasked", "unasked"), answer("cut", True, finish="length"), sample=3),
    ]
    assert [(a.text, a.good) for a in judged_answers(rows)] == [("no", False), ("yes", True)]


def config(**changes):
    tree = {
        "run_dir": "x",
        "model": {"source": "builtin:stories"},
        "data": {"stories": {}, **changes.pop("data", {})},
        "method": {"name": "iterative_dpo", "settings": changes.pop("settings", {})},
        "rounds": {"variant": "continual_mixed", **changes.pop("rounds", {})},
        "judge": changes.pop("judge", {}),
        "learn": {"objective": {"name": changes.pop("objective", "dpo")}, **changes},
    }
    return parse_config(tree)


PAIRWISE = {"batch": {"kind": "pairwise"}}


def method(**changes):
    return open_method(config(**changes))


ROUND = [
    chain("a", answer("no", False), answer("yes", True), chosen=1),
    chain("b", answer("ill", False, end=(3,)), answer("well", True), chosen=1),
    *samples("c", answer("bad", False), answer("good", True)),
    chain("d", answer("same", False), answer("same", True), chosen=1),
]


def test_a_round_learns_its_pairs_from_the_checkpoint_before_with_d_meta_beside_them() -> None:
    lesson = method(data={"samples_per_prompt": 2}).learning(made([], ROUND), 2)
    assert lesson.start == 1
    assert lesson.notices == ("3 pairs are learnt from; left out: 1 of equal texts",)
    groups = lesson.groups["self"]
    assert [[e.id for e in g.members] for g in groups] == [
        ["a/0/1", "a/0/0"],
        ["b/0/1", "b/0/0"],
        ["c/1/0", "c/0/0"],
    ]
    assert all([e.extras for e in g.members] == [{"side": 1.0}, {"side": -1.0}] for g in groups)
    texts = ["".join(map(chr, e.tokens[e.weights > 0])) for g in groups for e in g.members]
    # an end is taught on both sides, or on neither
    assert texts == ["yes\2", "no\2", "well", "ill", "good\2", "bad\2"]
    assert set(lesson.groups) == {"self", "meta", "direct"}
    assert all(e.extras == {"side": 0.0, "reference": 0.0} for e in [*lesson.groups["meta"], *lesson.groups["direct"]])


def test_pairs_are_of_the_kind_that_is_asked_for_and_of_the_rounds_in_the_pool() -> None:
    first = [chain("z", answer("no", False), answer("yes", True), chosen=1)]

    def ids(**changes):
        return [
            g.id
            for g in method(data={"samples_per_prompt": 2}, **changes).learning(made(first, ROUND), 2).groups["self"]
        ]

    assert ids(settings={"pairs": "samples"}) == ["c/1/0"]
    assert ids(settings={"pairs": "refinement"}) == ["a/0/1", "b/0/1"]
    assert ids(rounds={"pool": "all"}) == ["a/0/1", "b/0/1", "c/1/0", "z/0/1"]
    assert set(method(rounds={"variant": "continual_self_only"}).learning(made(ROUND), 1).groups) == {"self"}
    # what compares a response with its refinement does not compare it with the other samples
    assert ids(judge=PAIRWISE) == ["a/0/1", "b/0/1"]


def test_what_a_round_keeps_are_its_better_answers() -> None:
    found = method(data={"samples_per_prompt": 2}).select(ROUND[::-1], 1)
    assert [(r.id, r.sample, r.chosen) for r in found.kept] == [("a", 0, 1), ("b", 0, 1), ("c", 1, 0)]
    assert (found.counts.kept, found.counts.sampled, found.counts.judged_good) == (3, 5, 4)
    assert found.counts.mean_tokens == pytest.approx((3 + 4 + 4) / 3)


def test_kto_learns_every_verdict_beside_the_answer_to_another_prompt() -> None:
    kto = method(objective="kto")
    lesson = kto.learning(made(ROUND), 1)
    groups = lesson.groups["self"]
    assert lesson.notices == ("6 answers are learnt from: 3 good, 3 bad",)
    assert [g.members[0].extras["verdict"] for g in groups] == [-1, 1, -1, 1, -1, 1]
    first = Layout().respond("b")
    assert [e.tokens.tolist() for e in groups[3].members] == [
        [*first, *map(ord, "well"), 2],
        [*first, *map(ord, "bad"), 2],
    ]
    assert all(g.members[1].extras == {"verdict": 0.0, "mismatched": 1.0} for g in groups)
    assert lesson.groups["meta"][0].extras == {"verdict": 0.0, "mismatched": 0.0, "reference": 0.0}
    good_alone = [chain("a", answer("yes", True)), chain("b", answer("well", True))]
    with pytest.raises(EmptySelectionError, match=r"round 1: 2 answers are learnt from: 2 good, 0 bad; kto needs both"):
        kto.learning(made(good_alone), 1)


def test_kto_takes_what_won_for_good_and_what_lost_for_bad_where_a_judge_compares() -> None:
    def compared(prompt, outcome, keep_ties=False):
        judge = PairwiseJudge(keep_ties=keep_ties)
        said = judge._of(outcome, "", [Assessment(None)] * 2)
        return chain(prompt, answer(f"{prompt}0", None), answer(f"{prompt}1", None)).assessed(said)

    rows = [compared("a", "loss"), compared("b", "win"), compared("c", "tie"), compared("d", "tie", keep_ties=True)]
    groups = method(objective="kto", judge=PAIRWISE).learning(made(rows), 1).groups["self"]
    said = {g.members[0].id: g.members[0].extras["verdict"] for g in groups}
    assert said == {"a/0/0": 1, "a/0/1": -1, "b/0/0": -1, "b/0/1": 1, "d/0/1": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"pairs": "gold"}}, r"method.settings.pairs: found 'gold', expected refinement, samples, both"),
        ({"settings": {"beta": 1}}, r"method.settings: iterative_dpo has pairs; found beta"),
        ({"rounds": {"variant": "restart"}}, r"rounds.variant: found restart, .*set it to continual_mixed"),
        ({"rounds": {"select": "none"}}, r"rounds.select: found none, but verdicts make pairs"),
        ({"objective": "sft"}, r"learn.objective.name: found sft, but iterative_dpo learns pairs; set it to dpo"),
        ({"settings": {"pairs": "samples"}}, r"data.samples_per_prompt: found 1, but pairs of samples need 2"),
        ({"rounds": {"turns": 0}}, r"rounds.turns: found 0, but pairs with a refinement need 1"),
        (
            {"settings": {"pairs": "samples"}, "data": {"samples_per_prompt": 2}, "judge": PAIRWISE},
            r"method.settings.pairs: found samples, but judge.batch.kind pairwise compares a response with its",
        ),
        (
            {"rounds": {"select": "extremes"}, "data": {"samples_per_prompt": 2}, "judge": PAIRWISE},
            r"rounds.select: found extremes, but iterative_dpo with judge.batch.kind pairwise does not read it",
        ),
    ],
)
def test_settings_with_which_nothing_can_be_compared_are_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        method(**changes)


def test_a_round_without_a_pair_keeps_nothing() -> None:
    good = [replace(r, chosen=0) for r in samples("c", answer("one", True), answer("two", True))]
    assert method(data={"samples_per_prompt": 2}).select(good, 1).kept == []
