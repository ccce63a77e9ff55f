"""Every block of the documentation is read as a user would give it: configs, commands, Python."""

import sys
from pathlib import Path

import pytest
from docs_blocks import ROOT, check_page

sys.path.insert(0, str(ROOT / "docs" / "_ext"))

PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts),
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_is_what_it_says(page: Path, tmp_path: Path) -> None:
    check_page(page.read_text(encoding="utf-8"), tmp_path)


def test_the_examples_in_the_help_of_commands_can_be_typed(tmp_path: Path) -> None:
    import generated

    assert check_page(generated.command_reference(), tmp_path) >= len(generated.commands()) - 1


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```yaml\nrounds: {nubmer: 3}\n```", "did you mean 'number'"),
        ("```yaml\nrounds: {number: many}\n```", "expected a whole number"),
        ("```console\n$ selfevo evolve mine.yaml --fast\n```", "--fast"),
        ("```console\n$ selfevo fork runs/mine\n```", "Missing"),
        ("```console\n$ selfevo evolve mine.yaml rounds.nubmer=3\n```", "did you mean 'number'"),
        ("```console\n$ make tea\n```", "make tea"),
        ("```console\n$ pip install 'selfevo-jax[tea]'\n```", "tea"),
        ("```console\n$ python benchmarks/sampling.py --tea\n```", "--tea"),
        ("```console\n$ teapot\n```", "teapot: not known"),
        ("```python\nfrom selfevo_jax.config import teapot\n```", "teapot"),
        ("```python\nprint(teapot)\n```", "teapot is not bound"),
        ("    selfevo evolve mine.yaml", "expected python, yaml"),
        ("See `selfevo teapot`.", "teapot"),
        ("See `selfevo report RUN --tea`.", "--tea"),
        ("Set `rounds.tea: 3`.", "rounds.tea is no key"),
        ("Set `data.evaluation_rows=3` or `make tea`.", "make tea"),
        ("```{note}\n~~~yaml\nrounds: {nubmer: 3}\n~~~\n```", "did you mean 'number'"),
    ],
)
def test_a_block_that_would_fail_is_named_with_its_fault(block: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="line ") as error:
        check_page(f"Some words.\n\n{block}\n", tmp_path)
    assert said in str(error.value)
