"""The documentation as a whole: links, generated tables, messages, and the size of the README."""

import ast
import re
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from docs_blocks import ROOT

sys.path.insert(0, str(ROOT / "docs" / "_ext"))

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
PAGES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in p.parts)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    lost = [
        target
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert lost == []


def test_the_readme_has_at_most_150_lines_and_shows_its_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert "docs/_static/round.svg" in pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
    xml.parse(ROOT / "docs" / "_static" / "round.svg")


def test_pictures_are_small() -> None:
    assert sum(file.stat().st_size for file in (ROOT / "docs" / "_static").iterdir()) <= 220_000


def test_every_key_of_the_config_says_what_it_is_for() -> None:
    import generated

    assert generated.keys_without_meaning() == []


def test_every_key_and_every_command_is_in_the_reference() -> None:
    import generated

    from selfevo_jax.config.forms import fields

    told = generated.config_reference()
    assert [name for name, _ in fields() if f"| `{name.rpartition('.')[2]}` |" not in told] == []
    told = generated.command_reference()
    assert [name for name in generated.commands() if f"## `selfevo {name}`" not in told] == []


def said_in_code() -> str:
    """Every text of the package; what is filled in is a line of its own."""
    found = []
    for file in (ROOT / "selfevo_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_message_that_is_explained_is_one_that_the_program_says() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"(?m)^\*\*`(.+)`\*\*$", page)
    said = said_in_code()
    assert len(messages) > 30
    parts = [(message, part.strip()) for message in messages for part in message.split("...") if part.strip()]
    assert [(message, part) for message, part in parts if part not in said] == []
