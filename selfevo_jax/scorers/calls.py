"""Calls of scoring code that is not ours: where it fails, the row is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from selfevo_jax.errors import DataError, SelfevoError, first_line
from selfevo_jax.scorers.base import ScoredRow


def called(
    name: str,
    call: Callable[[Sequence[ScoredRow], Sequence[str]], Any],
    rows: Sequence[ScoredRow],
    texts: Sequence[str],
) -> Any:
    """What `call(rows, texts)` gives. Raises DataError, with the name and the first row on which it fails alone."""
    try:
        return call(rows, texts)
    except SelfevoError:
        raise
    except Exception as error:
        where, cause = "all rows together", error
        for row, text in zip(rows, texts, strict=True):
            try:
                call([row], [text])
            except Exception as alone:
                where, cause = f"row '{row.id}'", alone
                break
        raise DataError(name, None, None, f"fails on {where}: {type(cause).__name__}: {first_line(cause)}") from error
