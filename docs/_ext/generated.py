"""The tables of the reference, made from the code: keys of the config, and commands. Markdown, without Sphinx."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from selfevo_jax.api.keys import all_sections
from selfevo_jax.cli import app
from selfevo_jax.config.forms import sections_in
from selfevo_jax.config.keys import default, described, form, meaning, own_keys
from selfevo_jax.section import RowsSection, Section


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(field: FieldInfo) -> str:
    text = default(field)
    if text is None:
        return "required"
    return "its defaults" if text == "{}" and not field.default_factory else f"`{text}`"


def _type(key: str, field: FieldInfo, places: dict[type[Section], str]) -> str:
    linked = next((of for of, _ in sections_in(field.annotation) if of in places), None)
    words = form(key, field)
    if linked is None:
        return words
    is_named = (linked, True) in sections_in(field.annotation)
    short = "sections by name" if is_named else "rows" if issubclass(linked, RowsSection) else "a section"
    return f"[{short}](#{anchor(places[linked])})" + (", or null" if words.endswith("or null") else "")


def anchor(name: str) -> str:
    """The target of a section's heading."""
    return "keys-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "of-all")


def _rows(keys: list[str], section: type[Section], places: dict[type[Section], str]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key in keys:
        field = section.model_fields[key]
        cells = (f"`{key}`", _type(key, field, places), _default(field), meaning(section, key))
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _table(
    title: str, section: type[Section], places: dict[type[Section], str], shown: set[type[Section]]
) -> list[str]:
    base = next((of for of in section.__mro__[1:] if of in shown), None)
    keys = list(section.model_fields) if base is None else own_keys(section, base)
    heading = f"`{title}`" if title else "The top level"
    lines = [f"({anchor(title)})=", f"## {heading}", "", described(section), ""]
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
