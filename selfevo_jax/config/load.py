"""Reading a config: YAML plus dotted overrides.

`2e-5` is a number although YAML 1.1 reads it as text.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selfevo_jax.config.sections import Config, Section
from selfevo_jax.errors import ConfigError, first_line
from selfevo_jax.storage import place
from selfevo_jax.untrusted import read_bounded

MAX_BYTES = 1 << 20
"""Of a config file."""
_SHOWN = 200
_MALFORMED = (yaml.YAMLError, ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What the YAML reader raises on text that is no config."""
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


class _Loader(yaml.SafeLoader):
    """SafeLoader whose floats include `2e-5` (YAML 1.2), and which refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: key '{key}' stands twice; remove one")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def _nearest(location: tuple[str | int, ...]) -> str:
    """The known key nearest to an unknown one, as a hint."""
    section: Any = Config
    for part in location[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:
            return ""
        kinds = getattr(field.annotation, "__args__", (field.annotation,))
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
    known = list(getattr(section, "model_fields", {}))
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(known)}"


def _short(value: Any) -> str:
    """A value for a message: a small file may hold a tree that is endless when written out."""
    text = repr(value[:_SHOWN]) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse_secrets(value: Any, key: str = "") -> None:
    """Raises ConfigError for a URL with a password or token in it: a run writes its config and its sources down."""
    if isinstance(value, str) and _CREDENTIALS.search(value):
        raise ConfigError(
            f"{key}: a URL with credentials in it; a run would write them down. Give them to the storage's own "
            "configuration or environment, and the URL without them"
        )
    for name, inner in value.items() if isinstance(value, dict) else ():
        _refuse_secrets(inner, f"{key}.{name}" if key else str(name))


def _explain(origin: str, error: ValidationError) -> ConfigError:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "config"
        if item["type"] == "extra_forbidden":
            lines.append(f"{origin}: unknown key '{key}'{_nearest(item['loc'])}")
        else:
            found = "" if item["type"] == "missing" else f" (found {_short(item['input'])})"
            lines.append(f"{origin}: {key}: {item['msg']}{found}")
    return ConfigError("\n".join(lines))


def _override(tree: dict[str, Any], text: str) -> None:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigError(f"override '{text}': expected key=value, for example rounds.number=2")
    *path, last = key.split(".")
    for part in path:
        branch = tree.setdefault(part, {})
        if branch is None:
            branch = tree[part] = {}
        if not isinstance(branch, dict):
            raise ConfigError(f"override '{text}': '{part}' is a value, not a section")
        tree = branch
    try:
        tree[last] = yaml.load(value, Loader=_Loader)  # a SafeLoader: builds plain values only
    except _MALFORMED as error:
        raise ConfigError(f"override {_short(text)}: the value is not valid YAML ({first_line(error)})") from error


def parse_config(tree: dict[str, Any], origin: str = "config") -> Config:
    """Checks a tree of plain values. Raises ConfigError naming every faulty key."""
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise _explain(origin, error) from error
    try:
        _refuse_secrets(config.model_dump(mode="json"))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    return config


def load_config(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Config:
    """Reads a YAML file and applies `key=value` overrides (dotted keys, values as YAML).

    Raises ConfigError naming the file and the key when the file is missing, malformed or has a faulty value.
    """
    file = place(path)
    if not file.is_file():
        raise ConfigError(f"{file}: no such config file; see configs/ for examples")
    content = read_bounded(file, MAX_BYTES, ConfigError, "no config is so large")
    try:
        tree = yaml.load(content.decode("utf-8"), Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    except _MALFORMED as error:
        raise ConfigError(f"{file}: not a valid YAML file ({error})") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected sections such as 'model:', found {type(tree).__name__}")
    for text in overrides:
        _override(tree, text)
    return parse_config(tree, str(file))


def dump_config(config: Config) -> str:
    """The whole config as YAML, defaults included."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
