"""Makes selfevo_jax/assets/svamp/{meta,prompts,test}.jsonl of SVAMP.json: small numbers alone, and stories apart.

SVAMP tells most stories several times, with other numbers, another order or another question. Two problems whose bodies
share six of ten words are one story here, and so are all that are linked in this way: the three files share none.

    python scripts/split_svamp.py SVAMP.json
"""

from __future__ import annotations

import json
import random
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from selfevo_jax.tasks.solutions.worked import work_out

FOLDER = Path(__file__).parents[1] / "selfevo_jax" / "assets" / "svamp"
LARGEST, ALIKE = 100, 0.6
PARTS = {"test": 200, "meta": 180}
"""Rows at least; the others are prompts."""


def small(row: dict[str, Any]) -> bool:
    """Whether it has a sum that gives its answer, and all numbers on the way are whole and from 0 to LARGEST."""
    value, sums = work_out(row["Equation"])
    on_the_way = [number for done in sums for number in (done.left, done.right, done.value)]
    whole = all(0 <= number <= LARGEST and number.denominator == 1 for number in on_the_way)
    return bool(sums) and whole and value == Fraction(row["Answer"])


def stories(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    words = [set(re.findall("[a-z]+", row["Body"].lower())) for row in rows]
    story = list(range(len(rows)))
    for one in range(len(rows)):
        for other in range(one):
            both = words[one] | words[other]
            if story[one] != story[other] and len(words[one] & words[other]) >= ALIKE * len(both):
                old, new = story[one], story[other]
                story = [new if number == old else number for number in story]
    return [[row for row, number in zip(rows, story, strict=True) if number == name] for name in sorted(set(story))]


def main() -> None:
    rows = [row for row in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")) if small(row)]
    found = stories(rows)
    random.Random("svamp").shuffle(found)
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in PARTS}
    for name, size in PARTS.items():
        while len(parts[name]) < size:
            parts[name] += found.pop()
    parts["prompts"] = [row for story in found for row in story]
    FOLDER.mkdir(exist_ok=True)
    for name, part in parts.items():
        random.Random(f"svamp {name}").shuffle(part)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (FOLDER / f"{name}.jsonl").write_text(lines, encoding="utf-8")


main()
