"""All that can be set, listed: the config's keys, and those of what several of them hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.config import Config
from selfevo_jax.config.forms import fields, names_elsewhere, other_names, section_at
from selfevo_jax.config.keys import NAME, Key, described, key_at, keys, own_keys, sections
from selfevo_jax.errors import ConfigError
from selfevo_jax.scorers import ScorerSection
from selfevo_jax.scorers.registry import BUILT_IN as SCORERS
from selfevo_jax.scorers.registry import section_of
from selfevo_jax.section import RowsSection, Section
from selfevo_jax.trackers import TrackSection
from selfevo_jax.trackers import section_of as tracker_of
from selfevo_jax.trackers.registry import BUILT_IN as TRACKERS

_APART = (RowsSection, ScorerSection, TrackSection)
"""Sections that several keys hold, or that have kinds: each is listed by itself."""
_BESIDE: dict[str, type[Section]] = {"rows": RowsSection, "annotate": AnnotateSection}
"""Name -> what is set beside the config, or in many places of it."""


def all_sections() -> Iterator[tuple[str, type[Section]]]:
    """Every section once: those of the config; rows of files; the settings of `selfevo annotate`; and of each kind of
    scorer and tracker its own."""
    inside = dict(sections(Config, apart=_APART))
    yield from inside.items()
    yield "rows", RowsSection
    known = set(inside.values())
    yield from ((name, of) for name, of in sections(AnnotateSection, "annotate", _APART) if of not in known)
    yield from _kinds()


def listed(name: str | None) -> Iterator[str]:
    """Lines about the keys that a name leads to: a section, a key, a part of one, or the name that another program has
    for it; all without a name. Raises ConfigError where it leads to none."""
    if name is None:
        yield from _of_section("", Config)
        for title, section in _BESIDE.items():
            yield from _of_section(title, section)
        for title, section in _kinds():
            yield from _of_kind(title, section)
        return
    if titled := [one for one in _kinds() if one[0] == name or one[0].startswith(f"{name} ")]:
        for title, section in titled:
            yield from _of_kind(title, section)
        return
    first, *rest = name.split(".")
    root, location = (_BESIDE[first], tuple(rest)) if first in _BESIDE else (Config, (first, *rest))
    if (found := section_at(location, root=root)) is not None:
        yield from _of_section(name, found)
    elif (key := key_at(location, root)) is not None:
        yield from replace(key, name=name).lines()
        if (entry := section_at((*location, NAME), root=root)) is not None:
            yield from _of_section(f"{name}.{NAME}", entry)
    else:
        named = [one for one in _kinds() if one[0].endswith(f" {name}")]
        for key in _like(name, needed=not named):
            yield from key.lines()
        for title, section in named:
            yield from _of_kind(title, section)


def _of_section(title: str, section: type[Section]) -> Iterator[str]:
    yield from _heading(title, section)
    for key in keys(section, "" if section is RowsSection else title, _APART):
        yield from key.lines()


def _of_kind(title: str, section: type[Section]) -> Iterator[str]:
    """What a kind has beside what all of them have."""
    yield from _heading(title, section)
    base = next((of for of in _APART if of in section.__mro__[1:]), None)
    for key in keys(section, "", _APART, None if base is None else own_keys(section, base)):
        yield from key.lines()


def _heading(title: str, section: type[Section]) -> Iterator[str]:
    if title:
        first, *_ = described(section).split("\n\n")
        yield from ("", title, f"    {' '.join(first.split())}")


def _kinds() -> Iterator[tuple[str, type[Section]]]:
    yield "scorer", ScorerSection
    for kind in SCORERS:
        yield f"scorer {kind}", section_of(kind)
    yield "tracker", TrackSection
    for kind in TRACKERS:
        yield f"tracker {kind}", tracker_of(kind)


def _like(name: str, needed: bool) -> list[Key]:
    known = [*keys(Config, "", _APART), *keys(AnnotateSection, "annotate", _APART)]
    last = name.rpartition(".")[2].lower().replace("-", "_")
    meant = {last, *other_names(last)}
    found = [key for key in known if key.name.rpartition(".")[2] in meant]
    found = found or [key for key in known if last in key.name]
    if not found and needed:
        hint = _near(name, known)
        raise ConfigError(f"{name}: no key, and no part of the name of one;{hint} `selfevo keys` lists all")
    return found


def _near(name: str, known: Iterable[Key]) -> str:
    """The name that a slip of the hand may have missed: whole, or its last part."""
    names = [*(full for full, _ in fields()), *(key.name for key in known), *_BESIDE, *(title for title, _ in _kinds())]
    names += [re.split("[. ]", full)[-1] for full in names]
    names += names_elsewhere()
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1, cutoff=0.7)
    return f" did you mean '{near[0]}'?" if near else ""
