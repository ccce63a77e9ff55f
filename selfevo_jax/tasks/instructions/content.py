"""Words that must or must not come, and how many words there are."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from selfevo_jax.scorers.checks.keywords import existence
from selfevo_jax.scorers.checks.lengths import words
from selfevo_jax.tasks.instructions.arguments import COMMON, FEW, LENGTHS, WORDS
from selfevo_jax.tasks.instructions.craft import Arguments, Craft, quoted, said, sentence_added

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
OTHERS = ("it", "this", "water", "people", "things")


def _found(text: str, word: str, whole: bool) -> str | None:
    """The word where it first comes, with what stands around it and the word before."""
    inner = rf"\b{word}\b" if whole else word
    match = re.search(rf"(?:\S+\s+)?\S*{inner}\S*", text, re.IGNORECASE)
    return None if match is None else match[0]


def _two_words(atoms: Sequence[Any], rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    taken = rng.sample(list(atoms), 2)
    return {"keywords": taken}, tuple(taken)


def _existence_note(text: str, arguments: Arguments, met: bool) -> str:
    notes = []
    for word in arguments["keywords"]:
        found = _found(text, word, whole=False)
        notes.append(f'Need "{word}": ' + (f"found {quoted(found)}, ok." if found else "not found, wrong."))
    return " ".join(notes)


def _existence_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    lacking = [word for word in arguments["keywords"] if not existence(text, [word])]
    return sentence_added(text, rng.choice(TAILS).format(" and ".join(lacking)))


def _existence_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    word = rng.choice(arguments["keywords"])
    other = rng.choice(OTHERS)
    return re.sub(rf"\w*{word}\w*", other.upper() if text.isupper() else other, text, flags=re.IGNORECASE)


def _one_word(atoms: Sequence[Any], rng: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    word = rng.choice(atoms)
    return {"forbidden_words": [word]}, (word,)


def _forbidden_note(text: str, arguments: Arguments, met: bool) -> str:
    (word,) = arguments["forbidden_words"]
    found = _found(text, word, whole=True)
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
    other = rng.choice(OTHERS)
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
