"""A config of small files, for the shipped model."""

import json
from pathlib import Path


def good(root: Path) -> dict:
    """A config of files that are there, for the shipped model."""
    rows = [{"prompt": f"Mia has {n} shells. Then Mia finds 5. How many now?", "answer": n + 5} for n in range(1, 41)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:30]))
    (root / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[30:]))
    meta = [
        {
            "prompt": f"Ben has {n} cups. Then Ben buys 1. How many now?",
            "response": str(n),
            "feedback": f"{n} + 1 = {n + 1}. Verdict: incorrect",
            "refinement": str(n + 1),
            "good": False,
        }
        for n in range(1, 21)
    ]
    (root / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in meta))
    return {
        "run_dir": str(root / "run"),
        "model": {"source": "builtin:stories"},
        "mesh": {"data": 1},
        "data": {
            "prompts": str(root / "prompts.jsonl"),
            "meta_skill": str(root / "meta.jsonl"),
            "evaluation": {"test": str(root / "test.jsonl")},
            "prompts_per_round": 10,
        },
        "sampling": {
            "slots": 4,
            "cache_length": 128,
            **{stage: {"max_new_tokens": 12} for stage in ("respond", "feedback", "refine")},
        },
        "meta": {"epochs": 2, "length": 128, "batch_rows": 2},
        "learn": {"epochs": 1, "length": 128, "batch_rows": 2},
        "rounds": {"number": 1, "minimum_kept": 1},
    }
