"""The errors a user can cause. Each is one clear line: the thing, what was found, what was expected, the remedy."""

import json


class SelfevoError(Exception):
    """A fault in the user's input or set-up. The command line prints the message alone and exits with its code."""

    exit_code = 2


class ConfigError(SelfevoError):
    """A config file or override that cannot be used; the message names the key."""


class DataError(SelfevoError):
    """A data row that cannot be used; the message names file, line and field."""

    def __init__(self, file: object, line: int | None, field: str | None, problem: str) -> None:
        where = str(file) + (f":{line}" if line is not None else "") + (f", field '{field}'" if field else "")
        super().__init__(f"{where}: {problem}")


class ModelError(SelfevoError):
    """A checkpoint, tokenizer or template that cannot be used; the message names the file and the remedy."""


class EmptySelectionError(SelfevoError):
    """Nothing is left to learn from: the round stops, weights untouched, and is not marked as trained."""


class Preempted(SelfevoError):
    """A notice to end came: what was done is saved, and the same command goes on from there."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class NonFiniteLossError(SelfevoError):
    """The loss, its gradient or the parameters became NaN or infinite; the message names step and rows."""


def first_line(error: BaseException) -> str:
    """What another library's error says, cut to one line that can stand inside a message of ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def shown(value: object) -> str:
    """A value of a row as a message shows it: JSON, cut to a few words."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
