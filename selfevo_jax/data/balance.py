"""How D_meta divides into right and wrong responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from selfevo_jax.data.sources import MetaRow

LEAST_ROWS = 60
"""Of D_meta: no shipped config has fewer."""
LOWEST_RIGHT_SHARE, HIGHEST_RIGHT_SHARE = 0.25, 0.75


@dataclass(frozen=True)
class MetaBalance:
    """How D_meta divides; `warning` is None when the critic can learn both verdicts from it."""

    rows: int
    right: int
    wrong: int
    kinds: dict[str, int]
    """Wrong rows by kind of mistake; rows that do not say theirs count as `unknown`."""
    warning: str | None

    @property
    def warnings(self) -> list[str]:
        """Of how it divides, and of too few rows."""
        few = (
            f"D_meta has {self.rows} rows; of fewer than {LEAST_ROWS} the model learns the form of feedback at best, "
            "and not to judge. Make more, of more prompts or with several responses to each (selfevo annotate "
            "--responses 4)"
        )
        found = [] if self.warning is None else [self.warning]
        return [*found, few] if 0 < self.rows < LEAST_ROWS else found

    @property
    def right_share(self) -> float:
        return self.right / self.rows if self.rows else 0.0


def meta_balance(rows: Sequence[MetaRow]) -> MetaBalance:
    """Counts right and wrong responses in D_meta, and warns when either is below a quarter."""
    right = sum(row.good for row in rows)
    kinds = Counter(row.error or "unknown" for row in rows if not row.good)
    warning = None
    if not rows:
        warning = "D_meta has no rows: the critic learns nothing"
    elif right < LOWEST_RIGHT_SHARE * len(rows):
        warning = _warning("right", right, len(rows), "incorrect")
    elif right > HIGHEST_RIGHT_SHARE * len(rows):
        warning = _warning("wrong", len(rows) - right, len(rows), "correct")
    return MetaBalance(len(rows), right, len(rows) - right, dict(sorted(kinds.items())), warning)


def _warning(rare: str, count: int, rows: int, verdict: str) -> str:
    return (
        f"D_meta is unbalanced: {count} of {rows} responses are {rare} ({count / rows:.0%}, expected 25% to 75%); the "
        f"critic may learn to say '{verdict}' to everything. Add rows with {rare} responses"
    )
