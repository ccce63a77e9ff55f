"""What the processes of a run have warned of, kept beside it, so that its page says what the terminal said.

It is no record of the run: nothing is made from it, it is written without waiting for the disk, and a run goes on
where it cannot be written.
"""

from __future__ import annotations

import contextlib
import json
import threading

from selfevo_jax import hosts
from selfevo_jax.errors import SelfevoError
from selfevo_jax.progress import Reporter
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.storage import storage_of
from selfevo_jax.untrusted import read_bounded

WARNINGS = ".warnings.json"
MOST = 1000
"""Warnings that are kept; of more the last ones."""
_LENGTH = 2000
"""Characters of one."""
_SIZE = 16 * MOST * _LENGTH


def warned(run: RunDir) -> list[str]:
    """Each warning once, in the order in which they were first said. What cannot be read is nothing said."""
    file = run.root / WARNINGS
    try:
        content = read_bounded(file, _SIZE, SelfevoError, "remove it") if file.exists() else b"[]"
        found = json.loads(content.decode("utf-8"))
    except (SelfevoError, OSError, ValueError, RecursionError):
        return []
    return list(dict.fromkeys(filter(_is_text, found)))[-MOST:] if isinstance(found, list) else []


def _is_text(value: object) -> bool:
    return isinstance(value, str)


class Warned:
    """Hears what a reporter warns of, from now until `close`, and keeps it beside a run once that is open."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter, self._before = reporter, reporter.on_warning
        self._run: RunDir | None = None
        self._said = dict[str, None]()
        self._alone = threading.Lock()  # trackers warn in threads of their own
        reporter.on_warning = self._hear

    def into(self, run: RunDir) -> None:
        """Keeps what was heard, and all that comes, beside a run that this process owns. Process 0 keeps it."""
        if not hosts.is_writer():
            return
        with self._alone:
            known = warned(run)
            self._run, self._said = run, dict.fromkeys([*known, *self._said])
            if len(self._said) > len(known):
                self._keep()

    def close(self) -> None:
        self._reporter.on_warning = self._before

    def _hear(self, text: str) -> None:
        self._before(text)
        with self._alone:
            if (short := text[:_LENGTH]) not in self._said:
                self._said[short] = None
                self._keep()

    def _keep(self) -> None:
        if self._run is None:
            return
        with contextlib.suppress(OSError, SelfevoError):
            self._run.check()  # what another process owns by now is not this one's to write
            file = self._run.root / WARNINGS
            content = json.dumps(list(self._said)[-MOST:], indent=1)  # in ASCII: a name in a text need not be text
            storage_of(file).note(file, content.encode("ascii"))
