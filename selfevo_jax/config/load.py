"""Reading a config: YAML plus dotted overrides, and one line for each fault.

`2e-5` is a number although YAML 1.1 reads it as text; unknown keys are refused with the nearest known one.
"""

from __future__ import annotations

import copy
import difflib
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from selfevo_jax.config.forms import Location, expected, may_be_null, nearest, section_at, sections_in
from selfevo_jax.config.secrets import hidden, refuse_secrets
from selfevo_jax.config.sections import Config
from selfevo_jax.errors import ConfigError, first_line
from selfevo_jax.storage import did_you_mean, place
from selfevo_jax.untrusted import read_bounded

MAX_BYTES = 1 << 20
"""Of a config file."""
_SHOWN = 200
_FAULTS = 20
"""Of one config that are named; more are counted."""
_MALFORMED = (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What the YAML reader raises on text that is no config."""


class _Loader(yaml.SafeLoader):
    """SafeLoader whose numbers are those of YAML 1.2 (`2e-5` is one), and which refuses a duplicated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(
                    f"line {key_node.start_mark.line + 1}: key '{_short(key)}' is duplicated; remove one of the two"
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Joins a character that is written as two, which JSON does: YAML would make two halves of it."""
        text = super().construct_scalar(node)
        if not _HALF.search(text):
            return text
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise ConfigError(
                f"line {node.start_mark.line + 1}: half of a surrogate pair, which is no character; write the text as "
                "UTF-8"
            ) from None


_HALF = re.compile("[\ud800-\udfff]")


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][\d_]*)|0x[\da-fA-F]+",
    "tag:yaml.org,2002:float": r"[-+]?(?:(?:\d[\d_]*\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN)",
}
"""Of YAML 1.2: in 1.1, 010 is 8 and 1:30 is 90, without a word."""
_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] not in _NUMBERS]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list("-+0123456789."))


class Dumper(yaml.SafeDumper):
    """Writes what `read_tree` reads back: what is a number there, such as the text `1e3`, is quoted."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Breaks of lines other than `\\n` are folded in single quotes."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if _BREAK.search(text) else None)


_BREAK = re.compile(r"[\r\x85\u2028\u2029]")
Dumper.add_representer(str, _text)
for _tag, _pattern in _NUMBERS.items():
    Dumper.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list("-+0123456789."))


