"""What is said and kept of a finished annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from selfevo_jax.annotate import aspects
from selfevo_jax.annotate.conduct import Outcome
from selfevo_jax.annotate.cost import Ledger
from selfevo_jax.annotate.files import Files
from selfevo_jax.annotate.reading import CUT
from selfevo_jax.annotate.responses import STAGE, response_tokens
from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.config import Config
from selfevo_jax.data import MetaRow, meta_balance
from selfevo_jax.data.annotated import asked_by
from selfevo_jax.judges import WHERE_AND_HOW
from selfevo_jax.progress import in_words


def described(section: AnnotateSection, source: str, base: Config | None) -> dict[str, Any]:
    """What an annotation is made by, as plain JSON values; without where the server is. `base`: of one that is sampled
    here."""
    told = section.model_dump(mode="json", exclude={"endpoint": set(WHERE_AND_HOW), "responses": {"url"}})
    under = None
    if base is not None:
        under = {"format": asked_by(base.format), "respond": base.sampling.respond.model_dump(mode="json")}
    return {"prompts": source, "settings": told, "base": under, "response_tokens": response_tokens(section, base)}


def summarize(made_by: Mapping[str, Any], found: Outcome, ledger: Ledger) -> dict[str, Any]:
    """What it was made by (see `described`), counts and cost, as plain JSON values."""
    cost = {key: value for key, value in asdict(ledger).items() if key not in ("max_cost", "set_aside")}
    return {**made_by, "counts": found.counts(), "cost": cost}


def lost_line(section: AnnotateSection, base: Config | None, found: Outcome, files: Files, unusable: int) -> str | None:
    """How many gave no row, why, and what would mend most of it. `unusable`: answers that cannot be read."""
    if not found.rejected:
        return None
    what, of = "responses", found.drawn
    if section.kind == "qa":
        what, of = "prompts", len(found.rows) + len(found.rejected)
    told = in_words(found.reasons())
    remedies = _remedies(section, base, found, unusable)
    return f"{len(found.rejected):,} of {of:,} {what} gave no row ({told}){remedies}; see {files.rejected}"


def no_rows(section: AnnotateSection, base: Config | None, found: Outcome, files: Files, unusable: int) -> str:
    """The same where nothing gave a row."""
    told, remedies = in_words(found.reasons()), _remedies(section, base, found, unusable)
    return f"{files.out}: not written, since nothing gave a row ({told}); the texts are in {files.rejected}{remedies}"


def _remedies(section: AnnotateSection, base: Config | None, found: Outcome, unusable: int) -> str:
    cut = Counter(one.stage == STAGE for one in found.rejected if one.reason == CUT)
    limits = (
        (cut[True], f"--response-tokens (now {response_tokens(section, base)}), so that not only short responses stay"),
        (cut[False], f"--max-tokens (now {section.endpoint.max_tokens})"),
    )
    raised = "".join(f"; raise {limit}" for count, limit in limits if count)
    again = f"; --again asks once more for the {unusable:,} answers that cannot be used" if unusable else ""
    return raised + again


def usage_lines(section: AnnotateSection, found: Outcome, files: Files) -> Iterator[str]:
    """How D_meta divides, and the keys of a config that uses the rows."""
    if section.kind == "qa":
        if found.copies:
            yield f"prompts that came before, and were left out: {found.copies:,}"
        yield f"to use them: data.qa: {files.out}"
        return
    balance = meta_balance([row for row in found.rows if isinstance(row, MetaRow)])
    yield f"{balance.right:,} right and {balance.wrong:,} wrong responses; {found.copies:,} copies were left out"
    yield from (f"warning: {line}" for line in balance.warnings)
    yield f"to use them: data.meta_skill: {files.out}; the prompts of the rounds (data.prompts) should be others"
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
