"""What a run of the engine has cost: tokens, steps, seconds."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class EngineStats:
    """Counts and seconds of a run, up to now."""

    slots: int = 0
    chains: int = 0
    """Chains that have ended."""
    requests: int = 0
    failed: int = 0
    """Requests with a completion of finish "error"."""
    prefilled: int = 0
    """Prompt tokens computed (padding not counted)."""
    padding: int = 0
    """Places of extends that held no token."""
    idle: int = 0
    """Places that shards of a mesh could have computed while others had more to extend."""
    shared: int = 0
    """Prompt tokens copied from another slot's cache (samples of one prompt, a common system prompt)."""
    lower_bound: int = 0
    """Prompt tokens that had to be computed: those in no earlier text of their own chain."""
    decoded: int = 0
    """Tokens drawn, stop ids included."""
    steps: int = 0
    """Decode steps run on the device."""
    busy: int = 0
    """Slots at work in those steps, summed; each draws one token, and one more for each draft accepted."""
    drafted: int = 0
    """Drafts of tokens that steps have checked (see `sampling.speculate`)."""
    accepted: int = 0
    """Those that were what was drawn: so many tokens took no step of their slot."""
    draft_steps: int = 0
    """The part of `steps` that checked drafts, and below of `busy` and `decode_seconds`."""
    draft_busy: int = 0
    draft_seconds: float = 0.0
    late: int = 0
    """Slots at rest in `steps` since their text had ended in what the host had not read yet, summed."""
    launches: int = 0
    """Times the host launched extends and decode steps."""
    waits: int = 0
    """Those of `launches` before which the device had nothing to do: it waited for the host."""
    drain_steps: int = 0
    """The part of `steps` after the last chain was given a slot."""
    drain_busy: int = 0
    context: int = 0
    """Cached positions that steps without drafts had to read for the slots at work, summed."""
    compiles: int = 0
    """Programs compiled during this run."""
    compile_seconds: float = 0.0
    seconds: float = 0.0
    """All of the run."""
    extend_seconds: float = 0.0
    """From the first launch of a step until its extends were done, as the host saw it."""
    decode_seconds: float = 0.0
    """From there until its decode steps were done."""
    overlapped_seconds: float = 0.0
    """Host work within those two: records, progress, the next chains."""

    def add_steps(self, steps: int, busy: int, seconds: float, *, draining: bool) -> None:
        """A dispatch of decode steps; `draining`: no chain waits for a slot."""
        self.steps, self.busy, self.decode_seconds = self.steps + steps, self.busy + busy, self.decode_seconds + seconds
        if draining:
            self.drain_steps, self.drain_busy = self.drain_steps + steps, self.drain_busy + busy

    def add_drafts(self, steps: int, busy: int, seconds: float, drafted: int, accepted: int) -> None:
        """Of a dispatch that has been added: its steps have checked drafts."""
        self.draft_steps, self.draft_busy = self.draft_steps + steps, self.draft_busy + busy
        self.draft_seconds += seconds
        self.drafted, self.accepted = self.drafted + drafted, self.accepted + accepted

    @property
    def occupancy(self) -> float:
        """The share of slots at work in a step."""
        return self.busy / max(1, self.slots * self.steps)

    @property
    def full_occupancy(self) -> float:
        """The same while chains still waited for a slot, so without the final drain."""
        return (self.busy - self.drain_busy) / max(1, self.slots * (self.steps - self.drain_steps))

    @property
    def computed_over_least(self) -> float:
        """Tokens computed over the least that these chains need: each token of each chain once."""
        return (self.prefilled + self.decoded) / max(1, self.lower_bound + self.decoded)

    @property
    def steps_saved(self) -> float:
        """Decode steps that the accepted drafts stand for, with as many slots at work as there were."""
        return self.accepted / max(1.0, self.busy / max(1, self.steps))

    @property
    def host_seconds(self) -> float:
        """While the device had nothing to do: the host read results and chose what comes next."""
        return self.seconds - self.compile_seconds - self.extend_seconds - self.decode_seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens drawn per second of the whole run, prefilling and compiling included."""
        return self.decoded / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, derived ones included."""
        derived = [
            *("occupancy", "full_occupancy", "computed_over_least", "steps_saved"),
            *("host_seconds", "tokens_per_second"),
        ]
        return asdict(self) | {name: getattr(self, name) for name in derived}
