"""Secrets have no place in a config: a run writes its config down, and messages repeat parts of it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from selfevo_jax.errors import ConfigError

_NAME = re.compile(
    r"(?:[\w.-]*(?:token|secret|passw(?:or)?d|passphrase|credentials?|signature|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|account[_-]?key|auth|authori[sz]ation|session(?:[_-]?id)?)|key|sig|sas|jwt|bearer|dsn|pwd?|pass"
    r"|x-amz-[\w-]+|x-goog-[\w-]+|googleaccessid|awsaccesskeyid)(?:\[\w*\])?",
    re.IGNORECASE,
)
_OF_QUERY = re.compile(r"(?:code|[\w.-]*[_-]key)(?:\[\w*\])?", re.IGNORECASE)
"""Further names, which are ordinary words outside of a URL."""
_USER = re.compile(r"(?:(?<=//)|(?<=[a-z][a-z]:/))(?:[^/@\s?#]*|[^/@\s?#:]*:(?!\d+(?:/|$))\S*)@", re.IGNORECASE)
"""A name, or a name and a password, which may hold any sign; but no port."""
_SETTING = re.compile(r"(?<![^?&;#\s,])([^=:?&;#\s,'\"]+?)(\s*[=:]\s*|%3[ad])(?!//)([^&;#\s'\"]+)", re.IGNORECASE)
_QUERY = re.compile(r"(?<=[?&;#])([^=?&;#\s'\"]+)=[^&;#\s'\"]")
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/\S*", re.IGNORECASE)
_CONNECTION = re.compile(r"\b(?:AccountKey|SharedAccess(?:Key|Signature))=", re.IGNORECASE)
_SETTING_NAME = re.compile(
    r"[\w.-]*(?:api[_-]?key|access[_-]?key|private[_-]?key|secret|passw(?:or)?d|passphrase"
    r"|(?:access|api|auth|bearer|hf)[_-]?token)|token",
    re.IGNORECASE,
)
"""What a setting of anything may not be called: plug-ins take settings that are not known here."""
_OWN_NAMES = ("data.evaluation", "data.open_ended")
"""Sections whose keys the user makes up."""
_HIDDEN = "***"


def _is_secret(name: str, of_query: bool = True) -> bool:
    patterns = (_NAME, _OF_QUERY) if of_query else (_NAME,)
    return any(pattern.fullmatch(unquote(name)) for pattern in patterns)


def _in_url(url: str) -> bool:
    return _USER.search(url) is not None or any(_is_secret(name) for name in _QUERY.findall(url))


def hidden(text: str) -> str:
    """A text for a message, with the secrets of its URLs, and of names and values as `password=...`, hidden."""

    def shown(setting: re.Match[str]) -> str:
        of_query = setting.string[: setting.start()].endswith(("?", "&", ";", "#"))
        return f"{setting[1]}{setting[2]}{_HIDDEN}" if _is_secret(setting[1], of_query) else setting[0]

    return _SETTING.sub(shown, _USER.sub(f"{_HIDDEN}@", text))


def refuse_secrets(tree: Any) -> None:
    """Raises ConfigError, which names the key and not the secret, for a URL with a password, key or token in it, and
    for a setting that is one by its name.

    Every text of the tree is looked at once: values, lists, and names of keys.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            urls = [one for url in _URL.findall(value) for one in (url, unquote(url))]
            if any(map(_in_url, urls)) or _USER.search(value) or _CONNECTION.search(value):
                raise ConfigError(
                    f"{hidden(key) or 'config'}: a URL with credentials in it; a run would write them down. Give them "
                    "to the storage's own configuration or environment, and the URL without them"
                )
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for name, inner in pairs:
                full = f"{key}.{name}" if key else str(name)
                if isinstance(inner, str) and inner and key not in _OWN_NAMES and _SETTING_NAME.fullmatch(str(name)):
                    raise ConfigError(
                        f"{hidden(full)}: a key or password; a run would write it down, and show it on its page. Give "
                        "it by the environment"
                    )
                waiting += [(full, inner), (key, name)] if isinstance(name, str) else [(full, inner)]
