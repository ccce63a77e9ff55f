"""When decode steps check drafts: what `sampling.speculate` asks for, and what a run measures. It changes no text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from selfevo_jax import hosts
from selfevo_jax.sample.shapes import WORTH_TOKENS

Setting = Literal["auto", "off"] | int
_DRAFTS, _DRAFTS_TPU = 4, 7
"""Of a slot in a step, where nobody says how many. A TPU computes 8 tokens of a slot in the time of 5."""
_TRIALS = 3
"""Dispatches of steps with drafts and as many without whose time is taken, for each shape of the program."""
_KNOWN = 64
"""Steps of slots from which on the rate of a stage is known."""
_FULL = 4096
"""Steps of slots at which those of a stage are halved, with what they drew: later rounds write otherwise."""
_TAKEN = 1.4
"""What a step with drafts is taken to last, in steps without, where no clock may decide: by the TPU compiler's program
for Qwen 2.5 0.5B on v5e, 16 slots a chip and 7 drafts (compiled, not run)."""
_AGAIN = 256
"""Dispatches without drafts after which one checks them again."""


@dataclass(frozen=True)
class Speculation:
    """Drafts that a step checks for each slot."""

    drafts: int
    always: bool = True
    """In every step; else where it pays, as the run measures."""
    most_rows: int | None = None
    """Slots that one copy of the parameters decodes at a time, up to which drafts can pay; None: any."""

    @classmethod
    def of(cls, setting: Setting, platform: str) -> Speculation | None:
        """What a setting means on a platform; None: no drafts.

        A step of few slots waits for the parameters, and checks drafts in the same time; one that is bound by its
        arithmetic takes longer with each draft. On a CPU it is so from a few slots on, so that "auto" is "off" there.
        """
        if setting == "off" or (setting == "auto" and platform == "cpu"):
            return None
        if setting == "auto":
            drafts = _DRAFTS_TPU if platform == "tpu" else _DRAFTS
            return cls(drafts, always=False, most_rows=WORTH_TOKENS // (1 + drafts))
        return cls(int(setting))

    def drafts_of(self, rows: int) -> int:
        """Drafts of each slot where one copy of the parameters decodes so many at a time."""
        return 0 if self.most_rows is not None and rows > self.most_rows else self.drafts


class Pace:
    """What an engine has seen of its drafts, and what it decides by that for each dispatch.

    `taken` is how much longer a step with drafts is taken to last than one without; None measures it, dispatch by
    dispatch. `agreed` takes a time measured here, and returns the one that all processes go by; they call it together.
    """

    def __init__(
        self, always: bool, *, taken: float | None = None, agreed: Callable[[float], float] = lambda seconds: seconds
    ) -> None:
        self._always, self._taken, self._agreed = always, taken, agreed
        self._seconds: dict[tuple[Hashable, bool], list[float]] = {}
        self._drawn: dict[str, tuple[float, float]] = {}
        """Stage -> tokens drawn by steps with drafts, and steps of slots that drew them."""
        self._without = 0

    @classmethod
    def of(cls, speculation: Speculation | None, timed: bool, together: bool) -> Pace:
        """`timed`: the clock may decide; `together`: several processes sample together, and go by process 0's."""

        def agreed(seconds: float) -> float:
            return hosts.agree("timing drafts", lambda: seconds) if together else seconds

        always = speculation is None or speculation.always
        return cls(always, taken=None if timed else _TAKEN, agreed=agreed)

    def rate(self, stages: Sequence[str]) -> float | None:
        """Tokens that a step with drafts draws a slot, for slots in these stages; None where it is not known."""
        found = [self._drawn.get(stage, (0.0, 0.0)) for stage in stages]
        if any(steps < _KNOWN for _, steps in found):
            return None
        return statistics.fmean(tokens / steps for tokens, steps in found)

    def pays(self, shape: Hashable, stages: Sequence[str]) -> bool:
        """Whether the next dispatch checks drafts; `shape` is that of its program, `stages` of each slot at work."""
        if self._always:
            return True
        longer = self._taken
        if longer is None:
            for drafting in (False, True):
                if len(self._seconds.get((shape, drafting), ())) < _TRIALS:
                    return drafting
            longer = min(self._seconds[shape, True]) / min(self._seconds[shape, False])
        rate = self.rate(stages)
        return rate is None or self._without >= _AGAIN or rate > longer

    def timed(self, shape: Hashable, drafting: bool, seconds: float) -> None:
        """A dispatch has taken so many seconds a step."""
        self._without = 0 if drafting else self._without + 1
        known = self._seconds.setdefault((shape, drafting), [])
        if not self._always and self._taken is None and len(known) < _TRIALS:
            known.append(self._agreed(seconds))

    def drew(self, stage: str, tokens: int, steps: int) -> None:
        """A slot in this stage has drawn so many tokens in so many steps with drafts."""
        before = self._drawn.get(stage, (0.0, 0.0))
        both = (before[0] + tokens, before[1] + steps)
        self._drawn[stage] = (both[0] / 2, both[1] / 2) if both[1] > _FULL else both
