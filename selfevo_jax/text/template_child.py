"""A process of its own for chat templates: jinja2 in a sandbox, with limits on memory and time.

Run as a script, with the folders of jinja2 as arguments. It reads a request as JSON (`ChatTemplate` writes it) and
writes, as JSON too, either {"refused": why the template cannot be read} or, for each conversation, {"text": ...} or
{"error": ...}. A template that passes a limit of the system ends it.
"""

from __future__ import annotations

import datetime
import json
import sys
from contextlib import suppress
from typing import Any

sys.path += sys.argv[1:]  # this script runs apart from the environment's packages

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

TODAY = datetime.datetime(2024, 7, 26)
"""What `strftime_now` takes for today: with the real date the prompts of a run would change overnight."""


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says; it prints its body."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Dict:
    """`dict` without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            _Namespace._check(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace holds no name that begins with an underscore: {name!r}")


def _limit(memory: int, seconds: int) -> None:
    """Limits of the system on this process; without them the parent's clock alone ends it."""
    with suppress(ImportError):
        import resource

        limits = [(resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)]
        for kind, most in limits:
            with suppress(OSError, ValueError):
                resource.setrlimit(kind, (most, most))


def _compiled(source: str) -> jinja2.Template:
    sandbox = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    sandbox.filters["tojson"] = _to_json
    sandbox.globals.update(raise_exception=_raise_exception, strftime_now=TODAY.strftime)
    sandbox.globals.update(dict=_Dict(), namespace=_Namespace)
    return sandbox.from_string(source)


def _rendered(template: jinja2.Template, variables: dict[str, Any], most: int) -> str:
    parts: list[str] = []
    for part in template.generate(**variables):
        most -= len(part)
        if most < 0:
            raise jinja2.TemplateError("its text is too long")
        parts.append(part)
    return "".join(parts)


def answer(request: dict[str, Any]) -> Any:
    """What is written for a request: see the top of this file."""
    try:
        template = _compiled(request["source"])
    except Exception as error:  # a template can fail in any way that Python's compiler can
        return {"refused": _said(error)}
    found = []
    for messages in request["conversations"]:
        variables = {**request["variables"], "messages": messages, "add_generation_prompt": True}
        try:
            found.append({"text": _rendered(template, variables, request["characters"])})
        except Exception as error:  # or in any way that an expression can
            found.append({"error": _said(error)})
    return found


def _said(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it takes too much memory"
    return (str(error) or type(error).__name__)[:1000]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    _limit(asked["memory"], asked["seconds"])
    json.dump(answer(asked), sys.stdout)
