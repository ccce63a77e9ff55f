"""D_meta of the base model's own responses: feedback that quotes, refinements by repair, near misses, a balance."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from selfevo_jax.data import MetaRow, PromptRow, QARow
from selfevo_jax.data.instructions_section import InstructionsSection, MetaPart
from selfevo_jax.tasks.balanced import balanced
from selfevo_jax.tasks.base import Answer, BuiltMeta
from selfevo_jax.tasks.instructions.crafts import Demand, feedback, near_miss, repaired, unmet
from selfevo_jax.tasks.instructions.generate import InstructionRow, draw_demands, prompt_text
from selfevo_jax.tasks.instructions.splits import Part
from selfevo_jax.text import VerdictRule, parse_verdict


def build_meta(
    rows: Sequence[InstructionRow],
    responses: Mapping[str, Sequence[Answer]],
    part: Part,
    section: InstructionsSection,
    seed: int,
) -> BuiltMeta:
    """D_meta rows from responses; the same arguments give the same result.

    Since feedback and repair are a program's, one response serves several rows: it is held against the demands of its
    own prompt, and against others drawn for the same base instruction. Right responses are the rare ones that were
    right as they came, and repaired ones. A row with a right response refines it to itself. Counted are
    responses, those that were shortened or are left out, and why; texts that no program could repair; rows whose
    verdict could not be read back.

    Args:
      rows: prompts that the base model answered.
      responses: prompt -> its responses.
      part: what further demands are drawn from.
      seed: of demands, repairs, near misses and the choice of rows.
    """
    settings = section.meta
    counts: Counter[str] = Counter()
    sorts: dict[str, list[MetaRow]] = {"wrong": [], "right": [], "near": []}
    rng = random.Random(f"instructions/meta/{seed}")
    for row, text in _usable(rows, responses, settings, counts):
        others = [draw_demands(part, section, rng) for _ in range(settings.demands_per_response - 1)]
        prompts = [row.prompt, *(prompt_text(row.base, demands, part, rng) for demands in others)]
        for place, (prompt, demands) in enumerate(zip(prompts, [row.demands, *others], strict=True)):
            named = f"{row.id}-{place}-{counts['responses']}"
            for sort, built in _rows(named, prompt, demands, text, rng, counts, settings.quote_demands):
                sorts[sort].append(built)
    return BuiltMeta(balanced(sorts, settings.right_share, settings.near_share, settings.rows, rng), dict(counts))


def own_answers(
    rows: Sequence[PromptRow], responses: Mapping[str, Sequence[Answer]], settings: MetaPart
) -> list[QARow]:
    """What the base answers where nothing is demanded, by the same bounds as responses in D_meta."""
    found = list(_usable(rows, responses, settings, Counter()))
    return [QARow(f"{row.id}-{place}", row.prompt, text) for place, (row, text) in enumerate(found)]


class _Asked(Protocol):
    @property
    def prompt(self) -> str: ...


_Row = TypeVar("_Row", bound=_Asked)


def _usable(
    rows: Sequence[_Row], responses: Mapping[str, Sequence[Answer]], settings: MetaPart, counts: Counter[str]
) -> Iterator[tuple[_Row, str]]:
    """Each response that is neither too short nor too long nor a copy, with its row."""
    seen: set[str] = set()
    for row in rows:
        for response in responses.get(row.prompt, ()):
            text = response.text.strip()
            if not response.finished or len(text) > settings.most_characters:
                text = first_sentences(text, settings.most_characters)
                counts["shortened" if text else "too long"] += 1
                if not text:
                    continue
            if len(text.split()) < settings.fewest_words:
                counts["too short"] += 1
            elif text in seen:
                counts["copies"] += 1
            else:
                counts["responses"] += 1
                seen.add(text)
                yield row, text


_CLOSING = r"[\"'”’)\]*_`]*"
_SENTENCE_END = re.compile(rf"(?<=\w\w){_CLOSING}(\.|[!?]+){_CLOSING}(?=\s*$|\s+[^\sa-z])")
_ABBREVIATIONS = re.compile("approx|capt|cf|dept|dr|etc|gov|inc|jr|ltd|mr|mrs|ms|mt|prof|sgt|sr|st|vs", re.IGNORECASE)


def first_sentences(text: str, most: int) -> str:
    """The first whole sentences of a text within so many characters; "" where the first alone is longer.

    No end is where a small letter follows, an ellipsis, the number of an entry of a list (`10.`), and a point behind an
    abbreviation or a single letter or digit: `1.` and `U.S.` do not end a sentence."""
    ends = [m.end() for m in _SENTENCE_END.finditer(text) if m.end() <= most and not _is_short_for_more(text, m)]
    return text[: ends[-1]] if ends else ""


def _is_short_for_more(text: str, end: re.Match[str]) -> bool:
    """Whether the point stands behind an abbreviation, or the number of an entry of a list."""
    line = text[: end.start()].rpartition("\n")[2]
    word = re.split(r"[^\w.]", line)[-1]
    number = word.isdecimal() and word == line.strip()
    return end[1] == "." and (number or _ABBREVIATIONS.fullmatch(word) is not None)


def _rows(
    name: str,
    prompt: str,
    demands: Sequence[Demand],
    text: str,
    rng: random.Random,
    counts: Counter[str],
    quote: bool,
) -> Iterator[tuple[str, MetaRow]]:
    """The rows that a response to a prompt gives, each with its sort."""
    fixed = repaired(demands, text, rng)
    if fixed is None:
        counts["not repaired"] += 1
        return
    candidates = [("right", text, text)]
    if unmet(demands, text):
        candidates = [("wrong", text, fixed), ("right", fixed, fixed)]
        half = repaired([rng.choice(list(demands))], text, rng) if len(demands) > 1 else None
        if half is not None and half != text and unmet(demands, half):
            candidates.append(("near", half, repaired(demands, half, rng) or fixed))
    spoilt = near_miss(demands, fixed, rng)
    if spoilt is not None:
        candidates.append(("near", spoilt, fixed))
    for place, (sort, response, refinement) in enumerate(candidates):
        words, good = feedback(demands, response, quote)
        if parse_verdict(words, VerdictRule()).good is not good:
            counts["verdict not read"] += 1
            continue
        error = None if good else unmet(demands, response)[0].kind
        yield sort, MetaRow(f"{name}-{place}", prompt, response, words, refinement, good, error)
