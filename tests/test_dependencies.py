"""What the package imports is declared, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEFAULT, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
TOOLS = ("dev", "docs")
"""Extras of who works on the package."""
CARD = ("jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "sentencepiece")
"""What the package is made with, as it was asked for."""
MODULES = {
    "orbax-checkpoint": "orbax",
    "tensorflow-datasets": "tensorflow_datasets",
    "pyyaml": "yaml",
    "huggingface-hub": "huggingface_hub",
    "lm-eval": "lm_eval",
    "math-verify": "math_verify",
    "mlflow-skinny": "mlflow",
}
"""Distribution -> the module that it is imported as, where the names differ."""
COME_WITH = {
    "scipy": "jax",
    "ml_dtypes": "jax",
    "libtpu": "jax",
    "jax_plugins": "jax",
    "pydantic_core": "pydantic",
    "fsspec": "gcsfs",
    "google_crc32c": "gcsfs",
}
"""Module -> the declared distribution that brings it."""
NAMED = ("extra", "import_module", "find_spec")
"""Functions that import what their first argument names."""
_TRACKERS = {"wandb", "trackio"}
"""Imported by the name of their kind."""


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()


def imports() -> Iterator[tuple[str, str, bool]]:
    """Each module from outside, the file that imports it (also by its name as a text), and whether that is when it is
    loaded."""
    for file in (ROOT / "selfevo_jax").rglob("*.py"):
        waiting: list[tuple[ast.AST, bool]] = [(ast.parse(file.read_text(encoding="utf-8")), True)]
        while waiting:
            node, at_load = waiting.pop()
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = getattr(node.func, "attr", getattr(node.func, "id", None))
                names = [str(node.args[0].value)] if called in NAMED else []
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "selfevo_jax":
                    yield top, str(file.relative_to(ROOT)), at_load
            at_load = at_load and not isinstance(node, ast.FunctionDef)
            waiting += [(inner, at_load) for inner in ast.iter_child_nodes(node)]


FOUND = set(imports())
IMPORTED = {name for name, _, _ in FOUND}


def modules(requirements: list[str]) -> set[str]:
    return {MODULES.get(name, name.replace("-", "_")) for name in map(name_of, requirements)}


@pytest.mark.parametrize("requirement", DEFAULT)
def test_every_default_dependency_is_imported(requirement: str) -> None:
    (module,) = modules([requirement])
    assert {found.lower() for found in IMPORTED} & {module}


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - set(TOOLS)))
def test_every_package_of_an_extra_is_imported(extra: str) -> None:
    assert modules(EXTRAS[extra]) <= {found.lower() for found in IMPORTED} | _TRACKERS


def test_every_import_from_outside_is_declared_or_comes_with_what_is_declared() -> None:
    known = modules([*DEFAULT, *(one for name, extra in EXTRAS.items() if name not in TOOLS for one in extra)])
    assert {(name, file) for name, file, _ in FOUND if name.lower() not in known | COME_WITH.keys()} == set()


@pytest.mark.parametrize(("module", "owner"), sorted(COME_WITH.items() - {("jax_plugins", "jax")}))
def test_what_comes_with_a_dependency_is_required_by_it(module: str, owner: str) -> None:
    try:
        told = metadata.requires(owner) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"{owner} is not installed")
    found, further = {name_of(one).replace("-", "_") for one in told}, set()
    for one in found:
        try:
            further |= {name_of(each).replace("-", "_") for each in metadata.requires(one) or []}
        except metadata.PackageNotFoundError:
            continue
    assert module in found | further


def test_the_packages_that_were_asked_for_are_default_dependencies() -> None:
    assert set(CARD) <= {name_of(requirement) for requirement in DEFAULT}


@pytest.mark.parametrize("module", ["tensorflow_datasets", "orbax", "sentencepiece", "pyarrow", "scipy", "jinja2"])
def test_what_few_runs_need_is_imported_when_it_is_used(module: str) -> None:
    loaded = {file for name, file, at_load in FOUND if name == module and at_load}
    # the child that renders templates, and the backend that sentencepiece is, are imported by name themselves
    assert loaded <= {"selfevo_jax/text/template_child.py", "selfevo_jax/text/sentencepiece_backend.py"}
