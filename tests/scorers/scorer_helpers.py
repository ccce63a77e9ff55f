"""Rows and shorter ways to ask one scorer about one text."""

from typing import Any

from selfevo_jax.data import EvaluationRow
from selfevo_jax.scorers import Grade, Scorer


def row(**columns: Any) -> EvaluationRow:
    return EvaluationRow("r1", "a question", columns)


def grade(scorer: Scorer, of: EvaluationRow, text: str) -> Grade:
    return scorer.grades([of], [text])[0]


def key(scorer: Scorer, of: EvaluationRow, text: str) -> Any:
    return scorer.keys([of], [text])[0]


def fault(scorer: Scorer, of: EvaluationRow) -> str | None:
    found = scorer.faults([of])[0]
    return None if found is None else f"{found.column}: {found.problem}"
