"""Texts brought into one form, so that equal answers compare equal."""

from __future__ import annotations

import math
import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)


def normal(text: str, case: bool = False, punctuation: bool = True, articles: bool = True) -> str:
    """A text without differences of white space and Unicode form (NFKC), and of what is not to count.

    Args:
      text: any text.
      case: whether capitals count.
      punctuation: whether punctuation counts; else it goes, as do the signs of ASCII.
      articles: whether the English "a", "an" and "the" count.

    Without all three it is the form of SQuAD (Rajpurkar et al., arXiv 1606.05250), for more than ASCII.
    """
    text = unicodedata.normalize("NFKC", text)
    if not case:
        text = unicodedata.normalize("NFKC", text.casefold())
    if not punctuation:
        text = "".join(c for c in text if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    if not articles:
        text = _ARTICLES.sub(" ", text)
    return " ".join(text.split())


def number_as_text(value: object) -> object:
    """A text that may be written as a JSON number: 51.0 is the text "51". What is neither stays as it is.

    Raises ValueError for an infinite number, which JSON has no form for.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise ValueError("the number is too large for a JSON number; write it as text")
    return str(int(value)) if value == int(value) else repr(value)


def utf8(text: str) -> str:
    """Raises ValueError for a text that cannot be written down."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no character; write the text as UTF-8") from None
    return text
