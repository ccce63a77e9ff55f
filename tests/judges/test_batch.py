"""Judges of finished chains: what they ask, and what they make of what is said. Pure."""

from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from selfevo_jax.chains import Candidate, Feedback, Rollout
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import Assessment, Case, JudgeSection, open_batch, open_judge
from selfevo_jax.methods.selection import select
from selfevo_jax.rounds.judging import assess

SERVER = {"url": "http://127.0.0.1:1/v1", "model": "big"}


@dataclass(frozen=True)
class Said:
    text: str
    whole: bool = True
    error: str | None = None


def judge(**batch):
    return open_batch(JudgeSection(batch=batch))


def test_without_a_batch_judge_there_is_none():
    assert open_batch(JudgeSection()) is None


def test_a_server_is_shown_each_candidate_once_and_what_is_not_understood_is_no_no():
    critic = judge(kind="endpoint", endpoint=SERVER)
    case = Case("a/0", "How many?", ("5", "6", "5", None, "7", "8"))
    assert critic.shown(case).keys() == {"0", "1", "4", "5"}
    text = critic.prompt.text(question="How many?", answer="6")
    assert critic.shown(case)["1"] == text
    assert "How many?" in text
    assert "Verdict: incorrect" in text
    replies = {
        "0": Said("Fine. Verdict: correct."),
        "1": Said("No. Verdict: incorrect."),
        "4": Said("Who knows?"),
        "5": Said("", error="HTTP 400"),
    }
    found = critic.assessed(case, replies)
    assert [a.good for a in found] == [True, False, True, None, None, None]
    assert [a.unread for a in found] == [None, None, None, None, "no verdict", "not asked"]
    clipped = critic.assessed(Case("a/0", "p", ("5",)), {"0": Said("Verdict: correct", whole=False)})
    assert (clipped[0].good, clipped[0].unread) == (None, "clipped")


def test_a_server_s_ratings_are_good_from_the_set_one_on():
    section = JudgeSection(good_rating=8, batch={"kind": "endpoint", "endpoint": SERVER, "form": "rating"})
    critic = open_batch(section)
    found = critic.assessed(Case("a/0", "p", ("5", "6")), {"0": Said("So so. Rating: [[7]]"), "1": Said("[[9]]")})
    assert [(a.good, a.rating) for a in found] == [(False, 7.0), (True, 9.0)]


def test_a_question_of_one_s_own_stands_around_prompt_and_answer():
    critic = judge(kind="endpoint", endpoint=SERVER, instruction="Q {prompt} A {answer} ok?")
    assert critic.shown(Case("a/0", "{answer}", ("5 {prompt}",))) == {"0": "Q {answer} A 5 {prompt} ok?"}


@pytest.mark.parametrize(
    ("said", "good", "ratings", "kept"),
    [
        (("[[A]]", "[[B]]"), True, (0.0, 1.0), 1),
        (("[[B]]", "[[A]]"), False, (1.0, 0.0), 0),
        (("[[A]]", "[[A]]"), False, (0.5, 0.5), 0),
        (("[[C]]", "[[C]]"), False, (0.5, 0.5), 0),
        (("[[A]]", "hm"), None, (None, None), 0),
    ],
)
def test_a_refinement_passes_where_both_orders_prefer_it(said, good, ratings, kept):
    pairs, case = judge(kind="pairwise"), Case("a/0", "p", ("first", "second"))
    shown = pairs.shown(case)
    assert shown["refinement first"].index("second") < shown["refinement first"].index("first\n")
    found = pairs.assessed(case, dict(zip(shown, map(Said, said), strict=True)))
    assert found[1].good is good
    assert tuple(a.rating for a in found) == ratings
    candidates = tuple(Candidate(text, "stop", (1,), Feedback("f", "stop", True, None)) for text in case.texts)
    row = Rollout("a", 0, "p", candidates, 0).assessed(found)
    assert row.chosen == kept
    assert select([row], "feedback", 0).counts.kept == kept
    assert select([row], "feedback", 0).counts.unparseable == (good is None)
    ties = judge(kind="pairwise", ties="keep").assessed(case, dict(zip(shown, map(Said, said), strict=True)))
    assert ties[1].good is (True if ratings == (0.5, 0.5) else good)


