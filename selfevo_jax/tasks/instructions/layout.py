"""Titles, postscripts, lists, highlights, placeholders and JSON."""

from __future__ import annotations

import json
import random
import re

from selfevo_jax.scorers.checks.formats import bullets, highlights, placeholders, titles
from selfevo_jax.tasks.instructions.arguments import FEW
from selfevo_jax.tasks.instructions.craft import Arguments, Craft, one, quoted, said

AFTERTHOUGHTS = ("I hope this helps.", "Let me know if you want more.", "Take your time.", "Have fun with it.")
BLANKS = ("name", "date", "place", "time", "price", "reason", "city", "number")


def _title_note(text: str, arguments: Arguments, met: bool) -> str:
    found = f"found {quoted(titles(text)[0])}" if met else "not found"
    return f"Need a title in << and >>: {found}, {said(met)}."


def _title_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    words = re.findall(r"[^\W\d_]+", text)[:3] or ["Answer"]
    return f"<<{' '.join(words).capitalize()}>>\n{text}"


def _title_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    other = rng.choice((("", ""), ("**", "**"), ("<", ">")))
    return text.replace("<<", other[0]).replace(">>", other[1])


def _postscript_note(text: str, arguments: Arguments, met: bool) -> str:
    first = " ".join(text.splitlines()[-1].split()[:2])
    return f"Need a P.S.: last line begins {quoted(first)}, {said(met)}."


def _postscript_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    return f"{text}\nP.S. {rng.choice(AFTERTHOUGHTS)}"


def _postscript_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    return re.sub(r"p\.\s?s\.\s*", rng.choice(("", "PS ", "Note: ")), text, flags=re.IGNORECASE)


def _bullets_note(text: str, arguments: Arguments, met: bool) -> str:
    return f"Need {arguments['num_bullets']} bullet points: counted {len(bullets(text))}, {said(met)}."


def _bullets_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    number = arguments["num_bullets"]
    plain = re.sub(r"^\s*[*-]\s*", "", text, flags=re.MULTILINE)
    parts = [part for part in re.split(r"(?<=[.!?])\s+|\n+", plain) if part.strip()]
    if len(parts) < number:
        parts = plain.split()
    step = len(parts) / number
    return "\n".join("* " + " ".join(parts[int(n * step) : int((n + 1) * step)]) for n in range(number))


def _bullets_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    lines = text.splitlines()
    return "\n".join(lines[:-1] if rng.random() < 0.5 and len(lines) > 1 else [*lines, "* And so on."])


def _highlights_note(text: str, arguments: Arguments, met: bool) -> str:
    return f"Need {arguments['num_highlights']} parts in *stars* or more: counted {len(highlights(text))}, {said(met)}."


def _highlights_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    plain = text.replace("*", "")
    places = list(re.finditer(r"[^\W\d_]{3,}", plain))
    chosen = rng.sample(places, min(len(places), arguments["num_highlights"]))
    for place in sorted(chosen, key=lambda place: -place.start()):
        plain = f"{plain[: place.start()]}*{place[0]}*{plain[place.end() :]}"
    return plain


def _highlights_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    stars = list(re.finditer(r"\*([^\n*]+)\*", text))
    for place in reversed(stars[arguments["num_highlights"] - 1 :]):
        text = text[: place.start()] + place[1] + text[place.end() :]
    return text


def _placeholders_note(text: str, arguments: Arguments, met: bool) -> str:
    found = len(placeholders(text))
    return f"Need {arguments['num_placeholders']} blanks in [ ] or more: counted {found}, {said(met)}."


def _placeholders_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    blanks = rng.sample(BLANKS, arguments["num_placeholders"])
    return f"{text} Fill in: {' '.join(f'[{blank}]' for blank in blanks)}."


def _placeholders_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    found = list(re.finditer(r"\[(.*?)\]", text))
    for place in reversed(found[arguments["num_placeholders"] - 1 :]):
        text = text[: place.start()] + place[1] + text[place.end() :]
    return text


def _json_note(text: str, arguments: Arguments, met: bool) -> str:
    return f"Need JSON: first sign {quoted(text[:1])}, last sign {quoted(text[-1:])}, {said(met)}."


def _json_repair(text: str, arguments: Arguments, rng: random.Random) -> str:
    return json.dumps({"answer": text}, ensure_ascii=False)


def _json_spoil(text: str, arguments: Arguments, rng: random.Random) -> str:
    return rng.choice((text[:-1], text[1:], f"Here it is: {text}"))


CRAFTS = {
    "detectable_format:number_bullet_lists": Craft(
        _bullets_note, _bullets_repair, _bullets_spoil, FEW[1:], one("num_bullets")
    ),
    "detectable_format:number_highlighted_sections": Craft(
        _highlights_note, _highlights_repair, _highlights_spoil, FEW[1:], one("num_highlights")
    ),
    "detectable_content:number_placeholders": Craft(
        _placeholders_note, _placeholders_repair, _placeholders_spoil, FEW[1:], one("num_placeholders")
    ),
    "detectable_format:title": Craft(_title_note, _title_repair, _title_spoil),
    "detectable_content:postscript": Craft(
        _postscript_note,
        _postscript_repair,
        _postscript_spoil,
        draw=lambda atoms, rng: ({"postscript_marker": "P.S."}, ()),
    ),
    "detectable_format:json_format": Craft(_json_note, _json_repair, _json_spoil),
}
