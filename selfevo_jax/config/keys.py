"""What is known of each key: its form, its default, and the docstring below it. `selfevo keys` and the reference of the
documentation are made of this."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import get_args

import yaml
from pydantic.fields import FieldInfo

from selfevo_jax.config.forms import Location, in_words, section_at, sections_in
from selfevo_jax.config.sections import Config
from selfevo_jax.section import RowsSection, Section

NAME = "NAME"
"""What stands for a name of the user's in the full name of a key."""


@dataclass(frozen=True)
class Key:
    """A key, or a section."""

    name: str
    """In full: `learn.learning_rate`."""
    form: str
    """What it may be: `a number above 0`."""
    default: str | None
    """As YAML; None: it is required."""
    meaning: str
    is_section: bool = False
    """Whether it has keys of its own, which are listed behind it."""

    def lines(self) -> list[str]:
        """For people."""
        needed = " (required)" if self.default is None else ""
        if self.is_section:
            return ["", f"{self.name}{needed}: {self.form}", f"    {self.meaning}"]
        value = "" if self.default is None else f" = {self.default}"
        return [f"{self.name}{value}{needed}: {self.form}", f"    {self.meaning}"]


@cache
def meanings(section: type[Section]) -> dict[str, str]:
    """Key -> the docstring below it, with YAML's `null` for None, by the class that declares it; a subclass's own goes
    first."""
    found: dict[str, str] = {}
    for of in reversed(section.__mro__):
        if not issubclass(of, Section) or of is Section:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
        assert isinstance(tree, ast.ClassDef)
        for line, below in zip(tree.body, [*tree.body[1:], None], strict=True):
            if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
                continue
            if (
                isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[line.target.id] = re.sub(r"\bNone\b", "null", " ".join(below.value.value.split()))
    return found


def described(section: type[Section]) -> str:
    """The docstring of a section itself; empty where it has none of its own."""
    own = section.__dict__.get("__doc__")
    return "" if own is None else inspect.cleandoc(own)


def meaning(section: type[Section], key: str) -> str:
    """What a key is for: its docstring, or that of the section that it holds."""
    own = meanings(section).get(key)
    if own:
        return own
    inner = (described(of) for of, _ in sections_in(section.model_fields[key].annotation))
    return next((" ".join(text.split("\n\n")[0].split()) for text in inner if text), "")


def form(key: str, field: FieldInfo) -> str:
    """What a key may be, in words: `a whole number above 0, or null`."""
    if key == "settings":
        return "a section"
    return re.sub(r", such as [-+.e\d]+$", "", in_words(field))


def default(field: FieldInfo, most: int = 60) -> str | None:
    """The default as YAML in one line, cut to so many characters; None where the key is required. Of a section with
    defaults of its own it is `{}`."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section) and not isinstance(value, RowsSection):
        return "{}"
    plain = value.model_dump(mode="json") if isinstance(value, Section) else value
    plain = list(plain) if isinstance(plain, tuple) else plain
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True)
    text = text.removesuffix("\n...\n").strip()
    return text if len(text) <= most else f"{text[: most - 3]}..."


def sections(root: type[Section], title: str = "", apart: Collection[type[Section]] = ()) -> Iterator[tuple[str, type]]:
    """Every section of a tree with its full name, each once, in their order; that of all first. Those `apart` are left
    out."""
    seen: set[type[Section]] = set()

    def below(name: str, section: type[Section]) -> Iterator[tuple[str, type]]:
        if section in seen:
            return
        seen.add(section)
        yield name, section
        for key, field in section.model_fields.items():
            for inner, is_named in sections_in(field.annotation):
                if inner not in apart:
                    full = f"{name}.{key}" if name else key
                    yield from below(f"{full}.{NAME}" if is_named else full, inner)

    yield from below(title, root)


def keys(
    section: type[Section],
    prefix: str = "",
    apart: Collection[type[Section]] = (),
    only: Collection[str] | None = None,
) -> Iterator[Key]:
    """Every key of a section and of those in it: its own keys first. Of sections `apart` the inner keys are left out,
    since several keys hold them. `only`: of its own keys these."""
    inner: list[tuple[Key, type[Section]]] = []
    for name in section.model_fields if only is None else only:
        field, full = section.model_fields[name], f"{prefix}.{name}" if prefix else name
        key = Key(full, form(name, field), default(field), meaning(section, name))
        below = [(of, is_named) for of, is_named in sections_in(field.annotation) if of not in apart]
        if not below:
            yield key
        for of, is_named in below:
            words = "a section, or null (the default)" if key.default == "null" else "a section"
            words = "sections with names of yours" if is_named else words
            shown = f"{full}.{NAME}" if is_named else full
            inner.append((Key(shown, words, key.default, key.meaning, is_section=True), of))
    for key, of in inner:
        yield key
        yield from keys(of, key.name, apart)


def own_keys(section: type[Section], base: type[Section]) -> list[str]:
    """The keys of a section that are not as in one that it is made from; of those, not the ones with one value."""
    classes = section.__mro__[: section.__mro__.index(base)]
    own = {key for of in classes for key in inspect.get_annotations(of)}
    return [key for key, f in section.model_fields.items() if key in own and len(get_args(f.annotation)) != 1]


def key_at(location: Location, root: type[Section] = Config) -> Key | None:
    """The one key that a path leads to; None where there is none."""
    section = section_at(location[:-1], root=root)
    name = str(location[-1]) if location else ""
    if section is None or name not in section.model_fields:
        return None
    field = section.model_fields[name]
    return Key(name, form(name, field), default(field), meaning(section, name))
