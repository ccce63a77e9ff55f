"""The `selfevo` command."""

from __future__ import annotations

import errno
import sys

from rich.console import Console

from selfevo_jax import process
from selfevo_jax.cli import (  # noqa: F401 - they bring their commands to `app`
    annotate,
    asking,
    export,
    first,
    forks,
    keys,
    measure,
    reading,
    runs,
    studies,
    tools,
    tracking,
    winrate,
)
from selfevo_jax.cli.common import app
from selfevo_jax.errors import SelfevoError
from selfevo_jax.progress import plain

_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
"""Errors of a write, which the system gives without the name of the file."""


def main() -> None:
    """Entry point: a user's error is one clear line and exit code 2; 75 says that the same command goes on.

    After an error the process ends at once: threads of Orbax wait five minutes for each other after a failed save.
    """
    process.prepare()
    process.end_at_once_on_second_interrupt()
    for word in sys.argv[1:]:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            _end(f"{word}: not UTF-8; write texts and names of files as UTF-8", 2)
    try:
        app()
    except SelfevoError as error:
        _end(str(error), error.exit_code)
    except OSError as error:  # of a file of the user's, whichever it is
        if error.filename is None and error.errno not in _OF_DISK:
            raise
        _end(f"{error.filename or 'a file'}: {error.strerror}; look at the disk, the name and the rights to it", 2)
    except SystemExit as end:
        if end.code:
            process.leave_now(end.code if isinstance(end.code, int) else 1)


def _end(message: str, code: int) -> None:
    Console(stderr=True).print(plain(f"error: {message}"), style="red", highlight=False, markup=False, soft_wrap=True)
    process.leave_now(code)
