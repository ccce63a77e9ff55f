"""Makes selfevo_jax/assets/self_instruct/ordinary.jsonl: held-out prompts with answers that people have written.

Of the seed tasks and the user-oriented instructions of Self-Instruct, with their first instances, those that are no
classification, are short, hold no code, tables or links, and whose source is neither among the base instructions of the
task `instructions` nor among the rows of `rated.jsonl`; without a few that OUT names.

    python scripts/make_ordinary.py USER_ORIENTED_INSTRUCTIONS.jsonl
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parents[1] / "selfevo_jax" / "assets"
FILE = ASSETS / "self_instruct" / "ordinary.jsonl"
LONGEST_PROMPT, LONGEST_ANSWER = 600, 600
"""In characters."""
FEWEST_WORDS, MOST_WORDS = 6, 100
"""Of an answer."""
CODE = re.compile(
    r"```|\\{1,2}[a-z]+\{|def |SELECT|<html|<!DOC|<mask>|import |\|.*\||https?://|[{}∃∀]|;$|=\(|->", re.I | re.M
)
OUT = {
    "lyrics, quotations": ("seed_task_79", *(f"user_oriented_task_{n}" for n in (45, 135, 147))),
    "stereotypes and slurs": tuple(f"seed_task_{n}" for n in (8, 36, 54, 77, 94, 113, 122, 149)),
    "persons' data": ("seed_task_115", "seed_task_120", "user_oriented_task_174"),
    "other languages and notations": ("seed_task_101", *(f"user_oriented_task_{n}" for n in (126, 133, 134, 182, 188))),
    "code in words": tuple(f"user_oriented_task_{n}" for n in (40, 41, 78, 140, 150, 178, 205, 216, 227, 231)),
}


def lines(path: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())


def main(user_oriented: Path) -> None:
    used = {row["id"] for row in lines(ASSETS / "instructions" / "base.jsonl")}
    used |= {row["id"].rpartition("-")[0] for row in lines(ASSETS / "self_instruct" / "rated.jsonl")}
    used |= {id for ids in OUT.values() for id in ids}
    rows = []
    for row in (*lines(ASSETS / "self_instruct" / "seed_tasks.jsonl"), *lines(user_oriented)):
        given, answer = (row["instances"][0][key].strip() for key in ("input", "output"))
        prompt = "\n\n".join(filter(None, (row["instruction"].strip(), given)))
        short = len(prompt) <= LONGEST_PROMPT and len(answer) <= LONGEST_ANSWER
        fits = short and FEWEST_WORDS <= len(answer.split()) <= MOST_WORDS
        if (
            fits
            and row["id"] not in used
            and not row.get("is_classification")
            and not CODE.search(prompt + "\n" + answer)
        ):
            rows.append({"id": row["id"], "prompt": prompt, "answer": answer})
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
