"""Secrets have no place in a config: a run writes its config down, and messages repeat parts of it."""

from __future__ import annotations

import re
from typing import Any

from selfevo_jax.errors import ConfigError

_NAMES = (
    r"(?:[\w.-]*(?:token|secret|passw(?:or)?d|passphrase|credentials?|signature|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|account[_-]?key|auth)|key|sig|pwd|pass|x-amz-[\w-]+|x-goog-[\w-]+|googleaccessid|awsaccesskeyid)"
)
_USER = re.compile(r"(?<=//)[^/@\s?#]*@")
_QUERY = re.compile(rf"(?<=[?&;#])({_NAMES})=([^&;#\s'\"]+)", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S*", re.IGNORECASE)
_HIDDEN = "***"


def _in_url(url: str) -> bool:
    return _USER.search(url) is not None or _QUERY.search(url) is not None


def hidden(text: str) -> str:
    """A text for a message, with the secrets of its URLs hidden."""
    return _QUERY.sub(rf"\1={_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))


def refuse_secrets(tree: Any) -> None:
    """Raises ConfigError, which names the key and not the secret, for a URL with a password, key or token in it.

    Every text of the tree is looked at once: values, lists, and names of keys.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            if any(_in_url(url) for url in _URL.findall(value)) or _USER.search(value):
                raise ConfigError(
                    f"{hidden(key) or 'config'}: a URL with credentials in it; a run would write them down. Give them "
                    "to the storage's own configuration or environment, and the URL without them"
                )
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for name, inner in pairs:
                full = f"{key}.{name}" if key else str(name)
                waiting += [(full, inner), (key, name)] if isinstance(name, str) else [(full, inner)]
