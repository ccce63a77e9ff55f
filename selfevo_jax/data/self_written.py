"""Prompts that the model writes itself, in the Self-Instruct way: what it is shown, and what is kept of what it wrote.

Source: Wang et al., "Self-Instruct: Aligning Language Models with Self-Generated Instructions", arXiv 2212.10560.
Pure: who samples, and where the texts are kept, is decided above. The same texts give the same prompts and counts.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from selfevo_jax.data.rouge import RougeIndex, rouge_tokens
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
HEAD = "Come up with a series of tasks:"
_ITEM = re.compile(r"(?:^|\n)[ \t>*#]*(?P<number>\d{1,3})[ \t]?[.)][ \t*]+(?=\S)")
_BLANK = re.compile(r"\n[ \t]*\n")
_BAD = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]|<\\|")
_AS_ONE = 8
"""Tokens of a prompt that lies whole within an evaluation row, or the other way round, from which it counts as it."""


@dataclass(frozen=True)
class WritingSettings:
    """How prompts are written and sifted; the defaults are Self-Instruct's."""

    examples: int = 8
    """Prompts that the model is shown."""
    own_examples: int = 2
    """Of which so many it wrote itself, where there are enough."""
    asked: int = 8
    """Prompts asked for in one text."""
    similarity: float = 0.7
    """A prompt whose ROUGE-L with another is above is not kept."""
    least_words: int = 4
    most_words: int = 150
    most_characters: int = 2000
    unsuitable: tuple[str, ...] = (
        "image",
        "images",
        "graph",
        "graphs",
        "picture",
        "pictures",
        "file",
        "files",
        "map",
        "maps",
        "draw",
        "plot",
        "go to",
    )
    """Words that ask for more than text; whole words, in any case."""
    unsuitable_starts: tuple[str, ...] = ("write a program",)

    def __post_init__(self) -> None:
        for name, least in (("examples", 1), ("own_examples", 0), ("asked", 1), ("least_words", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected {least} or more")
        if self.own_examples >= self.examples:
            raise ConfigError(
                f"own_examples: found {self.own_examples}, expected less than examples ({self.examples}): what the "
                "model wrote is shown beside given prompts"
            )
        if not 0 < self.similarity <= 1:
            raise ConfigError(f"similarity: found {self.similarity}, expected above 0 up to 1")
        if self.most_words < self.least_words:
            raise ConfigError(f"most_words: found {self.most_words}, expected {self.least_words} (least_words) or more")


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

    def line(self) -> str:
        """The counts in words."""
        parts = [f"{count} {_WORDS[reason]}" for reason in REFUSALS if (count := self.refused[reason])]
        found = len(self.prompts) + self.refused.total()
        told = f"{self.texts} texts held {found} prompts: {len(self.prompts)} kept"
        empty = f"; {self.empty} texts held none" if self.empty else ""
        return ", ".join([told, *parts]) + empty


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


def writing_text(examples: Sequence[str]) -> str:
    """Numbered examples, and the number of the next one."""
    lines = [f"{number}. {one_line(example)}" for number, example in enumerate(examples, start=1)]
    return "\n".join([HEAD, *lines, f"{len(examples) + 1}."])


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

    def __init__(self, there: Iterable[str], evaluation: Iterable[str], settings: WritingSettings) -> None:
        """`there`: prompts that a new one must differ from (given ones, seeds, those written before)."""
        self._settings = settings
        self._there, self._evaluation = RougeIndex(), RougeIndex()
        self._known = set[str]()
        for prompt in there:
            self.add(prompt)
        for prompt in evaluation:
            self._evaluation.add(rouge_tokens(prompt))
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
        if prompt.casefold().startswith(settings.unsuitable_starts):
            return "unsuitable"
        tokens = rouge_tokens(prompt)
        if self._evaluation.around(tokens, _AS_ONE) is not None or self._evaluation.nearest(
            tokens, settings.similarity
        ):
            return "evaluation"
        if one_line(prompt).casefold() in self._known:
            return "copy"
        return None if self._there.nearest(tokens, settings.similarity) is None else "similar"


def write_prompts(
    wanted: int,
    seeds: Sequence[str],
    own: Sequence[str],
    evaluation: Iterable[str],
    settings: WritingSettings,
    *,
    name: str,
    there: Iterable[str] = (),
    at_once: int = 32,
    most_texts: int | None = None,
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
      at_once: asks of a batch at most. Examples of a batch are drawn from what was there before it.
      most_texts: end after so many texts, with fewer prompts; None: ten times as many as `wanted` would need.

    Raises ConfigError where there are too few seeds to show.
    """
    given = list(dict.fromkeys(seeds))
    if len(given) < settings.examples:
        raise ConfigError(
            f"self-written prompts: {len(given)} seeds; at least {settings.examples} (examples) are shown"
        )
    most = most_texts if most_texts is not None else 10 * -(-wanted // settings.asked)
    sieve = PromptFilter([*seeds, *own, *there], evaluation, settings)
    mine, harvest = list(own), Harvest()
    while len(harvest.prompts) < wanted and harvest.texts < most:
        need = -(-(wanted - len(harvest.prompts)) // settings.asked)
        numbers = range(harvest.texts, min(harvest.texts + min(at_once, need), most))
        asks = [_ask(f"{name}-{number}", given, mine, settings) for number in numbers]
        written = yield asks
        if len(written) != len(asks):
            raise ValueError(f"{len(written)} texts for {len(asks)} asks")
        for ask, text in zip(asks, written, strict=True):
            mine += [row.prompt for row in _sift(ask, text, sieve, settings, harvest, wanted)]
    return harvest


def _ask(id: str, seeds: Sequence[str], own: Sequence[str], settings: WritingSettings) -> WritingAsk:
    rng = random.Random(f"writing {id}")
    shown = rng.sample(own, min(settings.own_examples, len(own)))
    shown += rng.sample(seeds, settings.examples - len(shown))
    rng.shuffle(shown)
    return WritingAsk(id, writing_text(shown), settings.examples + 1)


def _sift(
    ask: WritingAsk, written: WrittenText, sieve: PromptFilter, settings: WritingSettings, harvest: Harvest, wanted: int
) -> list[PromptRow]:
    """The prompts of one text that are kept."""
    prompts, cut = read_written(written.text, ask.first, settings.asked, written.whole)
    harvest.texts += 1
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
        row = PromptRow(stable_id(ask.id, prompt), prompt)
        harvest.prompts.append(row)
        kept.append(row)
    return kept
