"""A process of its own for sympy, which may take for ever, or all memory, on some expressions. Run as a script by
`workers`: one request a line, as JSON, and one answer a line.

{"gold", "text"} -> {"read": the text's expression, or null; "right": null where there is nothing to compare;
"failed": whether it could not be read or compared}.
{"gold"} or {"text"} alone -> {"read", "failed"}.
"""

import contextlib
import json
import signal
import sys

from math_verify import parse, verify

MEMORY = 4 << 30


def expressions(text: str) -> list:
    return parse(text, parsing_timeout=None, raise_on_error=True)


def answer(request: dict) -> dict:
    found: dict = {"read": None, "right": None, "failed": False}
    try:
        read = expressions(request["text"] if "text" in request else request["gold"])
        found["read"] = str(read[0]) if read else None
        if read and "gold" in request and "text" in request:
            found["right"] = verify(expressions(request["gold"]), read, timeout_seconds=None, raise_on_error=True)
    except Exception:  # a text can be anything
        found["failed"] = True
    return found


def limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    limit_memory()
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, 2 * asked["seconds"] + 5)  # ends this process if its parent is gone
        print(json.dumps(answer(asked)), flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)
