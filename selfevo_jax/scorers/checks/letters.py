"""Instructions on capitals and on the language, which `langdetect` tells (the extra `ifeval`)."""

from __future__ import annotations

import functools
from typing import Any

from selfevo_jax.lazy import install
from selfevo_jax.scorers.checks.base import COUNT, RELATION, TEXT, Kind, holds
from selfevo_jax.scorers.checks.tokens import capital_words


@functools.lru_cache
def _detectors() -> Any | None:
    """The factory of the language detectors with the profiles that the package carries; None where it is absent."""
    try:
        from langdetect import PROFILES_DIRECTORY, DetectorFactory
    except ImportError:
        return None
    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    return factory


def without_languages() -> str | None:
    """What is missing to tell a language; None where nothing is."""
    return None if _detectors() else f"the package langdetect ({install('ifeval')})"


def _is_language(text: str, language: str) -> bool | None:
    """As IFEval has it, a text in which no language can be told passes. The detector draws at random: it is seeded
    here, so that a text always has one answer; unseeded, short or mixed texts may get others."""
    factory = _detectors()
    if factory is None:
        return None
    from langdetect import LangDetectException

    detector = factory.create()
    detector.seed = 0
    try:
        detector.append(text)
        return detector.detect() == language
    except LangDetectException:
        return True


def response_language(text: str, language: str) -> bool | None:
    return _is_language(text, language)


def english_capital(text: str) -> bool | None:
    return None if _detectors() is None else text.isupper() and _is_language(text, "en")


def english_lowercase(text: str) -> bool | None:
    return None if _detectors() is None else text.islower() and _is_language(text, "en")


def uppercase(text: str) -> bool:
    return text.isupper()


def lowercase(text: str) -> bool:
    return text.islower()


def capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> bool | None:
    """So many words in capitals alone. None where that hangs on how the text divides into sentences, and nothing here
    can tell."""
    fewest, most = capital_words(text)
    answers = {holds(capital_relation, fewest, capital_frequency), holds(capital_relation, most, capital_frequency)}
    return answers.pop() if len(answers) == 1 else None


KINDS = (
    Kind("language:response_language", response_language, {"language": TEXT}, missing=without_languages),
    Kind("change_case:english_capital", english_capital, missing=without_languages),
    Kind("change_case:english_lowercase", english_lowercase, missing=without_languages),
    Kind("change_case:uppercase", uppercase, official=False),
    Kind("change_case:lowercase", lowercase, official=False),
    Kind(
        "change_case:capital_word_frequency",
        capital_word_frequency,
        {"capital_frequency": COUNT, "capital_relation": RELATION},
    ),
)
