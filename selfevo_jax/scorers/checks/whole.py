"""Instructions on the text as a whole: how it begins and ends, its punctuation, two answers in one."""

from __future__ import annotations

from selfevo_jax.scorers.checks.base import TEXT, Kind


def two_responses(text: str) -> bool:
    """Two answers that differ, with '******' between them; an empty one counts for nothing at either end, and is a
    fault between others."""
    answers = [part.strip() for part in text.split("******")]
    filled = [answer for answer in answers if answer]
    return all(answers[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, end_phrase: str) -> bool:
    """The phrase comes last, in any case, within closing quotation marks or not."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def start_phrase(text: str, start_phrase: str) -> bool:
    """The phrase comes first, in any case, within opening quotation marks or not."""
    return text.strip().strip('"').lower().startswith(start_phrase.strip().lower())


def quotation(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == '"' and text[-1] == '"'


def no_comma(text: str) -> bool:
    return "," not in text


KINDS = (
    Kind("combination:two_responses", two_responses),
    Kind("combination:repeat_prompt", repeat_prompt, {"prompt_to_repeat": TEXT}),
    Kind("startend:end_checker", end_checker, {"end_phrase": TEXT}),
    Kind("startend:start_phrase", start_phrase, {"start_phrase": TEXT}, official=False),
    Kind("startend:quotation", quotation),
    Kind("punctuation:no_comma", no_comma),
)
