"""The rooms of the package: each imports only from rooms below it, and no two modules import each other."""

import ast
import importlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from selfevo_jax.methods.registry import BUILT_IN as METHODS

PACKAGE = Path(__file__).parents[1] / "selfevo_jax"
LEVELS = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"study", "export"},
    {"report", "harness", "start", "annotate"},
    {"rounds", "plan"},
    {"methods", "tasks"},
    {"run"},
    {"config"},
    {"evaluate", "train"},
    {"chains"},
    {"data", "sample", "checkpoint"},
    {"model"},
    {"scorers", "judges", "trackers"},
    {"text"},
    {"sharding"},
    {"native"},
    {"untrusted", "progress", "accelerators"},
    {"notice"},
    {"hosts", "storage"},
    {"plugins", "hub"},
    {"process", "errors", "section", "lazy"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
MODULES = {file: file.relative_to(PACKAGE).with_suffix("").parts for file in sorted(PACKAGE.rglob("*.py"))}


def imported(file: Path, at_load_alone: bool = False):
    """The modules of the package that a file names in its imports; `at_load_alone` leaves those in functions out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inner = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    for node in ast.walk(tree):
        if at_load_alone and id(node) in inner:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            for alias in node.names:
                inside = (*node.module.split(".")[1:], alias.name)
                yield inside if inside in MODULES.values() or (*inside, "__init__") in MODULES.values() else inside[:-1]


def test_every_room_has_its_level():
    assert {parts[0] for parts in MODULES.values()} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("room", sorted(LEVEL))
def test_a_room_imports_only_from_rooms_below(room):
    found = [
        f"{'/'.join(parts)} imports {'.'.join(other)}"
        for file, parts in MODULES.items()
        if parts[0] == room
        for other in imported(file)
        if other and other[0] != room and LEVEL[other[0]] <= LEVEL[room]
    ]
    assert found == []


ANY_TASK_ANY_METHOD = ("run", "rounds", "study", "report", "plan")


def test_what_runs_any_task_and_any_method_names_none_of_ours():
    methods = "|".join([*METHODS, *(method.__name__ for method in METHODS.values())])
    tasks = "|".join(p.parent.name for p in (PACKAGE / "tasks").glob("*/__init__.py"))
    named = re.compile(rf"(?<![A-Za-z])({methods})(?![A-Za-z])|(data\.|tasks\.|from_|[\"'])({tasks})\b")
    found = [
        f"{'/'.join(parts)}:{number}: {line.strip()}"
        for file, parts in MODULES.items()
        if parts[0] in ANY_TASK_ANY_METHOD
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if named.search(line)
    ]
    assert found == []


def test_no_modules_import_each_other_in_a_circle():
    names = set(MODULES.values())
    needs = {
        parts: {
            inside
            for other in imported(file, at_load_alone=True)
            for inside in (other, (*other, "__init__"))
            if inside in names and inside != parts
        }
        for file, parts in MODULES.items()
        if parts[-1] != "__init__"
    }
    while needs:
        free = {parts for parts, others in needs.items() if not others & needs.keys()}
        assert free, f"a circle among {sorted('/'.join(parts) for parts in needs)}"
        needs = {parts: others for parts, others in needs.items() if parts not in free}


def test_levels_name_each_room_once():
    assert len(LEVEL) == len(list(itertools.chain(*LEVELS)))


OFFERS = sorted(file.parent for file in MODULES if file.name == "__init__.py" and "on_demand(" in file.read_text())


@pytest.mark.parametrize("room", OFFERS, ids=lambda room: room.name)
def test_a_room_that_imports_on_demand_offers_all_its_names_and_none_is_that_of_a_module(room):
    package = importlib.import_module(".".join([PACKAGE.name, *room.relative_to(PACKAGE).parts]))
    assert all(hasattr(package, name) for name in package.__all__)
    assert not set(package.__all__) & {file.stem for file in room.iterdir()}
    assert {name for name in dir(package) if not name.startswith("__")} == set(package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_faulty_config_is_refused_before_jax_is_imported():
    begin = "from selfevo_jax.cli.common import app; import selfevo_jax.cli, sys, contextlib\n"
    run = "with contextlib.suppress(SystemExit, Exception): app(['evolve', 'configs/quickstart.yaml', 'lr=1'])\n"
    tell = "print(sorted({'jax', 'pydantic'} & sys.modules.keys()))\n"
    code = begin + tell + run + tell
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['pydantic']"]
