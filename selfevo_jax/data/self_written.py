"""Prompts that the model writes itself, in the Self-Instruct way: what it is shown, and what is kept of what it wrote.

Source: Wang et al., "Self-Instruct: Aligning Language Models with Self-Generated Instructions", arXiv 2212.10560.
Pure: who samples, and where the texts are kept, is decided above. The same texts give the same prompts and counts.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from selfevo_jax.data.rouge import RougeIndex, rouge_tokens
from selfevo_jax.data.self_written_section import SelfWrittenSection
from selfevo_jax.data.sources import PromptRow, stable_id
from selfevo_jax.errors import ConfigError

Refusal = Literal["clipped", "short", "long", "characters", "unsuitable", "copy", "similar", "evaluation"]
"""Why a written prompt is not kept: cut off at a limit; too few words; too many words or characters; it begins with
punctuation, or holds a control character or half a letter; words that ask for more than text; the same as another one,
or too much like it; an evaluation row, or a part or an extension of one."""
REFUSALS: tuple[Refusal, ...] = (
    "clipped",
    "short",
    "long",
    "characters",
    "unsuitable",
    "copy",
    "similar",
    "evaluation",
)
_ITEM = re.compile(r"(?:^|\n)[ \t>*#]*(?P<number>\d{1,3})[ \t]?[.)][ \t*]+(?=\S)")
_BLANK = re.compile(r"\n[ \t]*\n")
_BAD = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]|<\\|")
_AS_ONE = 8
"""Tokens of a prompt that lies whole within an evaluation row, or the other way round, from which it counts as it."""


@dataclass(frozen=True)
class WritingAsk:
    """What the model is asked to go on from."""

    id: str
    text: str
    """The user's turn of a chat, or the beginning of a text; it ends in the number of the first prompt to write."""
    first: int
    """That number."""


@dataclass(frozen=True)
class WrittenText:
    """What the model wrote for an ask, in the same order."""

    text: str
    whole: bool
    """Whether it came to its own end, or to a stop string."""
    error: str | None = None
    """Why there is none."""


@dataclass
class Harvest:
    """What became of the texts so far."""

    prompts: list[PromptRow] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Refusal -> prompts."""
    texts: int = 0
    """Texts that were written."""
    empty: int = 0
    """Of which so many hold no prompt that can be read."""
    failed: int = 0
    """Of which so many could not be run."""

    def line(self) -> str:
        """The counts in words."""
        parts = [f"{count} {_WORDS[reason]}" for reason in REFUSALS if (count := self.refused[reason])]
        found = len(self.prompts) + self.refused.total()
        told = f"{self.texts} texts held {found} prompts: {len(self.prompts)} kept"
        empty = f"; {self.empty} texts held none" if self.empty else ""
        failed = f"; {self.failed} texts could not be run" if self.failed else ""
        return ", ".join([told, *parts]) + empty + failed

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain JSON values; `of_dict` is the inverse, but for the prompts themselves."""
        refused = {reason: self.refused[reason] for reason in REFUSALS}
        counts = {"texts": self.texts, "empty": self.empty, "failed": self.failed}
        return {"prompts": len(self.prompts), **counts, "refused": refused}

    @classmethod
    def of_dict(cls, counts: Mapping[str, Any], prompts: Sequence[PromptRow]) -> Harvest:
        refused = Counter[str]({reason: int(counts["refused"][reason]) for reason in REFUSALS})
        return cls(list(prompts), refused, counts["texts"], counts["empty"], counts["failed"])


_WORDS: dict[Refusal, str] = {
    "clipped": "cut off at a limit",
    "short": "too short",
    "long": "too long",
    "characters": "with characters that no prompt has",
    "unsuitable": "that ask for more than text",
    "copy": "copies",
    "similar": "too much like another one",
    "evaluation": "of an evaluation set",
}


def one_line(prompt: str) -> str:
    """A prompt as an item of a list."""
    return " ".join(prompt.split()).rstrip(":")


def writing_text(head: str, examples: Sequence[str]) -> str:
    """A line, numbered examples, and the number of the next one."""
    lines = [f"{number}. {one_line(example)}" for number, example in enumerate(examples, start=1)]
    return "\n".join([head, *lines, f"{len(examples) + 1}."])


def read_written(text: str, first: int, most: int, whole: bool = True) -> tuple[list[str], int]:
    """The prompts of a written text, at most `most`, and how many of them were cut off (0 or 1; those are left out).

    The text goes on behind the number `first`, or begins the list again with it, or with 1. Numbers that do not follow
    each other belong to a prompt; a prompt ends at an empty line.
    """
    found = list(_ITEM.finditer(text))
    numbers = {int(mark["number"]) for mark in found}
    expected = next((number for number in (first, first + 1, 1) if number in numbers), 0)
    marks = list[re.Match[str]]()
    for mark in found:
        if int(mark["number"]) == expected:
            marks.append(mark)
            expected += 1
    begins = [mark.end() for mark in marks]
    ends = [mark.start() for mark in marks]
    if not marks or int(marks[0]["number"]) == first + 1:  # what stands before is the first prompt
        begins.insert(0, 0)
    else:
        ends = ends[1:]
    items = [
        _BLANK.split(text[begin:end].strip("\n"), maxsplit=1) for begin, end in zip(begins, [*ends, None], strict=True)
    ]
    prompts = [" ".join(parts[0].split()).strip("* ") for parts in items]
    cut = not whole and len(items) <= most and len(items[-1]) == 1
    kept = prompts[:-1] if cut else prompts
    return [prompt for prompt in kept[:most] if prompt], int(cut)


