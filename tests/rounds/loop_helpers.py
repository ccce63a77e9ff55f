"""A small run of the whole loop, and what the tests look at in it."""

import contextlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np

from selfevo_jax.checkpoint import open_model
from selfevo_jax.config import Config, parse_config
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds import Controller
from selfevo_jax.run.journal import encoded

TRAIN = {"steps": 4, "warmup_steps": 1, "batch_rows": 8, "length": 128}


def config(root: Path, **changes: object) -> Config:
    tree = {
        "run_dir": str(root),
        "model": {"source": "builtin:stories"},
        "mesh": {"data": 1},
        "data": {
            "stories": {"meta_questions": 8, "responses_per_question": 2, "right_copies": 2, "evaluation_rows": 16},
            "prompts_per_round": 16,
        },
        "sampling": {
            "slots": 16,
            "cache_length": 128,
            "respond": {"temperature": 0.8, "max_new_tokens": 8},
            "feedback": {"temperature": 0.7, "max_new_tokens": 40},
            "refine": {"temperature": 0.0, "max_new_tokens": 8},
        },
        "meta": TRAIN,
        "learn": TRAIN,
        # an untrained critic lets nothing through, so the filter is off where the machinery is tested
        "rounds": {"number": 2, "variant": "continual_mixed", "select": "none", "controls": 4, "minimum_kept": 1},
    }
    if isinstance(rounds := changes.get("rounds"), dict):
        changes["rounds"] = {"minimum_kept": 1, **rounds}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tree[section] = {**tree[section], name: value} if name else value  # type: ignore[dict-item]
    return parse_config(tree)


class Heard(Reporter):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(f"warning: {text}")


def run(c: Config) -> Heard:
    heard = Heard()
    with contextlib.closing(Controller(c, heard)) as controller:
        controller.run()
    return heard


def texts(root: Path) -> dict[str, bytes]:
    """The text artefacts, without times and log-probabilities."""
    others = ("costs.jsonl", "checksums.jsonl", "logprobs.jsonl")
    files = (file for file in sorted(root.rglob("*.jsonl")) if file.name not in others)
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def weights(path: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(open_model(str(path)).load(None, np.float32))]


def plain(journal: bytes) -> set[bytes]:
    """The lines of an unfinished file of rows, in the form of a finished one."""
    return {line.rpartition(b', "check": "')[0] + b"}" for line in journal.splitlines()}


def unfinished(root: Path, round: int, count: int) -> None:
    """Makes of a finished round what a kill leaves: `count` rows of rollouts, the next one torn, nothing after it."""
    identity = json.loads((root / "fingerprints.json").read_text())["config"]
    folder = root / "rounds" / f"{round:04d}"
    rows = {name: (folder / "rollouts" / name).read_bytes() for name in ("part-00000.jsonl", "logprobs.jsonl")}
    for name in (f"rounds/{round:04d}", f"checkpoints/{round:04d}", f"evaluations/{round:04d}"):
        shutil.rmtree(root / name)
    (root / "evaluations" / f"{round:04d}.json").unlink()
    (folder / "rollouts").mkdir(parents=True)
    for name, content in rows.items():
        belongs = f"{identity} rounds/{round:04d}/rollouts/{name}"
        lines = [encoded(json.loads(line), belongs) for line in content.splitlines()[: count + 1]]
        lines[-1] = lines[-1][: len(lines[-1]) // 2]
        (folder / "rollouts" / name).write_bytes(b"".join(lines))
