"""Words that must or must not come, and how many words there are."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from selfevo_jax.scorers.checks.keywords import existence
from selfevo_jax.scorers.checks.lengths import words
from selfevo_jax.tasks.instructions.arguments import COMMON, FEW, LENGTHS, WORDS
from selfevo_jax.tasks.instructions.craft import LONGEST_QUOTE, Arguments, Craft, quoted, said, sentence_added

TAILS = (
    "It also has to do with {}.",
    "Think of {} too.",
    "It is about {} as well.",
    "This also brings {}.",
    "You will find {} in it.",
)
FILLERS = (
    "There is more to say about this.",
    "It is worth a thought.",
    "Much depends on what you need.",
    "Take your time with it.",
    "Others may see it in another way.",
    "A little care goes a long way.",
)
DECOYS = (
    *("water", "pillow", "animal", "kitchen", "battery", "chapter", "cousin", "dinner", "finger", "glass", "hammer"),
    *("insect", "jacket", "kettle", "leaf", "machine", "needle", "office", "palace", "question", "rabbit", "sailor"),
    *("theater", "uncle", "violin", "wagon", "yellow", "zebra", "answer", "bottle", "cotton", "dragon", "evening"),
    *("feather", "ground", "hotel", "iron", "jungle", "king", "lesson", "medal", "number", "oven", "pocket", "road"),
)
"""Other words than `WORDS` and `COMMON`: what stands in place of a word that is to be missed. They are many, so that a
critic must look for the word itself and cannot learn what stands where it lacks."""


def _found(text: str, word: str) -> str | None:
    """The whole word where it first comes, with what stands around it and the word before."""
    match = re.search(rf"(?:\S+\s+)?\S*\b{word}\b\S*", text, re.IGNORECASE)
    return None if match is None else match[0]


def _two_words(atoms: Sequence[Any], rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    taken = rng.sample(list(atoms), 2)
    return {"keywords": taken}, tuple(taken)


def _sentence(text: str, word: str) -> str:
    """The last sentence with the word, or the last of all; of a long one what leads to the word, or to its end."""
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()] or [""]
    holding = next((part for part in reversed(sentences) if existence(part, [word])), sentences[-1])
    match = re.search(word, holding, re.IGNORECASE)
    end = len(holding) if match is None else match.end()
    led_up = "" if end <= LONGEST_QUOTE else holding[:end][-LONGEST_QUOTE:].partition(" ")[2]
    return led_up or holding


def _existence_note(text: str, arguments: Arguments, met: bool) -> str:
    """A sentence is quoted whether it holds the word or not: who had to say first that there is one would guess."""
    notes = []
    for word in arguments["keywords"]:
        sentence = _sentence(text, word)
        notes.append(f'Need "{word}": sentence {quoted(sentence)}, {said(existence(text, [word]))}.')
    return " ".join(notes)


def _existence_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    lacking = [word for word in arguments["keywords"] if not existence(text, [word])]
    return sentence_added(text, rng.choice(TAILS).format(" and ".join(lacking)))


def _existence_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    lost = arguments["keywords"] if rng.random() < 0.4 else [rng.choice(arguments["keywords"])]
    for word, other in zip(lost, rng.choices(DECOYS, k=len(lost)), strict=True):
        text = re.sub(rf"\w*{word}\w*", other.upper() if text.isupper() else other, text, flags=re.IGNORECASE)
    return text


def _one_word(atoms: Sequence[Any], rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    word = rng.choice(atoms)
    return {"forbidden_words": [word]}, (word,)


def _forbidden_note(text: str, arguments: Arguments, met: bool) -> str:
    (word,) = arguments["forbidden_words"]
    found = _found(text, word)
    return f'Need no "{word}": ' + (f"found {quoted(found)}, wrong." if found else "not found, ok.")


def _forbidden_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    (word,) = arguments["forbidden_words"]
    return re.sub(rf"[^\S\n]*\b{word}\b", "", text, flags=re.IGNORECASE).strip()


def _forbidden_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    (word,) = arguments["forbidden_words"]
    places = [m.start() for m in re.finditer(r"(?<=\w) (?=\w)", text)]
    if not places:
        return text
    at = rng.choice(places)
    return f"{text[:at]} {word.upper() if text.isupper() else word}{text[at:]}"


def _often(atoms: Sequence[Any], rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    word = rng.choice(atoms)
    return {"keyword": word, "frequency": rng.choice(FEW[1:4]), "relation": "at least"}, (word,)


def _occurrences(text: str, word: str) -> list[re.Match[str]]:
    return list(re.finditer(word, text, re.IGNORECASE))


def _frequency_note(text: str, arguments: Arguments, met: bool) -> str:
    word, count = arguments["keyword"], len(_occurrences(text, arguments["keyword"]))
    return f'Need "{word}" {arguments["frequency"]} times or more: counted {count}, {said(met)}.'


def _frequency_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    word = arguments["keyword"]
    lacking = arguments["frequency"] - len(_occurrences(text, word))
    return sentence_added(text, f"Once more: {' '.join([word] * lacking)}.")


def _frequency_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    other = rng.choice(DECOYS)
    for match in reversed(_occurrences(text, arguments["keyword"])[arguments["frequency"] - 1 :]):
        text = text[: match.start()] + (other.upper() if text.isupper() else other) + text[match.end() :]
    return text


def _length(atoms: Sequence[Any], rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    number = rng.choice(atoms)
    return {"num_words": number, "relation": rng.choice(("less than", "at least"))}, (number,)


def _length_note(text: str, arguments: Arguments, met: bool) -> str:
    return f"Need {arguments['relation']} {arguments['num_words']} words: counted {len(words(text))}, {said(met)}."


def _to_length(text: str, number: int, rng: random.Random) -> str:
    """The text cut after so many words, or filled with sentences until it has as many."""
    found = list(re.finditer(r"\w+", text))
    if len(found) > number:
        return text[: found[number - 1].end()] + "."
    while len(words(text)) < number:
        text = sentence_added(text, rng.choice(FILLERS))
    return text


def _length_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    return _to_length(text, arguments["num_words"] - (arguments["relation"] == "less than"), rng)


def _length_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    return _to_length(text, arguments["num_words"] - (arguments["relation"] == "at least"), rng)


CRAFTS = {
    "length_constraints:number_words": Craft(_length_note, _length_repair, _length_spoil, LENGTHS, _length),
    "keywords:forbidden_words": Craft(
        _forbidden_note,
        _forbidden_repair,
        _forbidden_spoil,
        COMMON,
        _one_word,
        lambda arguments: {"first": arguments["forbidden_words"][0]},
    ),
    "keywords:existence": Craft(
        _existence_note,
        _existence_repair,
        _existence_spoil,
        WORDS,
        _two_words,
        lambda arguments: dict(zip(("first", "second"), arguments["keywords"], strict=True)),
    ),
    "keywords:frequency": Craft(_frequency_note, _frequency_repair, _frequency_spoil, WORDS, _often),
}
