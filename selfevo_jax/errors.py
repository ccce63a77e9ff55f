"""The errors a user can cause. Each is one clear line: the thing, what was found, what was expected, the remedy."""

import json
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class SelfevoError(Exception):
    """A fault in the user's input or set-up. The command line prints the message alone and exits with its code."""

    exit_code = 2
    several: tuple[str, ...] = ()
    """The faults, where the message is about more than one."""

    @property
    def faults(self) -> tuple[str, ...]:
        """One or more, each with its own message."""
        return self.several or (str(self),)


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


class Faults:
    """What several steps find wrong, told at once: a user mends all of it before the next try."""

    def __init__(self) -> None:
        self._found: list[SelfevoError] = []

    def of(self, step: Callable[[], T]) -> T | None:
        """What a step makes; None where it finds a fault of the user's input. Other errors pass."""
        try:
            return step()
        except (ConfigError, DataError, ModelError) as error:
            self._found.append(error)
        except SelfevoError as error:
            if type(error) is not SelfevoError:  # a notice to end, a lock, another process: nothing to go on from
                raise
            self._found.append(error)
        return None

    def add(self, error: SelfevoError) -> None:
        self._found.append(error)

    def __len__(self) -> int:
        return len(self._found)

    def refuse(self) -> None:
        """Raises the first fault, with the words of all, where there is one."""
        told = tuple(dict.fromkeys(fault for error in self._found for fault in error.faults))
        if not self._found:
            return
        first = self._found[0]
        if len(told) > 1:
            first.args, first.several = ("\n".join(told),), told
        raise first


def first_line(error: BaseException) -> str:
    """What another library's error says, cut to one line that can stand inside a message of ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def with_article(noun: str) -> str:
    """`a step`, `an answer`; by the first letter, so not for what is said otherwise than it is written (`hour`)."""
    return f"{'an' if noun[:1].lower() in tuple('aeio') else 'a'} {noun}"


def shown(value: object) -> str:
    """A value of a row as a message shows it: JSON, cut to a few words."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
