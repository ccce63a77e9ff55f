"""The task's scorer, which reads gold answers: a baseline that says so, to compare the model's own judgement with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfevo_jax.judges.base import Assessment, Case, Reply


@dataclass(frozen=True)
class ScorerJudge:
    """Good is what the scorer calls right."""

    name: str = "scorer"
    reads_labels: bool = True
    compares: bool = False
    brief: bool = False
    server: None = None
    prompt: None = None

    def shown(self, case: Case) -> dict[str, str]:
        return {}

    def assessed(self, case: Case, replies: Mapping[str, Reply]) -> list[Assessment]:
        return [
            Assessment(None) if text is None else _of(grade)
            for text, grade in zip(case.texts, case.grades, strict=True)
        ]


def _of(grade: float | None) -> Assessment:
    return Assessment(None, unread="not scored") if grade is None else Assessment(grade >= 1.0, grade)
