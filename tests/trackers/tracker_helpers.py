"""A few events of a run that is made up."""

from pathlib import Path

from selfevo_jax.config import parse_config
from selfevo_jax.run.following import give
from selfevo_jax.trackers import About, Scalars, Settings, Texts

EVENTS = [
    Settings({"seed": 1, "model.source": "builtin:stories", "mesh.data": None}),
    Scalars("round", -1, {"accuracy/gsm8k test/direct": 0.25, "accuracy/gsm8k test/direct_low": 0.125}),
    *(Scalars("step", step, {"train/loss": 1 / step, "train/learning_rate": 0.5}) for step in range(1, 5)),
    Texts(1, {"chains/1": "prompt: <b>2 + 2</b>\nresponse: **4**", "chains/2": "prompt: x"}),
    Scalars("round", 1, {"accuracy/gsm8k test/direct": 0.5}),
]


def about(dir: Path) -> About:
    return About("mine", "0123456789abcdef", "runs/mine", dir)


def section(tree):
    whole = {"run_dir": "runs/mine", "model": {"source": "x"}, "data": {"stories": {}}, "track": [tree]}
    return parse_config(whole).track[0]


def told(tracker, dir: Path, until: int | None = None) -> int:
    """Gives a new tracker the events that it has not; how many those were before."""
    there = tracker.start(about(dir))
    give(tracker, EVENTS[there:until])
    tracker.finish()
    return there
