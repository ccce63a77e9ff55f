"""What the chains of a round come to, counted from the chains themselves: one thing has one number in a page, and a
number leads to the chains that it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from selfevo_jax.report.entries import UNJUDGED, UNREAD, Entry


@dataclass
class Tally:
    """Of the chosen answers of chains that could be run."""

    verdicts: Counter[str] = field(default_factory=Counter)
    """Each verdict beside gold (see `entries.VERDICTS`)."""
    judged_good: int = 0
    """Also those that were cut or are empty, and those without a grade."""

    def of(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries as they come, each counted."""
        for entry in entries:
            if entry.rollout.error is None:
                self.verdicts[entry.verdict] += 1
                self.judged_good += entry.judged is not None and entry.judged.good is True
            yield entry

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `read`: how many have a verdict that can be read."""
        read = self.verdicts.total() - self.verdicts[UNREAD] - self.verdicts[UNJUDGED]
        return {"read": read, "judged_good": self.judged_good, "verdicts": dict(self.verdicts)}
