"""Three transcripts a person can read: put right by feedback, left alone, and spoilt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from selfevo_jax.chains import Rollout
from selfevo_jax.evaluate import is_right
from selfevo_jax.run.files import read_rows
from selfevo_jax.run.run_dir import RunDir, name_of


@dataclass(frozen=True)
class Transcript:
    kind: str
    rollout: Rollout
    gold: str
    checkpoint: str = ""

    def text(self) -> str:
        who = f"{self.checkpoint}: " if self.checkpoint else ""
        gold = self.gold.strip().rpartition("\n")[2]  # of a worked solution its last line
        lines = [f"[{who}{self.kind}] {self.rollout.prompt}  (gold: {gold})"]
        for index, candidate in enumerate(self.rollout.candidates):
            lines.append(f"  {'response' if index == 0 else 'refinement'}: {candidate.text.strip()}")
            if candidate.feedback is not None:
                lines.append(f"  feedback: {candidate.feedback.text.strip()}")
        return "\n".join(lines)


KINDS = ("put right by feedback", "left alone", "spoilt by feedback")


def pick(rollouts: Iterable[tuple[str, Rollout]], gold: dict[str, str]) -> list[Transcript]:
    """The first of each kind among (checkpoint, rollout) pairs; a kind without a case is left out."""
    found: dict[str, Transcript] = {}
    for checkpoint, r in rollouts:
        if not r.candidates or r.candidates[0].feedback is None or r.id not in gold:
            continue
        first = is_right(r.candidates[0].text, gold[r.id])
        last = is_right(r.candidates[r.chosen].text, gold[r.id])
        if first and r.chosen == 0:
            kind = KINDS[1]
        elif last and not first:
            kind = KINDS[0]
        elif first and not last:
            kind = KINDS[2]
        else:
            continue
        found.setdefault(kind, Transcript(kind, r, gold[r.id], checkpoint))
    return [found[kind] for kind in KINDS if kind in found]


def transcripts(run: RunDir, set_name: str, gold: dict[str, str]) -> list[Transcript]:
    """From the evaluation texts of the run's checkpoints, the last first, until each kind is found."""
    names: list[str] = []
    while run.texts(name_of(len(names)), set_name).exists():
        names.append(name_of(len(names)))
    rows = ((name, row) for name in reversed(names) for row in read_rows(run.texts(name, set_name)))
    return pick(((name, Rollout.from_dict(row)) for name, row in rows), gold)
