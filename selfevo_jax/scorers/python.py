"""A function of the user's as a scorer, with the signature of TRL's reward functions."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Literal

from selfevo_jax import plugins
from selfevo_jax.errors import ConfigError, DataError, shown
from selfevo_jax.scorers.base import NOT_SCORED, Fault, Grade, ScoredRow, Scorer, ScorerSection
from selfevo_jax.scorers.calls import called
from selfevo_jax.text import normal

_GIVEN = ("prompts", "completions")
_OF_A_TRAINER = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
"""What TRL's trainer gives as well, and an evaluation has not."""


class Python(ScorerSection):
    """`function(prompts, completions, **columns) -> list[float | None]`: one value from 0 to 1 for each row, where 1 is
    right and None is not scored. Every other column of the rows is given as a list under its name.

    Source: TRL's documentation of GRPOTrainer, "Using a custom reward function"; `async def` is awaited. Texts vote
    together where they are the same but for white space and capitals.
    """

    short: ClassVar[str | None] = "function"

    kind: Literal["python"] = "python"
    function: str
    """`module:function`, importable from here (PYTHONPATH)."""
    messages: bool = False
    """Give prompts and completions as lists of one message, {"role", "content"}, as TRL does for chats."""

    @property
    def code(self) -> str | None:
        return self.function

    def open(self, key: str) -> Scorer:
        wanted = self._needs(key)
        if lacking := [name for name in wanted if name in _OF_A_TRAINER]:
            raise ConfigError(f"{key}: {self.function} asks for {', '.join(lacking)}, which an evaluation has not")
        return self

    def fault(self, row: ScoredRow) -> Fault | None:
        back = {theirs: ours for ours, theirs in self.columns.items()}
        for taken in _GIVEN:
            if taken in {back.get(name, name) for name in row.columns}:
                return Fault(taken, f"a column of this name hides what {self.function} is given; rename it")
        needed = [name for name in self._needs(self.name) if name not in (*_GIVEN, *_OF_A_TRAINER)]
        return next((fault for name in needed if (fault := self.missing(row, name)) is not None), None)

    def grades(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> list[Grade]:
        """Raises DataError, with the function and the row, where it fails or gives another thing than a value a row."""
        if not rows:
            return []
        found = called(self.function, self._call, rows, texts)
        count = len(found) if hasattr(found, "__len__") else None
        if count != len(rows):
            what = f"{count} values" if count is not None else shown(found)
            raise DataError(
                self.function, None, None, f"found {what} for {len(rows)} rows, expected a list with one for each"
            )
        return [self._grade(row, value) for row, value in zip(rows, found, strict=True)]

    def key(self, row: ScoredRow, text: str) -> Hashable | None:
        return normal(text) or None

    def _function(self, key: str) -> Callable[..., Any]:
        found: Callable[..., Any] = _load(self.function, key)
        if not callable(found):
            raise ConfigError(f"{key}: {self.function} is no function")
        return found

    def _needs(self, key: str) -> list[str]:
        """The parameters without a default."""
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = inspect.signature(self._function(key)).parameters.values()
        return [p.name for p in parameters if p.kind not in kinds and p.default is inspect.Parameter.empty]

    def _call(self, rows: Sequence[ScoredRow], texts: Sequence[str]) -> Any:
        back = {theirs: ours for ours, theirs in self.columns.items()}
        names = dict.fromkeys(name for row in rows for name in row.columns)
        columns = {back.get(name, name): [row.columns.get(name) for row in rows] for name in names}
        prompts: list[Any] = [row.prompt for row in rows]
        completions: list[Any] = list(texts)
        if self.messages:
            prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
            completions = [[{"role": "assistant", "content": text}] for text in texts]
        given = {**columns, "prompts": prompts, "completions": completions}
        function = self._function(self.name)
        parameters = inspect.signature(function).parameters
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            given = {name: value for name, value in given.items() if name in parameters}
        found = function(**given)
        return asyncio.run(found) if inspect.iscoroutine(found) else found

    def _grade(self, row: ScoredRow, value: Any) -> Grade:
        if value is None:
            return NOT_SCORED
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0.0 <= number <= 1.0:
            problem = f"found {shown(value)} for row '{row.id}', expected a number from 0 to 1, or None for not scored"
            raise DataError(self.function, None, None, problem)
        return Grade(number)


@functools.cache
def _load(path: str, key: str) -> Any:
    return plugins.imported(path, key)
