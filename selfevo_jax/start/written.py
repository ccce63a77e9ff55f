"""A config as YAML that explains itself: sections, values, and a word beside each that needs one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from selfevo_jax.config.load import Dumper

WIDTH = 110
_FLOW = 2
"""Depth from which a section stands in one line."""


def commented(tree: Mapping[str, Any], comments: Mapping[str, str], head: Sequence[str]) -> str:
    """YAML of a tree. `comments`: dotted key -> what stands beside it; `head`: lines at the top."""
    lines = [f"# {line}".rstrip() for text in head for line in text.splitlines()]
    for key, value in tree.items():
        if isinstance(value, dict):
            lines.append("")
        lines += _entry(key, value, comments, 0, key)
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, comments: Mapping[str, str], depth: int, path: str) -> Iterator[str]:
    indent, comment = "  " * depth, comments.get(path, "")
    if isinstance(value, dict) and value and depth + 1 < _FLOW:
        yield from _above(comment, indent)
        yield f"{indent}{key}:"
        for inner, of in value.items():
            yield from _entry(inner, of, comments, depth + 1, f"{path}.{inner}")
        return
    line = f"{indent}{key}: {_plain(value)}"
    if comment and len(line) + len(comment) + 4 <= WIDTH and "\n" not in comment:
        yield f"{line}  # {comment}"
    else:
        yield from _above(comment, indent)
        yield line


def _above(comment: str, indent: str) -> Iterator[str]:
    for part in comment.splitlines():
        for line in textwrap.wrap(part, WIDTH - len(indent) - 2):
            yield f"{indent}# {line}"


def _plain(value: Any) -> str:
    """A value in one line."""
    style = '"' if isinstance(value, str) and "\n" in value else None
    text = yaml.dump(
        value,
        Dumper=Dumper,
        default_flow_style=True,
        default_style=style,
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
    )
    return text.removesuffix("\n").removesuffix("\n...").rstrip("\n")
