"""Chat templates: rendering by jinja2 in a sandbox with limits, with the helpers that Hugging Face templates expect."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from selfevo_jax.errors import ModelError

MAX_TEMPLATE = 200_000
"""Characters of a template."""
MAX_OUTPUT = 1_000_000
"""Characters that a template may write."""
MAX_STEPS = 100_000
"""Numbers that the ranges of one rendering may give in all."""
TODAY = datetime.datetime(2024, 7, 26)
"""What `strftime_now` takes for today: with the real date the prompts of a run would change overnight."""


class _TooMuch(Exception):
    """A limit was passed."""


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says; it prints its body."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "%"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise _TooMuch(f"'{operator}' is not allowed")
        for value, times in ((left, right), (right, left)):
            repeats = isinstance(value, str | list | tuple) and isinstance(times, int)
            if operator == "*" and repeats and len(value) * times > MAX_OUTPUT:
                raise _TooMuch(f"a value of more than {MAX_OUTPUT} parts")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _strftime_now(form: str) -> str:
    return TODAY.strftime(form)


def _bounded_range() -> Callable[..., range]:
    left = [MAX_STEPS]

    def bounded(*bounds: int) -> range:
        numbers = range(*bounds)
        left[0] -= len(numbers)
        if left[0] < 0:
            raise _TooMuch(f"ranges of more than {MAX_STEPS} numbers in all")
        return numbers

    return bounded


class ChatTemplate:
    """A compiled chat template.

    Args:
      source: the jinja2 text.
      name: where it came from, for messages.
      variables: bos_token, eos_token and the like.

    Raises:
      ModelError: the template is too long or not valid jinja2.
    """

    def __init__(self, source: str, name: str, variables: dict[str, str] | None = None) -> None:
        self.name = name
        self._variables = variables or {}
        if len(source) > MAX_TEMPLATE:
            raise ModelError(f"{name}: chat template of {len(source)} characters; at most {MAX_TEMPLATE} are read")
        sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
        sandbox.filters["tojson"] = _to_json
        sandbox.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
        # Both make long texts out of nothing; no chat template needs them.
        sandbox.globals.pop("lipsum", None)
        sandbox.filters.pop("center", None)
        try:
            self._template = sandbox.from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelError(f"{name}: the chat template is not valid jinja2 ({error})") from error

    def render(self, messages: Sequence[dict[str, str]], *, generate: bool = True) -> str:
        """The text of a conversation; with `generate`, up to where the assistant is to speak.

        Raises ModelError naming the template when it refuses the messages, fails, or passes a limit.
        """
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(
                messages=[dict(m) for m in messages],
                add_generation_prompt=generate,
                range=_bounded_range(),
                **self._variables,
            ):
                size += len(part)
                if size > MAX_OUTPUT:
                    raise _TooMuch(f"a text of more than {MAX_OUTPUT} characters")
                parts.append(part)
        except _TooMuch as error:
            raise ModelError(f"{self.name}: the chat template was stopped: {error}") from error
        except Exception as error:  # a template can fail in any way that an expression can
            roles = ", ".join(m["role"] for m in messages)
            raise ModelError(f"{self.name}: the chat template refuses the turns ({roles}): {error}") from error
        return "".join(parts)
