"""Instructions on form and content that can be seen: lists, highlights, sections, JSON, titles, placeholders."""

from __future__ import annotations

import json
import re

from selfevo_jax.scorers.checks.base import COUNT, PATTERN, Kind

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""Of `constrained_response`."""
_FENCES = ("```json", "```Json", "```JSON", "```")


def bullets(text: str) -> list[str]:
    """The points of Markdown lists, by '*' and by '-'."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    return stars + re.findall(r"^\s*-.*$", text, re.MULTILINE)


def number_bullet_lists(text: str, num_bullets: int) -> bool:
    return len(bullets(text)) == num_bullets


def constrained_response(text: str) -> bool:
    return any(option in text for option in OPTIONS)


def highlights(text: str) -> list[str]:
    """What stands between '*' and '*' in a line, and between '**' and '**' once more."""
    single = (found.strip("*") for found in re.findall(r"\*[^\n\*]*\*", text))
    double = re.findall(r"\*\*([^\n\*]*)\*\*", text)
    return [found for found in (*single, *double) if found.strip()]


def number_highlighted_sections(text: str, num_highlights: int) -> bool:
    return len(highlights(text)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many headings: the splitter and a number."""
    return len(re.split(rf"\s?{section_spliter.strip()}\s?\d+\s?", text)) - 1 >= num_sections


def json_format(text: str) -> bool | None:
    """JSON and nothing else, in a Markdown fence or not. None where it is nested too deeply to be read."""
    text = text.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except ValueError:
        return False
    except RecursionError:
        return None
    return True


def titles(text: str) -> list[str]:
    """What stands in double angular brackets."""
    found = (title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))
    return [title for title in found if title]


def title(text: str) -> bool:
    return bool(titles(text))


def placeholders(text: str) -> list[str]:
    return re.findall(r"\[.*?\]", text)


def number_placeholders(text: str, num_placeholders: int) -> bool:
    return len(placeholders(text)) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    """The marker comes somewhere, in any case; within `P.S.` and `P.P.S` white space may stand behind a point."""
    marker = postscript_marker.strip()
    pattern = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}.get(marker, marker.lower())
    return re.search(pattern, text.lower(), re.MULTILINE) is not None


KINDS = (
    Kind("detectable_format:number_bullet_lists", number_bullet_lists, {"num_bullets": COUNT}),
    Kind("detectable_format:constrained_response", constrained_response),
    Kind("detectable_format:number_highlighted_sections", number_highlighted_sections, {"num_highlights": COUNT}),
    Kind("detectable_format:multiple_sections", multiple_sections, {"section_spliter": PATTERN, "num_sections": COUNT}),
    Kind("detectable_format:json_format", json_format),
    Kind("detectable_format:title", title),
    Kind("detectable_content:number_placeholders", number_placeholders, {"num_placeholders": COUNT}),
    Kind("detectable_content:postscript", postscript, {"postscript_marker": PATTERN}),
)
