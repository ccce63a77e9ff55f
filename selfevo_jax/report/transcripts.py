"""Three transcripts a person can read: put right by feedback, left alone, and spoilt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import indent

from selfevo_jax.chains import Rollout
from selfevo_jax.progress import hanging
from selfevo_jax.report.entries import LEFT_RIGHT, PUT_RIGHT, SPOILT, UNJUDGED, Entry, answers_of
from selfevo_jax.run.names import name_of
from selfevo_jax.run.run_dir import RunDir


@dataclass(frozen=True)
class Transcript:
    kind: str
    rollout: Rollout
    gold: str | None
    """See `gold_of`."""
    checkpoint: str = ""

    def text(self) -> str:
        who = f"{self.checkpoint}: " if self.checkpoint else ""
        gold = f"  (gold: {self.gold})" if self.gold else ""
        lines = [f"[{who}{self.kind}] {hanging(self.rollout.prompt)}{gold}"]
        for index, candidate in enumerate(self.rollout.candidates):
            name = "response" if index == 0 else "refinement"
            lines.append(indent(f"{name}: {hanging(candidate.text)}", "  "))
            if candidate.feedback is not None:
                lines += [indent(line, "  ") for line in candidate.feedback.lines()]
            if (said := candidate.assessment) is not None and (said.good is not None or said.unread is not None):
                lines.append(f"  judge: {said.in_words()}")
        return "\n".join(lines)


KINDS = ("put right by feedback", "left alone", "spoilt by feedback")


_TOLD = dict(zip((PUT_RIGHT, LEFT_RIGHT, SPOILT), KINDS, strict=True))


def pick(entries: Iterable[Entry]) -> list[Transcript]:
    """The first of each kind among the answers of checkpoints; a kind without a case is left out."""
    found: dict[str, Transcript] = {}
    for entry in entries:
        if (kind := _TOLD.get(entry.kind)) is not None:
            found.setdefault(kind, Transcript(kind, entry.rollout, entry.gold, entry.at))
    return [found[kind] for kind in KINDS if kind in found]


def transcript(entry: Entry) -> Transcript:
    """With what became of it, what its verdict is beside gold, and its name."""
    r = entry.rollout
    told = [entry.kind] + ([] if entry.verdict == UNJUDGED else [f"verdict {entry.verdict}"])
    told += ["clipped"] if entry.clipped else []
    told += [] if entry.kept is None else ["kept" if entry.kept else "dropped"]
    at = entry.at if entry.set is None else f"{entry.at}, {entry.set}"
    where = f"{at}, {r.id}" + (f"/{r.sample}" if r.sample else "")
    failed = [] if r.error is None else [f"not run: {r.error}"]
    return Transcript("; ".join([*told, *failed]), r, entry.gold, where)


def transcripts(run: RunDir, set_name: str) -> list[Transcript]:
    """From the evaluation texts of the run's checkpoints, the last first, until each kind is found."""
    names: list[str] = []
    while run.texts(name_of(len(names)), set_name).exists():
        names.append(name_of(len(names)))
    return pick(entry for name in reversed(names) for entry in answers_of(run, name, name, set_name))
