"""Where the responses come from that feedback is written about: the rows, a base that is sampled here, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfevo_jax.annotate.asked import Asker
from selfevo_jax.annotate.questions import Questions
from selfevo_jax.annotate.reading import CUT, EMPTY, has_text, read_text
from selfevo_jax.annotate.rows import Prompt, Rejected, Responded
from selfevo_jax.annotate.section import AnnotateSection, ResponsesSection
from selfevo_jax.config import Config
from selfevo_jax.judges import EndpointSection
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.generate import Batch, Length, generate
from selfevo_jax.rounds.limits import CLIPPED_WARN_ABOVE
from selfevo_jax.sample import is_whole

STAGE = "response"
TEMPERATURE, MAX_TOKENS = 0.8, 512
"""Of responses that a server is asked for, where the settings say no other."""


@dataclass(frozen=True)
class Base:
    """A base that is sampled here."""

    config: Config
    length: Length
    """What becomes of `sampling.cache_length`."""
    kept: Path
    """Where its responses are kept as they come (see `rounds.generate`)."""
    reporter: Reporter


def responses(
    section: AnnotateSection, source: str, rows: Sequence[Prompt], asker: Asker, base: Base | None = None
) -> tuple[list[Responded], list[Rejected]]:
    """The responses in the order of the rows, and what is none.

    Args:
      section: who gives the responses.
      source: the file of the rows.
      rows: what was read there.
      asker: asks a model at a server.
      base: where the section names one.
    """
    of = section.responses
    if of.given:
        return [Responded(row.id, row.prompt, row.response, row.reference) for row in rows], []
    drawn = [(row, sample) for row in rows for sample in range(of.number)]
    if base is not None:
        texts = _sampled(of, source, section.columns, section.limit, base)
    else:
        texts = _asked(section, drawn, asker)
    found, rejected = [], []
    for row, sample in drawn:
        id = row.id if of.number == 1 else f"{row.id}-{sample}"
        text, why, said = texts[f"{row.id}/{sample}"]
        if text is None:
            rejected.append(Rejected(id, row.prompt, STAGE, why, said))
        else:
            found.append(Responded(id, row.prompt, text, row.reference))
    return found, rejected


def response_tokens(section: AnnotateSection, base: Config | None) -> int | None:
    """Of a response at most; None where the rows have them. `base`: of one that is sampled here."""
    if base is not None:
        return base.sampling.respond.max_new_tokens
    server = server_of(section)
    return None if server is None else server.max_tokens


def cut_notice(section: AnnotateSection, base: Config | None, rejected: Sequence[Rejected], drawn: int) -> str | None:
    """A line, before feedback is asked for, where so many responses were cut that the short ones are left."""
    cut = sum(one.reason == CUT for one in rejected)
    if cut <= CLIPPED_WARN_ABOVE * drawn:
        return None
    left = drawn - len(rejected)
    goes_on = f"feedback is asked for on the {left:,} others all the same" if left else "nothing is left to ask about"
    return (
        f"{cut:,} of {drawn:,} responses were cut at {response_tokens(section, base)} tokens and give no row: D_meta "
        f"will be of short responses alone. This call goes on: {goes_on}. To have the longer ones first, stop it with "
        "Ctrl-C and run the command again with a higher --response-tokens; what is answered is kept"
    )


def unique(found: Sequence[Responded]) -> tuple[list[Responded], int]:
    """Without responses that a prompt has already, and how many these are."""
    first = {(one.prompt, one.response): one for one in reversed(found)}
    kept = [one for one in found if first[one.prompt, one.response] is one]
    return kept, len(found) - len(kept)


Texts = dict[str, tuple[str | None, str, str]]
"""`ID/SAMPLE` -> the response, or None and why there is none; last what the model said."""


def server_of(section: AnnotateSection) -> EndpointSection | None:
    """The model at a server that gives the responses."""
    of = section.responses
    if of.model is None:
        return None
    changes = {
        "model": of.model,
        "url": of.url or section.endpoint.url,
        "temperature": TEMPERATURE if of.temperature is None else of.temperature,
        "max_tokens": of.max_tokens or MAX_TOKENS,
    }
    return EndpointSection(**{**section.endpoint.model_dump(), **changes})


def _asked(section: AnnotateSection, drawn: Sequence[tuple[Prompt, int]], asker: Asker) -> Texts:
    server, price = server_of(section), section.responses.price
    assert server is not None
    ask = Questions(section).answer
    asks = {f"{row.id}/{sample}": (ask(row.prompt), sample) for row, sample in drawn}
    known = None if price is None else price.price()
    answers = asker.ask(STAGE, server, known, asks, has_text)
    return {key: (*read_text(answer), answer.text) for key, answer in answers.items()}


def _sampled(of: ResponsesSection, source: str, columns: Mapping[str, str], limit: int | None, base: Base) -> Texts:
    """Samples the base with the engine; a response that was kept is not sampled again."""
    temperature = base.config.sampling.respond.temperature if of.temperature is None else of.temperature
    batch = Batch(source, columns, limit, of.number, refined=False, temperature=temperature)
    rows = generate(base.config, batch, base.kept, base.reporter, base.length)
    return {f"{row['id']}/{row['sample']}": _read(row) for row in rows}


def _read(row: Mapping[str, Any]) -> tuple[str | None, str, str]:
    if row.get("error") is not None:
        return None, row["error"], ""
    said = row["response"]
    if not is_whole(row["finish"]):
        return None, CUT, said
    return (said, "", said) if said else (None, EMPTY, said)
