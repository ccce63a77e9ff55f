"""What is said and kept of a finished annotation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from selfevo_jax.annotate import aspects
from selfevo_jax.annotate.conduct import Outcome
from selfevo_jax.annotate.cost import Ledger
from selfevo_jax.annotate.files import Files
from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.data import MetaRow, meta_balance
from selfevo_jax.judges import WHERE_AND_HOW


def summarize(section: AnnotateSection, source: str, found: Outcome, ledger: Ledger) -> dict[str, Any]:
    """Settings, counts and cost, as plain JSON values; without where the server is."""
    told = section.model_dump(mode="json", exclude={"endpoint": set(WHERE_AND_HOW), "responses": {"url"}})
    cost = {key: value for key, value in asdict(ledger).items() if key not in ("max_cost", "set_aside")}
    return {"prompts": source, "settings": told, "counts": found.counts(), "cost": cost}


def usage_lines(section: AnnotateSection, found: Outcome, files: Files) -> Iterator[str]:
    """How D_meta divides, and the keys of a config that uses the rows."""
    if section.kind == "qa":
        yield f"to use them: data.qa: {files.out}"
        return
    balance = meta_balance([row for row in found.rows if isinstance(row, MetaRow)])
    yield f"{balance.right:,} right and {balance.wrong:,} wrong responses; {found.copies:,} copies were left out"
    if balance.warning is not None:
        yield f"warning: {balance.warning}"
    yield f"to use them: data.meta_skill: {files.out}"
    if section.rated:
        keys = {"kind": "rating", "good_rating": f"{section.good_rating or section.scale:g}"}
        if section.aspects:
            keys["scale"] = f"{section.scale:g}"
        yield f"  judge: {{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}"
    if section.aspects:
        yield f"  format.judge: '{aspects.instruction(section.aspects)}'"


def cost_text(ledger: Ledger) -> str:
    """The cost with its tokens, and what it lacks."""
    tokens = f"{ledger.read:,} tokens read, {ledger.written:,} written"
    if ledger.unpriced and ledger.unpriced == ledger.answers:
        return f"not known ({tokens}; give --price-read and --price-written)"
    lacks = ((ledger.unpriced, "have no price"), (ledger.uncounted, "came without the server's count"))
    lacking = "".join(f"; {count:,} answers {why}" for count, why in lacks if count)
    return f"{ledger.cost:.6g} ({tokens}{lacking})"
