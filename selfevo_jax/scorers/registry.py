"""Which kinds of scorers there are: those of this room, entry points of `selfevo_jax.scorers`, and `module:name`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from pydantic import ConfigDict, JsonValue, ValidationError

from selfevo_jax import plugins
from selfevo_jax.errors import ConfigError
from selfevo_jax.scorers.base import Scorer, ScorerSection

GROUP = "selfevo_jax.scorers"
BUILT_IN = {
    "number": "Number",
    "exact": "Exact",
    "choice": "Choice",
    "constraints": "Constraints",
    "regex": "Regex",
    "math": "Math",
    "python": "Python",
}
"""Kind, which is the name of its module in this room -> its class."""


class PlugIn(ScorerSection):
    """A scorer from outside. Nothing of it is imported before it is opened, so that a run can be read without it.

    What is named is called with the settings beside `kind`, `name` and `columns`, and gives a `Scorer`; or it is a
    subclass of `ScorerSection`, which takes those three too.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue]

    @property
    def code(self) -> str | None:
        return plugins.path_of(GROUP, self.kind)

    def open(self, key: str) -> Scorer:
        part = plugins.load(GROUP, self.kind, f"{key}.kind")
        whole = isinstance(part, type) and issubclass(part, ScorerSection)
        settings = self.model_dump() if whole else dict(self.__pydantic_extra__)
        try:
            found = plugins.built(part, self.kind, key, Scorer, **settings)
        except ConfigError as error:
            if not isinstance(cause := error.__cause__, ValidationError):
                raise
            first = cause.errors(include_url=False)[0]
            where = ".".join([key, *map(str, first["loc"])])
            raise ConfigError(f"{where}: {first['msg']}, as {self.kind} has it") from cause
        scorer: Scorer = found.open(key) if whole else found
        return scorer


def section_of(kind: str) -> type[ScorerSection]:
    """Raises ValueError, with the nearest one, for an unknown kind."""
    if kind not in BUILT_IN:
        plugins.check_name(GROUP, kind, list(BUILT_IN))
        return PlugIn
    found: type[ScorerSection] = getattr(importlib.import_module(f"selfevo_jax.scorers.{kind}"), BUILT_IN[kind])
    return found


def open_scorers(sections: Sequence[ScorerSection], key: str) -> tuple[Scorer, ...]:
    """Those that a set names. Raises ConfigError where one cannot work here."""
    return tuple(section.open(f"{key}.{number}") for number, section in enumerate(sections))


def code_checksums(sections: Sequence[ScorerSection], key: str) -> dict[str, str]:
    """What figures rest on besides the config and the rows: key -> checksum of the file of the user's code."""
    codes = {f"{key}.{number}": section.code for number, section in enumerate(sections)}
    return {where: plugins.checksum(code, where) for where, code in codes.items() if code is not None}
