"""The blocks of a page of the documentation, and what is checked of each kind of them."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from markdown_it import MarkdownIt

from selfevo_jax.annotate.section import annotation
from selfevo_jax.cli import app
from selfevo_jax.config import Config, load_config, override, parse_config, read_tree, set_key
from selfevo_jax.config.forms import fields
from selfevo_jax.study import read_study

ROOT = Path(__file__).parents[1]
BASE = {
    "run_dir": "runs/mine",
    "model": {"source": "./model"},
    "data": {"prompts": "prompts.jsonl", "meta_skill": "meta.jsonl", "evaluation": {"mine": "test.jsonl"}},
}
"""The config that fragments are merged into."""
OTHERS = (
    *("cd", "gcloud", "gsutil", "git", "hf", "kubectl", "ls", "mlflow", "openssl", "sky", "source", "tensorboard"),
    *("cat", "head", "tail", "trackio", "vllm", "wandb", "xpk", "llama-cli", "export"),
)
"""Commands of others, which are taken as they are."""


@dataclass(frozen=True)
class Block:
    """A fenced or an indented block of code."""

    line: int
    language: str
    text: str


def blocks(text: str, first: int = 1) -> Iterator[Block]:
    """Those of a page in Markdown, and those inside its directives."""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("fence", "code_block") and token.map is not None:
            line, language = token.map[0] + first, token.info.strip()
            if language.startswith("{"):
                yield from blocks(token.content, line + 1)
            else:
                yield Block(line, language, token.content)


def spans(text: str) -> Iterator[tuple[int, str]]:
    """Code inside the sentences of a page, with the line where its paragraph begins."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or ():
            if child.type == "code_inline":
                yield (token.map or [0])[0] + 1, child.content


# --- YAML


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merged(under[k], v) for k, v in over.items() if isinstance(v, dict) and isinstance(under.get(k), dict)}
    return {**under, **over, **both}


def base_for(fragment: dict[str, Any]) -> dict[str, Any]:
    """The base config without what a fragment replaces."""
    data = dict(BASE["data"])
    given = fragment.get("data") or {}
    if {"stories", "task"} & given.keys():
        data = {}
    if "instructions" in given:
        data = {}
    if {"meta_from_solutions", "meta_from_equations"} & given.keys():
        data.pop("meta_skill")
    return {**BASE, "data": data}


def check_yaml(text: str, folder: Path) -> None:
    """A study, settings of an annotation, a whole config or a fragment of one, through the reader of each."""
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs" / "base.yaml").write_text(json.dumps(BASE))
    file = folder / "block.yaml"
    file.write_text(text)
    tree = read_tree(file)
    if "variants" in tree:
        file.write_text(re.sub(r"(?m)^base: .*$", "base: configs/base.yaml", text))
        read_study(file)
    elif "endpoint" in tree:
        annotation(tree, "block")
    elif {"run_dir", "model", "data"} <= tree.keys():
        load_config(file)
    else:
        parse_config(_merged(base_for(tree), tree))


# --- commands


@cache
def selfevo_commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return {"": group, **group.commands}


def _check_overrides(overrides: list[str], file: Path | None) -> None:
    if file is not None and file.exists():
        load_config(file, overrides)
        return
    pairs = [override(text) for text in overrides]
    asked: dict[str, Any] = {}
    for key, value in pairs:
        set_key(asked, key, value)
    tree = base_for(asked)
    for key, value in pairs:
        set_key(tree, key, value)
    parse_config(tree)


def check_selfevo(words: list[str]) -> None:
    """Options exist, arguments count, and overrides are keys of the config (of the file, where it is one of ours)."""
    if not words or words[0].startswith("-"):
        assert words in ([], ["--help"], ["--version"]), words
        return
    command = selfevo_commands()[words[0]]
    if "--help" in words:
        return
    given = command.make_context(words[0], words[1:]).params
    overrides = given.get("overrides") or []
    if "study" in given:
        read_study(ROOT / given["study"], overrides)
    elif overrides:
        about = str(given.get("config") or given.get("target") or "")
        _check_overrides(overrides, ROOT / about if about.endswith(".yaml") else None)


def check_make(words: list[str]) -> None:
    targets = re.findall(r"(?m)^([a-z][\w-]*):", (ROOT / "Makefile").read_text())
    settings = re.findall(r"(?m)^([A-Z]+)\s*\??=", (ROOT / "Makefile").read_text())
    for word in words:
        name, is_setting, _ = word.partition("=")
        assert name in (settings if is_setting else targets), f"make {word}"


def check_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if found := re.match(r"(?:\.|selfevo-jax)\[([^\]]+)\]", word):
            assert set(found[1].split(",")) <= extras.keys(), word


def check_script(file: str, words: list[str]) -> None:
    """A script of the repository: it exists, and knows the options."""
    path = ROOT / file
    assert path.is_file(), file
    known = path.read_text() if path.suffix == ".py" else "".join(p.read_text() for p in path.parent.glob("*.sh"))
    for option in (word.split("=")[0] for word in words if word.startswith("--")):
        assert option in known, f"{file} {option}"


def check_line(line: str) -> None:
    """Commands that are joined by `&&`."""
    words = shlex.split(line, comments=True)
    ends = [n for n, word in enumerate(words) if word == "&&"]
    for begin, end in zip([0, *(n + 1 for n in ends)], [*ends, len(words)], strict=True):
        check_command(words[begin:end])


