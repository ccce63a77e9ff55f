"""Makes selfevo_jax/assets/self_instruct/rated.jsonl: D_meta with ratings, from the seed tasks of Self-Instruct.

Each task gives three rows: its own output, which is good; that of another task, which is about something else; and the
beginning of its own one, which breaks off. The words are templates: enough to teach a small model the form of feedback
that ends in a rating, and no more.

    python scripts/make_rated_meta.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "selfevo_jax" / "assets" / "self_instruct"
SHORTEST, LONGEST, TASKS = 60, 280, 20


def main() -> None:
    tasks = []
    for line in (FOLDER / "seed_tasks.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        given, output = (row["instances"][0][key].strip() for key in ("input", "output"))
        if not given and SHORTEST < len(output) < LONGEST and not row["is_classification"]:
            tasks.append((row["id"], row["instruction"].strip(), output))
    tasks = tasks[:TASKS]
    rows = []
    for number, (id, prompt, output) in enumerate(tasks):
        other = tasks[(number + 7) % len(tasks)][2]
        words = output.split()
        part = " ".join(words[: len(words) // 3])
        end = " ".join(re.findall(r"[^\W\d_]+", part)[-3:])
        beginning = " ".join(other.split()[:4])
        for kind, response, feedback in (
            ("good", output, "The answer does what is asked, and it is whole. Rating: 9"),
            ("other", other, f"The answer ('{beginning} ...') is about something else. Rating: 1"),
            ("cut", part, f"The answer breaks off after '{end}'. Rating: 4"),
        ):
            row = {"id": f"{id}-{kind}", "prompt": prompt, "response": response, "feedback": feedback}
            rows.append({**row, "refinement": output, "good": kind == "good"})
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (FOLDER / "rated.jsonl").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
