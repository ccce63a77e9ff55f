"""Three transcripts a person can read: put right by feedback, left alone, and spoilt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from selfevo_jax.chains import Rollout
from selfevo_jax.evaluate import rollout_of
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.names import name_of
from selfevo_jax.run.run_dir import RunDir


@dataclass(frozen=True)
class Transcript:
    kind: str
    rollout: Rollout
    gold: str | None
    """The column `answer` of its row, where there is one."""
    checkpoint: str = ""

    def text(self) -> str:
        who = f"{self.checkpoint}: " if self.checkpoint else ""
        # of a worked solution its last line
        gold = f"  (gold: {self.gold.strip().splitlines()[-1]})" if self.gold and self.gold.strip() else ""
        lines = [f"[{who}{self.kind}] {self.rollout.prompt}{gold}"]
        for index, candidate in enumerate(self.rollout.candidates):
            lines.append(f"  {'response' if index == 0 else 'refinement'}: {candidate.text.strip()}")
            if candidate.feedback is not None:
                lines += [f"  {line}" for line in candidate.feedback.lines()]
        return "\n".join(lines)


KINDS = ("put right by feedback", "left alone", "spoilt by feedback")


def pick(rows: Iterable[tuple[str, dict[str, Any]]]) -> list[Transcript]:
    """The first of each kind among (checkpoint, row of an evaluation's texts); a kind without a case is left out."""
    found: dict[str, Transcript] = {}
    for checkpoint, row in rows:
        first, last = (_right(row, mode) for mode in ("direct", "refined"))
        r = rollout_of(row)
        if first and last and r.chosen == 0:
            kind = KINDS[1]
        elif last and first is False:
            kind = KINDS[0]
        elif first and last is False:
            kind = KINDS[2]
        else:
            continue
        answer = row["columns"].get("answer")
        found.setdefault(kind, Transcript(kind, r, None if answer is None else str(answer), checkpoint))
    return [found[kind] for kind in KINDS if kind in found]


def _right(row: dict[str, Any], mode: str) -> bool | None:
    """By the primary scorer; None where that is not known."""
    grades = row.get("grades", {}).get(mode)
    value = None if not grades else next(iter(grades.values()))["value"]
    return None if value is None else value >= 1.0


def transcripts(run: RunDir, set_name: str) -> list[Transcript]:
    """From the evaluation texts of the run's checkpoints, the last first, until each kind is found."""
    names: list[str] = []
    while run.texts(name_of(len(names)), set_name).exists():
        names.append(name_of(len(names)))
    return pick((name, row) for name in reversed(names) for row in read_rows(run.texts(name, set_name)))