def test_a_chain_without_a_refinement_is_asked_about_nothing_and_is_not_unreadable():
    pairs = judge(kind="pairwise")
    for texts in (("first",), ("first", None), (None, "second")):
        case = Case("a/0", "p", texts)
        assert pairs.shown(case) == {}
        assert pairs.assessed(case, {}) == [Assessment(None)] * len(texts)
    same = Case("a/0", "p", ("same", "same "))
    assert pairs.shown(same) == {}
    assert [a.good for a in pairs.assessed(same, {})] == [False, False]
    row = Rollout("a", 0, "p", (Candidate("first", "stop", (1,), Feedback("f", "stop", True, None)),), 0)
    counts = select([row.assessed([Assessment(None)])], "feedback", 0).counts
    assert (counts.kept, counts.unparseable, counts.judged_good_first) == (0, 0, 0)


def test_a_judge_that_reads_labels_says_so_and_what_is_not_scored_is_no_no():
    labels = judge(kind="scorer")
    assert labels.reads_labels
    found = labels.assessed(Case("a/0", "p", ("5", "6", "7", None), (1.0, 0.5, None, None)), {})
    assert [(a.good, a.unread) for a in found] == [(True, None), (False, None), (None, "not scored"), (None, None)]
    assert JudgeSection(batch={"kind": "scorer"}).batch.by == "scorer, which reads labels"


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"kind": "endpoint"}, "name it in judge.batch.kind"),
        ({"batch": {"kind": "endpoint"}}, r"batch.endpoint: missing; name the server"),
        ({"batch": {"kind": "scorer", "endpoint": SERVER}}, r"batch.endpoint: scorer reads no such setting"),
        ({"batch": {"kind": "endpoint", "endpoint": SERVER, "ties": "keep"}}, r"batch.ties: endpoint reads no"),
        ({"batch": {"kind": "pairwise", "endpoint": SERVER, "brief": True}}, r"batch.brief: only for a model"),
        ({"batch": {"kind": "pairwise", "settings": {"a": 1}}}, r"batch.settings: pairwise reads no such"),
        ({"batch": {"kind": "nope"}}, r"no 'nope'\. Known are"),
        ({"batch": {"kind": "pairwis"}}, r"no 'pairwis'; did you mean 'pairwise'"),
        ({"good_rating": 8}, r"judge.good_rating: found 8, but verdict gives no marks"),
        ({"scale": 5, "batch": {"kind": "pairwise"}}, r"judge.scale: found 5, but verdict gives no marks"),
    ],
)
def test_settings_that_a_judge_does_not_read_are_refused_by_their_key(judge, message):
    with pytest.raises(ValidationError, match=message):
        JudgeSection(**judge)


def test_a_question_that_cannot_be_asked_is_refused_by_its_key():
    with pytest.raises(ConfigError, match=r"judge.batch.instruction: expected \{answer\} once"):
        judge(kind="endpoint", endpoint=SERVER, instruction="{prompt}?")
    with pytest.raises(ConfigError, match=r"judge.batch.instruction: found \{question\} in it; the prompt is"):
        judge(kind="endpoint", endpoint=SERVER, instruction="{prompt} {question} {answer}")
    with pytest.raises(ConfigError, match=r"judge.scale: found 5, but the default question asks for marks up to 10"):
        open_batch(
            JudgeSection(scale=5, good_rating=5, batch={"kind": "endpoint", "endpoint": SERVER, "form": "rating"})
        )


class Odd:
    """A judge from outside, with one thing that it does wrong."""

    name, reads_labels, compares, brief, server, prompt = "odd", False, False, False, None, None

    def __init__(self, **wrong):
        vars(self).update(wrong)

    def shown(self, case):
        return {}

    def assessed(self, case, replies):
        return [Assessment(None)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"shown": lambda case: 1 / 0}, "odd fails on 'a/0': ZeroDivisionError"),
        ({"shown": lambda case: {"x": "?"}}, "odd shows questions, but has no prompt that asks them"),
        ({"assessed": lambda case, replies: replies["x"]}, "odd fails on 'a/0': KeyError"),
        ({"assessed": lambda case, replies: []}, "odd says 0 things of the 1 texts of 'a/0', expected one of each"),
    ],
)
def test_whatever_a_judge_from_outside_does_wrong_is_one_line(wrong, said):
    with pytest.raises(ConfigError, match=f"judge.batch.kind: {said}"):
        assess(Odd(**wrong), [Case("a/0", "p", ("5",))], lambda prompt, asked: {})


def test_what_is_no_judge_is_refused_with_what_it_lacks():
    with pytest.raises(ConfigError, match=r"judge.batch.kind: builtins:dict gives a dict without .*, expected a Batch"):
        judge(kind="builtins:dict")
    with pytest.raises(ConfigError, match=r"judge.kind: builtins:dict gives a dict without .*, expected a ChainJudge"):
        open_judge(JudgeSection(kind="builtins:dict"))
