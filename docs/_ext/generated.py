"""The tables of the reference, made from the code: keys of the config, and commands. Markdown, without Sphinx."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
import yaml
from pydantic.fields import FieldInfo

from selfevo_jax.annotate.section import AnnotateSection
from selfevo_jax.cli import app
from selfevo_jax.config import Config
from selfevo_jax.config.forms import in_words, sections_in
from selfevo_jax.scorers import ScorerSection
from selfevo_jax.scorers.registry import BUILT_IN as SCORERS
from selfevo_jax.scorers.registry import section_of
from selfevo_jax.section import RowsSection, Section
from selfevo_jax.trackers import TrackSection
from selfevo_jax.trackers import section_of as tracker_of
from selfevo_jax.trackers.registry import BUILT_IN as TRACKERS

NAME = "NAME"
"""What stands for a name of the user's in the full name of a key."""


@cache
def meanings(section: type[Section]) -> dict[str, str]:
    """Key -> the docstring below it, by the class that declares it; a subclass's own goes first."""
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
                found[line.target.id] = " ".join(below.value.value.split())
    return found


def sections(root: type[Section] = Config, title: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Every section of a tree with its full name, each once, in their order; that of all first."""
    seen: set[type[Section]] = set()

    def below(name: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
        if section in seen:
            return
        seen.add(section)
        yield name, section
        for key, field in section.model_fields.items():
            for inner, is_named in sections_in(field.annotation):
                if inner not in (RowsSection, ScorerSection, TrackSection):
                    full = f"{name}.{key}" if name else key
                    yield from below(f"{full}.{NAME}" if is_named else full, inner)

    yield from below(title, root)


def all_sections() -> Iterator[tuple[str, type[Section]]]:
    """Those of the config; rows of files, which several keys hold; and of each kind of scorer and tracker its own."""
    yield from sections()
    yield "rows", RowsSection
    known = {section for _, section in sections()}
    yield from ((name, of) for name, of in sections(AnnotateSection, "annotate") if of not in known)
    yield "scorer", ScorerSection
    for kind in SCORERS:
        yield f"scorer {kind}", section_of(kind)
    yield "tracker", TrackSection
    for kind in TRACKERS:
        yield f"tracker {kind}", tracker_of(kind)


def _own_keys(section: type[Section], shown: set[type[Section]]) -> tuple[type[Section] | None, list[str]]:
    """The nearest base whose table stands already, and the keys that are not as there."""
    base = next((of for of in section.__mro__[1:] if of in shown), None)
    keys = list(section.model_fields)
    if base is None:
        return None, keys
    own = {key for of in section.__mro__[: section.__mro__.index(base)] for key in inspect.get_annotations(of)}
    one_value = {key for key in keys if len(get_args(section.model_fields[key].annotation)) == 1}
    return base, [key for key in keys if key in own and key not in one_value]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        plain = value.model_dump(mode="json")
        if not isinstance(value, RowsSection):
            return "its defaults"
    else:
        plain = list(value) if isinstance(value, tuple) else value
    written = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n")
    text = written.strip()
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"


def _type(key: str, field: FieldInfo, places: dict[type[Section], str]) -> str:
    linked = next((of for of, _ in sections_in(field.annotation) if of in places), None)
    words = re.sub(r", such as [-+.e\d]+$", "", in_words(field))
    if linked is None:
        return "a section" if key == "settings" else words
    is_named = (linked, True) in sections_in(field.annotation)
    short = "sections by name" if is_named else "rows" if issubclass(linked, RowsSection) else "a section"
    return f"[{short}](#{anchor(places[linked])})" + (", or null" if words.endswith("or null") else "")


def anchor(name: str) -> str:
    """The target of a section's heading."""
    return "keys-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "of-all")


def meaning(section: type[Section], key: str) -> str:
    """What a key is for: its docstring, or that of the section that it holds."""
    own = meanings(section).get(key)
    if own:
        return own
    inner = (_described(of) for of, _ in sections_in(section.model_fields[key].annotation))
    return next((" ".join(text.split("\n\n")[0].split()) for text in inner if text), "")


def _rows(keys: list[str], section: type[Section], places: dict[type[Section], str]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key in keys:
        field = section.model_fields[key]
        cells = (f"`{key}`", _type(key, field, places), _default(field), meaning(section, key))
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _described(section: type[Section]) -> str:
    own = section.__dict__.get("__doc__")
    return "" if own is None else inspect.cleandoc(own)


def _table(
    title: str, section: type[Section], places: dict[type[Section], str], shown: set[type[Section]]
) -> list[str]:
    base, keys = _own_keys(section, shown)
    heading = f"`{title}`" if title else "The top level"
    lines = [f"({anchor(title)})=", f"## {heading}", "", _described(section), ""]
    if base is not None:
        lines += [f"All keys of [`{places[base]}`](#{anchor(places[base])})" + (", and:" if keys else "."), ""]
    if keys:
        lines += [*_rows(keys, section, places), ""]
    shown.add(section)
    return lines


def config_reference() -> str:
    """Every key of the config: a table for each section, then the settings of each scorer and tracker."""
    places = {section: name for name, section in all_sections()}
    shown: set[type[Section]] = set()
    lines: list[str] = []

    def show(section: type[Section]) -> None:
        """The table of a section, behind those of the sections that it has keys of."""
        if section in places and section not in shown:
            for base in reversed(section.__mro__[1:]):
                show(base)
            lines.extend(_table(places[section], section, places, shown))

    for section in places:
        show(section)
    return "\n".join(lines)


def keys_without_meaning() -> list[str]:
    """Full names of keys whose table would have an empty cell."""
    return [
        f"{name}.{key}".lstrip(".")
        for name, section in all_sections()
        for key in section.model_fields
        if not meaning(section, key)
    ]


def _help(text: str | None) -> str:
    """Help with its examples as blocks of commands."""
    paragraphs: list[str] = []
    for part in inspect.cleandoc(text or "").split("\n\n"):
        if part.startswith("    "):
            block = "\n".join(f"$ {line.strip()}" for line in part.splitlines() if not line.strip().startswith("-"))
            block = re.sub(r"\n\s*(?=--)", " ", block)
            paragraphs.append(f"```console\n{block}\n```")
        else:
            paragraphs.append(part)
    return "\n\n".join(paragraphs).replace("\n```\n\n```console\n", "\n")


def _argument(of: Any) -> str:
    return str(of.metavar or of.name).upper()


_VALUES = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def _value(kind: Any) -> str:
    """What stands for the value of an option; empty for a flag."""
    while get_origin(kind) is not None and get_origin(kind) is not Literal:
        kind = next(of for of in get_args(kind) if of is not type(None))
    return "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else _VALUES.get(kind, "")


def _parameter(of: Any, kind: Any) -> tuple[str, str, str]:
    """Name, default, meaning."""
    is_option = of.param_type_name == "option"
    name = ", ".join([*of.opts, *of.secondary_opts]) if is_option else _argument(of)
    value = _value(kind) if is_option else ""
    default = of.default() if callable(of.default) else of.default
    if of.required:
        shown = "required"
    elif default is None or default is False or default == []:
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    return f"`{f'{name} {value}'.strip()}`", shown, of.help or ""


def commands() -> dict[str, Any]:
    """Name -> command, by their names."""
    group: Any = typer.main.get_command(app)
    return dict(sorted(group.commands.items()))


def command_reference() -> str:
    """Every command with its help, arguments and options."""
    lines: list[str] = []
    kinds = {
        of.name or of.callback.__name__: get_type_hints(of.callback) for of in app.registered_commands if of.callback
    }
    for name, command in commands().items():
        parameters = [of for of in command.params if of.name != "help" and not getattr(of, "hidden", False)]
        arguments = [of for of in parameters if of.param_type_name == "argument"]
        usage = [_argument(of) if of.required else f"[{_argument(of)}]" for of in arguments]
        usage = [f"{one}..." if of.nargs == -1 else one for one, of in zip(usage, arguments, strict=True)]
        lines += [f"## `selfevo {name}`", "", f"`selfevo {' '.join([name, *usage])} [OPTIONS]`", ""]
        lines += [_help(command.help), "", "| argument or option | default | meaning |", "|---|---|---|"]
        lines += [
            "| " + " | ".join(_cell(cell) for cell in _parameter(of, kinds[name].get(of.name))) + " |"
            for of in parameters
        ]
        lines += [""]
    return "\n".join(lines)
