"""Capitals, how a text begins and ends, quotation marks and commas."""

from __future__ import annotations

import random
import re

from selfevo_jax.tasks.instructions.arguments import ENDS, STARTS
from selfevo_jax.tasks.instructions.craft import Arguments, Craft, one, quoted, said

MORE = ("I hope you like it.", "Good luck!", "Bye.", "Anything else?", "That was it.")
BEFORE = ("Well,", "So,", "Yes.", "Sure.", "Hello!")


def _odd_word(text: str, small: bool) -> str | None:
    """The first word that is not all small (or not all large)."""
    return next((word for word in text.split() if word != (word.lower() if small else word.upper())), None)


def _case_note(small: bool) -> str:
    return "Need no capitals" if small else "Need no small letters"


def _case(small: bool) -> Craft:
    def note(text: str, arguments: Arguments, met: bool) -> str:
        odd = _odd_word(text, small)
        found = "found none" if met else f"found {quoted(odd)}" if odd else "found no letters"
        return f"{_case_note(small)}: first words {quoted(_first(text, 2))}, {found}, {said(met)}."

    def repair(text: str, arguments: Arguments, rng: random.Random) -> str:
        return text.lower() if small else text.upper()

    def spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
        words = list(re.finditer(r"[^\W\d_]+", text))
        if not words:
            return text
        word = rng.choice((words[0], rng.choice(words)))
        other = word[0].capitalize() if small else word[0].lower()
        return text[: word.start()] + other + text[word.end() :]

    return Craft(note, repair, spoil)


def _end_note(text: str, arguments: Arguments, met: bool) -> str:
    return f"Need the end {quoted(arguments['end_phrase'])}: last words {quoted(_last(text, 2))}, {said(met)}."


def _first(text: str, number: int) -> str:
    return " ".join(text.split()[:number])


def _last(text: str, number: int) -> str:
    return " ".join(text.split()[-number:])


def _end_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    body = text.rstrip(' \n"')
    return f"{body} {arguments['end_phrase']}"


def _end_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    return f"{text} {rng.choice(MORE)}" if rng.random() < 0.5 else text.rsplit(maxsplit=1)[0]


def _start_note(text: str, arguments: Arguments, met: bool) -> str:
    first = quoted(_first(text, 3))
    return f"Need the start {quoted(arguments['start_phrase'])}: first words {first}, {said(met)}."


def _start_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    body = text.lstrip(' \n"')
    return f"{arguments['start_phrase']}, {body[:1].lower()}{body[1:]}"


def _start_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"{rng.choice(BEFORE)} {text}"
    at = text.lower().find(arguments["start_phrase"].lower())
    return text[at + len(arguments["start_phrase"]) :].lstrip(" ,")


def _quotation_note(text: str, arguments: Arguments, met: bool) -> str:
    first, last = ("yes" if sign == '"' else "no" for sign in (text[:1], text[-1:]))
    return f"Need double quotes around all: at the start {first}, at the end {last}, {said(met)}."


def _quotation_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    body = text.strip(' \n"')
    return f'"{body}"'


def _quotation_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    return text[:-1] if rng.random() < 0.5 else text[1:]


def _comma_note(text: str, arguments: Arguments, met: bool) -> str:
    word = next((word for word in text.split() if "," in word), "")
    return f"Need no commas: found {'none' if met else quoted(word)}, {said(met)}."


def _comma_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    return re.sub(r"\s*,", "", text)


def _comma_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    places = [m.start() for m in re.finditer(r"(?<=\w) ", text)]
    if not places:
        return text
    at = rng.choice(places)
    return f"{text[:at]},{text[at:]}"


CRAFTS = {
    "startend:end_checker": Craft(_end_note, _end_repair, _end_spoil, ENDS, one("end_phrase")),
    "startend:start_phrase": Craft(_start_note, _start_repair, _start_spoil, STARTS, one("start_phrase")),
    "punctuation:no_comma": Craft(_comma_note, _comma_repair, _comma_spoil),
    "startend:quotation": Craft(_quotation_note, _quotation_repair, _quotation_spoil),
    "change_case:lowercase": _case(small=True),
    "change_case:uppercase": _case(small=False),
}