class PromptFilter:
    """Whether a written prompt is kept: it must be well formed, new, and no row of an evaluation set."""

    def __init__(self, there: Iterable[str], evaluation: Iterable[str], settings: SelfWrittenSection) -> None:
        """`there`: prompts that a new one must differ from (given ones, seeds, those written before)."""
        self._settings = settings
        self._there, self._evaluation = RougeIndex(), RougeIndex()
        self._known, self._evaluated = set[str](), set[str]()
        for prompt in there:
            self.add(prompt)
        for prompt in evaluation:
            self._evaluation.add(rouge_tokens(prompt))
            self._evaluated.add(one_line(prompt).casefold())
        self._starts = tuple(start.casefold() for start in settings.unsuitable_starts)
        words = "|".join(map(re.escape, settings.unsuitable))
        self._unsuitable = re.compile(rf"\b(?:{words})\b", re.IGNORECASE) if words else None

    def add(self, prompt: str) -> None:
        """One more that new ones must differ from."""
        self._there.add(rouge_tokens(prompt))
        self._known.add(one_line(prompt).casefold())

    def refusal(self, prompt: str) -> Refusal | None:
        """Why a prompt is not kept; None where it is."""
        settings, words = self._settings, len(prompt.split())
        if words < settings.least_words:
            return "short"
        if words > settings.most_words or len(prompt) > settings.most_characters:
            return "long"
        if prompt[0] in string.punctuation or _BAD.search(prompt):
            return "characters"
        if self._unsuitable is not None and self._unsuitable.search(prompt):
            return "unsuitable"
        if prompt.casefold().startswith(self._starts):
            return "unsuitable"
        tokens, plain = rouge_tokens(prompt), one_line(prompt).casefold()
        held = self._evaluation
        if plain in self._evaluated or held.nearest(tokens, settings.similarity) is not None:
            return "evaluation"
        if held.around(tokens, _AS_ONE) is not None:
            return "evaluation"
        if plain in self._known:
            return "copy"
        return None if self._there.nearest(tokens, settings.similarity) is None else "similar"


def write_prompts(
    wanted: int,
    seeds: Sequence[str],
    own: Sequence[str],
    evaluation: Iterable[str],
    settings: SelfWrittenSection,
    *,
    name: str,
    there: Iterable[str] = (),
) -> Generator[list[WritingAsk], Sequence[WrittenText], Harvest]:
    """Yields what to ask and is sent what was written, until there are enough prompts; returns them with the counts.

    Args:
      wanted: prompts to write.
      seeds: given prompts, shown as examples.
      own: prompts that the model wrote in earlier rounds, shown as examples too.
      evaluation: prompts of all evaluation sets.
      settings: see there.
      name: of the run's seed and the round: it chooses the examples, and is part of the ids.
      there: further prompts that a new one must differ from.

    Raises ConfigError where there are too few seeds to show.
    """
    given = [seed for seed in dict.fromkeys(seeds) if len(seed.split()) <= settings.most_words]
    if len(given) < settings.examples:
        raise ConfigError(
            f"data.self_written.seeds: {len(given)} different prompts of at most {settings.most_words} words "
            f"(most_words); at least {settings.examples} (examples) are shown"
        )
    most = settings.patience * -(-wanted // settings.asked)
    sieve = PromptFilter([*seeds, *own, *there], evaluation, settings)
    mine, harvest = list(own), Harvest()
    while len(harvest.prompts) < wanted and harvest.texts < most:
        need = -(-(wanted - len(harvest.prompts)) // settings.asked)
        numbers = range(harvest.texts, min(harvest.texts + min(settings.at_once, need), most))
        asks = [_ask(f"{name}-{number}", given, mine, settings) for number in numbers]
        written = yield asks
        if len(written) != len(asks):
            raise ValueError(f"{len(written)} texts for {len(asks)} asks")
        for ask, text in zip(asks, written, strict=True):
            mine += [row.prompt for row in _sift(ask, text, sieve, settings, harvest, wanted)]
    return harvest


def _ask(id: str, seeds: Sequence[str], own: Sequence[str], settings: SelfWrittenSection) -> WritingAsk:
    rng = random.Random(f"writing {id}")
    shown = rng.sample(own, min(settings.own_examples, len(own)))
    shown += rng.sample(seeds, settings.examples - len(shown))
    rng.shuffle(shown)
    return WritingAsk(id, writing_text(settings.head, shown), settings.examples + 1)


def _sift(
    ask: WritingAsk,
    written: WrittenText,
    sieve: PromptFilter,
    settings: SelfWrittenSection,
    harvest: Harvest,
    wanted: int,
) -> list[PromptRow]:
    """The prompts of one text that are kept."""
    harvest.texts += 1
    if written.error is not None:
        harvest.failed += 1
        return []
    prompts, cut = read_written(written.text, ask.first, settings.asked, written.whole)
    harvest.empty += not prompts and not cut
    harvest.refused["clipped"] += cut
    kept: list[PromptRow] = []
    for prompt in prompts:
        if len(harvest.prompts) == wanted:
            break
        reason = sieve.refusal(prompt)
        if reason is not None:
            harvest.refused[reason] += 1
            continue
        sieve.add(prompt)
        row = PromptRow(f"written-{stable_id(ask.id, prompt)}", prompt)
        harvest.prompts.append(row)
        kept.append(row)
    return kept
