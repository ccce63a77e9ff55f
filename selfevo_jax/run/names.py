"""The names of files and folders of a run directory."""

from __future__ import annotations

CONFIG, PRINTS = "config.yaml", "fingerprints.json"
COSTS, REPORT, PAGE = "costs.jsonl", "report.json", "report.html"
CODE = "code.json"
"""Checksums of the code from outside the package that the run was last made by."""
SHOWN = (REPORT, PAGE)
"""What a run shows of itself: written when it ends, and made of its other records."""
FORKING = ".forking"
"""In a directory that is to become the run of a fork, until all of it is there."""

BASE = "base"
"""The model that a run begins with."""
META, ROUNDS, CHECKPOINTS, TRAINING = "meta", "rounds", "checkpoints", "training"
"""Folders: D_meta (and the name of M_meta), what rounds make, models, states inside a fine-tuning."""
EVALUATIONS, OPEN, ORDINARY = "evaluations", "open_ended", "ordinary"
"""Folders of what is measured."""

COMMITTED, STOPPED, REMOVED = "COMMITTED", "STOPPED", "REMOVED"
"""The last file of a phase; what a run leaves that ended before its last round; what is left of a checkpoint that is
not kept."""
META_COUNTS, OWN_ANSWERS = "counts.json", "own_answers.jsonl"
"""In the folder of D_meta: what became of the answers that it is made of; those that are taught as they are."""
SCORES = "rollouts/logprobs.jsonl"
"""Of a round: the log-probabilities of its rollouts."""
WRITTEN, WRITTEN_TEXTS, WRITTEN_COUNTS = "prompts/written.jsonl", "prompts/texts.jsonl", "prompts/manifest.json"
"""Of a round: prompts that the model wrote for it, the texts in which it did, and how many there are."""
CURATED, GRADES = "self_curated.jsonl", "grades.jsonl"
"""Of a round: the rows that it learns from; and, written when it has learnt, the columns of its prompts with the grades
of their first and their chosen answers."""
REFERENCES = "references.jsonl"
"""Of a fine-tuning whose objective reads them: log-probabilities of its examples under the parameters that it starts
from."""
STUDY = "study.json"
"""Of a study, in the folder of its runs: how each of them ended."""
TRACKING = "tracking"
"""Folder of what trackers keep; nothing of the run is made from it."""
LOSSES = "losses.jsonl"
"""Beside the arrays of a checkpoint: step, loss, learning rate, gradient norm and tokens of every step of its training,
a line each."""


def name_of(round: int) -> str:
    """Checkpoint and evaluation name of M_round; round 0 is M_meta."""
    return META if round == 0 else f"{round:04d}"
