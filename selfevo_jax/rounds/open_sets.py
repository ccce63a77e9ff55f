"""The sets of open-ended prompts of a run: their rows, what they rest on, and what of them the sampler is to hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from selfevo_jax.checkpoint import model_checksum
from selfevo_jax.config import Config
from selfevo_jax.data import PromptRow, source_checksum
from selfevo_jax.data.given import read_answers
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import OpenSection
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.winrate import judged_lengths
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.tasks import open_rows


@dataclass(frozen=True)
class OpenSet:
    """Prompts without gold answers."""

    rows: Sequence[PromptRow]
    section: OpenSection
    given: Mapping[str, str] | None
    """Prompt id -> the other side's answer, where it is a file."""


def open_sets(config: Config) -> dict[str, OpenSet]:
    """Raises DataError for rows that cannot be used, and prompts without an answer of the other side."""
    found = {}
    for name, rows in open_rows(config.data).items():
        section = config.data.open_ended[name]
        of = section.against
        answers = read_answers(of.source, rows, of.columns) if section.has_answers else None
        found[name] = OpenSet(rows, section, answers)
    return found


def open_prints(config: Config, reporter: Reporter) -> Iterator[tuple[str, str]]:
    """What the figures of open-ended prompts rest on beside the config: key -> checksum."""
    for name, section in config.data.open_ended.items():
        key = f"data.open_ended.{name}"
        yield key, source_checksum(section.source)
        if section.has_answers:
            yield f"{key}.against", source_checksum(section.against.source)
        if section.judging_model is not None:
            yield f"{key}.judge", model_checksum(section.judging_model, reporter)


def open_notices(bench: Workbench, sets: Mapping[str, OpenSet]) -> Iterator[str]:
    """A line for each set of which a judge may not be shown all, and for each whose judge does not stay the same.
    Raises ConfigError where a slot holds nothing that a judge would be shown."""
    room, said = bench.config.sampling.cache_length, bench.config.sampling.feedback.max_new_tokens
    for name, of in sets.items():
        if not of.section.stays:
            yield (
                f"open-ended set '{name}': judge: self, so each checkpoint judges itself; a change of the figures may "
                "be one of the judge alone. judge: base is one judge for all"
            )
        if of.section.endpoint is not None or of.section.judging_model is not None:
            continue
        shown = list(judged_lengths(bench, of.rows, of.section.ratings))
        if (least := min(j.least for j in shown)) >= room:
            raise ConfigError(
                f"data.open_ended.{name}: what its judge is shown has {least} tokens at least, without any answer, but "
                f"sampling.cache_length is {room}; raise it, or let another model or a server judge"
            )
        needed = [j.least + j.answers + said for j in shown]
        if long := [n for n in needed if n > room]:
            yield (
                f"open-ended set '{name}': {len(long)} of the {len(needed)} texts that its judge is shown may not fit "
                f"into sampling.cache_length {room} with answers and judgements as long as they may be; what does not "
                f"fit is not judged, and counted. {max(needed)} would hold all of them"
            )
