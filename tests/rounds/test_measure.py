"""Which modes of a set are measured."""

from types import SimpleNamespace
from typing import Any

from selfevo_jax.chains import Candidate, Rollout
from selfevo_jax.data import EvaluationRow
from selfevo_jax.evaluate import EvaluateSection, EvaluationSet
from selfevo_jax.judges import Leaks
from selfevo_jax.rounds.measure import measure
from selfevo_jax.rounds.survey import evaluation_phases
from selfevo_jax.sample import SamplingSection
from selfevo_jax.scorers.constraints import Constraints
from selfevo_jax.scorers.exact import Exact
from selfevo_jax.scorers.number import Number
from selfevo_jax.scorers.regex import Regex

ROW = EvaluationRow("a", "Say 5.", {"answer": "5", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})


def bench() -> Any:
    """One whose model says 5 to everything."""

    def chain(row: EvaluationRow, stages: Any, sample: int = 0, **how: Any) -> Rollout:
        return Rollout(row.id, sample, row.prompt, (Candidate("5", "stop", (1,)),), 0)

    return SimpleNamespace(
        config=SimpleNamespace(
            evaluate=EvaluateSection(modes=("direct", "consistency"), k=3),
            rounds=SimpleNamespace(turns=0),
            sampling=SamplingSection(),
        ),
        stages=lambda **how: None,
        chain=chain,
        roll_out=lambda params, chains, reporter, title: chains,
        leaks=Leaks(frozenset(), (), ()),
    )


def test_where_no_answer_votes_there_is_no_majority_and_no_share_of_0() -> None:
    heard: list[str] = []
    reporter: Any = SimpleNamespace(warn=heard.append)
    of = EvaluationSet([ROW], [Constraints(), Number()])
    found, _ = measure(bench(), None, of, "base on ifeval", reporter)
    assert (found["direct"]["share"], found["consistency"]) == (1.0, None)
    assert set(found["right"]) == {"direct"}
    assert len(heard) == 1
    assert heard[0].startswith("base on ifeval: not measured: consistency, the majority of several answers; answers")
    assert len(evaluation_phases(bench(), of.rows, 1, votes=of.votes)) == 1
    found, _ = measure(bench(), None, EvaluationSet([ROW], [Number(), Constraints()]), "base on both", reporter)
    assert (found["consistency"]["share"], len(heard)) == (1.0, 1)


def test_scorers_with_keys_have_votes_and_those_from_outside_are_taken_to_have() -> None:
    scorers = [Number(), Exact(), Regex(pattern="(5)"), Constraints(), Constraints(loose=True)]
    assert [EvaluationSet([], [one]).votes for one in scorers] == [True, True, True, False, False]
    other: Any = SimpleNamespace(name="other")
    assert EvaluationSet([], [other]).votes