def _short(value: Any) -> str:
    """A text for a message, without secrets."""
    text = hidden(str(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _shown(value: Any) -> str:
    """A faulty value for a message. Of sections and lists the size alone: they may hold anything."""
    if isinstance(value, dict):
        return "a section" if value else "an empty section"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{_short(value)}'" if isinstance(value, str) else _number(value)


def _number(value: Any) -> str:
    try:
        return _short(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def _explain(origin: str, error: ValidationError, tree: Any) -> ConfigError:
    lines = []
    every = error.errors(include_url=False)
    # a list whose one item is faulty is also too short: the item alone is the fault
    inner = {item["loc"][:size] for item in every for size in range(len(item["loc"]))}
    found = [item for item in every if item["type"] != "too_short" or item["loc"] not in inner]
    for item in found[:_FAULTS]:
        location = item["loc"]
        key = _short(".".join(str(part) for part in location if part != "[key]")) or "config"
        if item["type"] == "extra_forbidden":
            lines.append(f"{origin}: unknown key '{key}'{nearest(location, tree)}{_listed(location, tree)}")
        elif item["type"] == "missing":
            lines.append(f"{origin}: {key}: missing; expected {expected(location, tree)}")
        elif item["type"] == "value_error":
            where = f"{key}: " if location else ""
            lines += [f"{origin}: {where}{line}" for line in str(item["ctx"]["error"]).splitlines()]
        elif item["type"] == "finite_number" and location[-1] == "float":  # settings of any form
            inside = ".".join(str(part) for part in location[:-1] if part not in ("list", "dict"))
            lines.append(f"{origin}: {_short(inside)}: found {_shown(item['input'])}, expected a finite number")
        else:
            quotes = ""
            if isinstance(item["input"], dict | list) and "a text" in expected(location, tree):
                quotes = " (a text with {, [, : or # wants quotes in YAML)"
            wanted = f"expected {expected(location, tree)}{quotes}{_meant(item)}"
            lines.append(f"{origin}: {key}: found {_shown(item['input'])}, {wanted}")
    if len(found) > _FAULTS:
        lines.append(f"{origin}: and {len(found) - _FAULTS} more faults")
    return ConfigError("\n".join(lines))


def _meant(item: ErrorDetails) -> str:
    """The nearest of a few words, where one of them was expected."""
    if item["type"] != "literal_error" or not isinstance(item["input"], str):
        return ""
    words = re.findall("'([^']*)'", item["ctx"]["expected"])
    near = difflib.get_close_matches(item["input"][:_SHOWN].lower(), words, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _listed(location: Location, tree: Any) -> str:
    """Where all keys of a section are listed."""
    if section_at(location[:-1], tree) is None:
        return ""
    section = _short(".".join(map(str, location[:-1])))
    return f" (`selfevo keys{' ' if section else ''}{section}` lists all)"


def _yaml_fault(error: BaseException) -> str:
    """What is wrong with a YAML text, and where; none of the text itself, which may hold secrets."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if isinstance(error, yaml.YAMLError):
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        problem = problem or type(error).__name__
        # the names of aliases and tags are text of the user's: a password may begin with "*" or "!"
        named = re.match("[^']*\\b(?:alias|anchor|handle|tag)\\b", problem)
        return (named[0] if named else _short(problem)) + where
    return "nested too deeply" if isinstance(error, RecursionError) else first_line(error).partition("'")[0].strip(" :")


def override(text: str) -> tuple[str, Any]:
    """Key and value of a `key=value` of the command line, the value as YAML. Raises ConfigError for anything else."""
    key, sign, value = text.partition("=")
    if not sign or not all(key.split(".")):
        raise ConfigError(f"override '{_short(text)}': expected key=value, for example rounds.number=2")
    if not value.strip():
        field = _field_at(key.split("."))
        if field is not None and field.is_required():
            raise ConfigError(f"override '{_short(text)}': no value, and {_short(key)} needs one")
        raise ConfigError(f"override '{_short(text)}': no value; write '{_short(key)}=null' for the default")
    try:
        return key, yaml.load(value, Loader=_Loader)  # a SafeLoader: builds plain values only
    except ConfigError as error:
        raise ConfigError(f"override of '{_short(key)}': {error}") from error
    except _MALFORMED as error:
        raise ConfigError(f"override of '{_short(key)}': the value is not valid YAML ({_yaml_fault(error)})") from error


def _field_at(location: Sequence[str]) -> FieldInfo | None:
    *path, last = location
    section = section_at(tuple(path))
    return None if section is None else section.model_fields.get(last)


def _is_named_in(field: FieldInfo | None) -> bool:
    """Whether a key holds sections under names of the user's, as `data.evaluation` does."""
    return field is not None and any(is_named for _, is_named in sections_in(field.annotation))


def _names(tree: Any, key: str) -> list[str]:
    """The names that a dotted key is made of. One that is there, as that of a set of `data.evaluation`, may hold dots
    itself: of those that fit it is the longest."""
    names, rest = list[str](), key.split(".")
    while rest:
        tree = tree if isinstance(tree, dict) else {}
        size = max((n for n in range(1, len(rest) + 1) if ".".join(rest[:n]) in tree), default=1)
        names.append(".".join(rest[:size]))
        rest, tree = rest[size:], tree.get(names[-1])
    return names


def set_key(tree: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key; None unsets it, or takes out an entry with a name of the user's. Sections on the way are
    copied: with YAML's anchors two keys may hold the same one. What is set takes the place of a key that says the same
    thing otherwise, as `steps` and `epochs` do."""
    *path, last = location = _names(tree, key)
    section, field = None, _field_at(location)
    for depth, part in enumerate(path, 1):
        section = section_at(tuple(path[:depth]))
        branch = tree.get(part) if section is None else section.written_out(tree.get(part))
        if branch is not None and not isinstance(branch, dict):
            raise ConfigError(f"override of '{_short(key)}': '{_short(part)}' is a value, not a section")
        tree[part] = tree = dict(branch or {})
    if value is None and field is not None and not may_be_null(field):
        tree.pop(last, None)
        return
    if value is None and field is None and path and _is_named_in(_field_at(path)):
        if last not in tree:
            there = ", ".join(map(str, tree)) or "none"
            raise ConfigError(f"override of '{_short(key)}': null takes an entry out; there are {_short(there)}")
        del tree[last]
        return
    tree[last] = value
    other = section.in_place_of.get(last) if section else None
    if value is not None and other in tree:
        tree[other] = None


def parse_config(tree: dict[str, Any], origin: str = "config") -> Config:
    """Checks a tree of plain values. Raises ConfigError naming every faulty key."""
    if {"base", "out"} <= tree.keys():
        raise ConfigError(f"{origin}: a study, and no config of one run; run it by `selfevo study`")
    try:
        refuse_secrets(tree)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _explain(origin, error, tree) from error


def usable_config(tree: dict[str, Any], origin: str = "config") -> tuple[Config | None, list[str]]:
    """`parse_config` for a user who is to hear all: without its faulty keys, where it is a config without them, and
    what is wrong with those."""
    try:
        return parse_config(tree, origin), []
    except ConfigError as error:
        faults = str(error).splitlines()
        cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return None, faults
    rest: dict[str, Any] = copy.deepcopy(tree)
    for item in cause.errors(include_url=False):
        if not _without(rest, [part for part in item["loc"] if part != "[key]"]):
            return None, faults
    try:
        return parse_config(rest, origin), faults
    except ConfigError:  # of what is left of sections that have lost keys, and so not of the user's
        return None, faults


def _without(tree: Any, location: Sequence[str | int]) -> bool:
    """Takes a key out of a tree; False where it is not there."""
    for part in location[:-1]:
        tree = tree.get(part) if isinstance(tree, dict) else None
    if not location or not isinstance(tree, dict):
        return False
    tree.pop(location[-1], None)
    return True


@functools.lru_cache(maxsize=8)
def _plain(text: str) -> Any:
    """What a YAML text holds; a run's own config is read in many places."""
    return yaml.load(text, Loader=_Loader)


def read_tree(path: str | Path) -> dict[str, Any]:
    """The sections of a YAML file as plain values. Raises ConfigError where it is missing, malformed, or none."""
    file = place(path)
    if not file.is_file():
        raise ConfigError(f"{file}: no such config file{did_you_mean(file)}; see configs/ for examples")
    content = read_bounded(file, MAX_BYTES, ConfigError, "no config is so large")
    try:
        tree = copy.deepcopy(_plain(content.decode("utf-8")))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not a text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except _MALFORMED as error:
        raise ConfigError(f"{file}: not a valid YAML file ({_yaml_fault(error)})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected sections such as 'model:', found {type(tree).__name__}")
    return tree


def load_config(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Config:
    """Reads a YAML file and applies `key=value` overrides (dotted keys, values as YAML).

    Raises ConfigError naming the file and the key when the file is missing, malformed or has a faulty value.
    """
    tree = read_tree(path)
    for text in overrides:
        set_key(tree, *override(text))
    return parse_config(tree, str(place(path)))


def dump_config(config: Config) -> str:
    """The whole config as YAML, defaults included."""
    text: str = yaml.dump(config.model_dump(mode="json"), Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return text
