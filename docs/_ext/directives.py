"""Directives that put the generated tables on their pages."""

from __future__ import annotations

from typing import Any

import generated
from docutils import nodes
from pygments.lexers.data import JsonLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class ConfigReference(SphinxDirective):
    """`{config-reference}`: every key of the config."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(generated.config_reference(), allow_section_headings=True)


class CommandReference(SphinxDirective):
    """`{command-reference}`: every command."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(generated.command_reference(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_lexer("jsonl", JsonLexer)
    app.add_directive("config-reference", ConfigReference)
    app.add_directive("command-reference", CommandReference)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