def check_command(words: list[str]) -> None:
    while words and re.fullmatch(r"[A-Z][A-Z_0-9]*=.*", words[0]):
        words.pop(0)
    if not words:
        return
    program, rest = words[0], [word for word in words[1:] if word not in ("&",)]
    if program == "nohup":
        program, rest = rest[0], rest[1:]
    if any(word.startswith((">", "|")) for word in rest):
        rest = rest[: next(n for n, word in enumerate(rest) if word.startswith((">", "|")))]
    if program == "selfevo":
        check_selfevo(rest)
    elif program == "make":
        check_make(rest)
    elif program == "pip":
        check_pip(rest)
    elif program in ("python", "python3"):
        if rest[0] != "-m":
            check_script(rest[0], rest[1:])
    elif "/" in program and not program.startswith(("/", ".venv")):
        check_script(program, rest)
    else:
        assert program in OTHERS or program == ".", f"{program}: not known; add it to OTHERS if it is of others"


def check_console(text: str, folder: Path) -> None:
    """Lines behind `$ ` are commands, which may go on with a backslash; the others are what they print."""
    commands = [line[2:] for line in text.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    assert commands, "no command: begin its line with '$ '"
    for line in commands:
        check_line(line)


# --- Python


def _found(module: str, names: list[str]) -> dict[str, Any]:
    of = importlib.import_module(module)
    found = {}
    for name in names:
        try:
            found[name] = getattr(of, name)
        except AttributeError:
            found[name] = importlib.import_module(f"{module}.{name}")
    return found


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """What a dotted name is, where it begins with an import; None where that cannot be told."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        of = _value(node.value, known)
        if isinstance(of, ModuleType):
            assert hasattr(of, node.attr), f"{of.__name__} has no {node.attr}"
        return getattr(of, node.attr, None) if isinstance(of, ModuleType | type) else None
    return None


def check_python(text: str, names: set[str]) -> None:
    """It compiles, its imports are there, its names are bound (perhaps by an earlier block of the page: `names`), and
    functions that are imported know their keywords."""
    tree = ast.parse(text)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.split(".")[0]] = importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = _found(node.module, [alias.name for alias in node.names])
            known |= {alias.asname or alias.name: found[alias.name] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    names.update(known)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            assert node.id in names or hasattr(builtins, node.id), f"{node.id} is not bound"
        elif isinstance(node, ast.Attribute):
            _value(node, known)
        elif isinstance(node, ast.Call) and callable(of := _value(node.func, known)):
            _check_keywords(of, node)


def _check_keywords(of: Callable[..., Any], call: ast.Call) -> None:
    try:
        parameters = inspect.signature(of).parameters
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for keyword in call.keywords:
        assert keyword.arg is None or keyword.arg in parameters, f"{of.__name__} has no argument {keyword.arg}"


def check_json(text: str, folder: Path) -> None:
    json.loads(text)


def check_jsonl(text: str, folder: Path) -> None:
    for line in text.splitlines():
        json.loads(line)


def check_toml(text: str, folder: Path) -> None:
    tomllib.loads(text)


def check_nothing(text: str, folder: Path) -> None:
    """Of what programs print, and of trees of files."""


CHECKS: dict[str, Callable[[str, Path], None]] = {
    "yaml": check_yaml,
    "console": check_console,
    "json": check_json,
    "jsonl": check_jsonl,
    "toml": check_toml,
    "text": check_nothing,
}
"""Language of a block -> what is checked; `python` has names that blocks of a page share."""


_KEY = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)+)(?:[:=] ?.*)?")
_FILE = re.compile(r"\.(?:jsonl?|yaml|py|html|gguf|safetensors|d|annotate)$")


@cache
def _keys() -> frozenset[str]:
    return frozenset(name for name, _ in fields())


def check_span(code: str) -> None:
    """A command that sentences speak of exists, and so do its options; a key of the config is one."""
    words = code.split()
    if words[0] == "selfevo" and len(words) > 1 and words[1].islower() and not words[1].startswith("-"):
        command = selfevo_commands()[words[1]]
        known = {"--help", *(name for of in command.params for name in (*of.opts, *of.secondary_opts))}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, code
    elif words[0] == "make" and len(words) > 1:
        check_make(words[1:])
    elif words[0] == "pip":
        check_pip([word.strip("'") for word in words])
    elif (found := _KEY.fullmatch(code)) and not _FILE.search(found[1]):
        section = found[1].split(".")[0]
        assert section not in Config.model_fields or found[1] in _keys(), f"{found[1]} is no key of the config"


def check_page(text: str, folder: Path) -> int:
    """Every block of a page, and what its sentences name; how many blocks there are."""
    names: set[str] = set()
    found = list(blocks(text))
    for block in found:
        try:
            if block.language == "python":
                check_python(block.text, names)
            else:
                assert block.language in CHECKS, f"'{block.language}': expected python, {', '.join(CHECKS)}"
                CHECKS[block.language](block.text, folder)
        except Exception as error:
            raise AssertionError(f"line {block.line}: {type(error).__name__}: {error}\n{block.text}") from error
    for line, code in spans(text):
        try:
            check_span(code)
        except Exception as error:
            raise AssertionError(f"line {line}: `{code}`: {type(error).__name__}: {error}") from error
    return len(found)
