"""One HTML document out of the template, its style, its script and what it shows.

What a model said goes in as data alone: figures as JSON, chains as compressed JSON, both in script blocks of a type
that no browser runs. The script puts it on the page by `textContent`; the content-security policy lets the one script
of the page run, by its hash, and lets nothing be loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

_SCRIPTS = ("dom", "charts", "tables", "figures", "rounds", "costs", "chains", "compare", "main")
"""Files of `js/`, in the order in which they come."""
_MARK = re.compile(r"@@([a-z]+)@@")
_ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def document(title: str, sentences: Sequence[str], figures: Mapping[str, Any], chains: Sequence[Any]) -> bytes:
    """Args: `figures` and `chains`: plain JSON values. The same arguments give the same bytes.

    Raises ValueError for a number that is not finite.
    """
    style, script = _asset("page.css"), _script()
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    parts = {
        "policy": html.escape(policy, quote=False),
        "title": html.escape(title),
        "style": style,
        "sentences": "".join(f"<p>{html.escape(told)}</p>" for told in sentences),
        "figures": _json(figures).translate(_ESCAPED),
        "chains": base64.b64encode(zlib.compress(_json(chains).encode("ascii"), 9)).decode("ascii"),
        "script": script,
    }
    # at once: a mark within what is put in is none. The name of a folder need not be text
    return _MARK.sub(lambda found: parts[found[1]], _asset("page.html")).encode("utf-8", "replace")


def _json(value: Any) -> str:
    """In ASCII: whatever a model wrote, half a character too, can be stored."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _script() -> str:
    parts = "\n".join(_asset(f"js/{name}.js") for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
