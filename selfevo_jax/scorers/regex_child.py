"""A process of its own for patterns, which may take for ever on some texts. Run as a script by `workers`: one request a
line, as JSON, and one answer a line."""

import json
import re
import signal
import sys


def found(pattern: str, text: str) -> str | None:
    """The group of the last match; None without a match."""
    last = None
    compiled = re.compile(pattern)
    for match in compiled.finditer(text):
        last = match
    if last is None:
        return None
    return last.group("answer" if "answer" in compiled.groupindex else 1)


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, 2 * request["seconds"] + 5)  # ends this process if its parent is gone
        print(json.dumps(found(request["pattern"], request["text"])), flush=True)
        signal.setitimer(signal.ITIMER_REAL, 0)
