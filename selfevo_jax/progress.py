"""Progress of long work: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from selfevo_jax.errors import with_article

LINE_EVERY_SECONDS = 10.0
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def hanging(text: str) -> str:
    """A text of several lines for a place behind its name: the further lines stand two columns to the right of it."""
    return text.strip().replace("\n", "\n  ")


def plain(text: str) -> str:
    """Text that does no more to a terminal than to stand there: a model or a file may have written it."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def duration(seconds: float) -> str:
    """`45s`, `3m 05s`, `2h 10m`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def counted(number: int, unit: str) -> str:
    """`1 round`, `1,200 rounds`; `unit` is of one."""
    return f"{number:,} {unit if number == 1 else f'{unit}s'}"


def rate(per_second: float, unit: str) -> str:
    """`3.2 steps/s`, or where one takes longer than a second `31.6 s a step`; `unit` is a plural."""
    if per_second >= 1:
        return f"{per_second:,.{0 if per_second >= 100 else 1}f} {unit}/s"
    seconds = 1 / per_second
    told = f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
    return f"{told} {with_article(unit.split(maxsplit=1)[0].removesuffix('s'))}"


@dataclass(frozen=True)
class Task:
    """Long work on its way."""

    title: str
    done: int
    total: int
    unit: str
    note: str = ""
    """What stands beside the rate, such as a loss."""


class Meter:
    """The progress of one task. `set` may be called as often as wanted; output is limited in rate."""

    def __init__(self, reporter: Reporter, title: str, total: int, unit: str, bar: Progress | None) -> None:
        self._reporter, self._title, self._total, self._unit, self._bar = reporter, title, total, unit, bar
        self._begin = self._last_line = time.monotonic()
        self._task = bar.add_task(plain(title), total=total, note="") if bar else None
        reporter.on_task(Task(title, 0, total, unit))

    def set(self, done: int, note: str = "") -> None:
        """`done` of the total are finished; `note` stands beside the rate."""
        self._reporter.on_task(Task(self._title, done, self._total, self._unit, note))
        now = time.monotonic()
        spent = max(now - self._begin, 1e-9)
        told = [rate(done / spent, self._unit)] if done else []
        told += [note] if note else []
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=plain("  ".join(told)))
        elif now - self._last_line >= LINE_EVERY_SECONDS and done < self._total:
            self._last_line = now
            told += [f"{duration(spent / done * (self._total - done))} left"] if done else []
            beside = f" ({', '.join(told)})" if told else ""
            self._reporter.line(f"  {self._title}: {done}/{self._total}{beside}")

    def finish(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begin


class Reporter:
    """Where a run says what it does. `quiet` drops everything but warnings."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console()
        self.quiet = quiet
        self.on_task: Callable[[Task], None] = lambda _: None
        """Is told of every task at its start and on its way, by the thread that does it."""
        self.on_warning: Callable[[str], None] = lambda _: None
        """Is told of every warning, by the thread that warns."""

    def line(self, text: str) -> None:
        if not self.quiet:
            self.console.print(plain(text), highlight=False, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self.on_warning(text)
        self.console.print(plain(f"warning: {text}"), highlight=False, markup=False, style="yellow", soft_wrap=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str) -> Iterator[Meter]:
        """Shows the progress of a task, and one line with its time at the end."""
        if self.console.is_terminal and not self.quiet:
            columns = (
                TextColumn("  {task.description}", markup=False),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            with Progress(*columns, console=self.console, transient=True) as bar:
                meter = Meter(self, title, total, unit, bar)
                yield meter
        else:
            meter = Meter(self, title, total, unit, None)
            yield meter
        self.line(f"  {title}: {total} {unit} in {duration(meter.finish())}")


def in_words(counts: Mapping[str, int]) -> str:
    """`12 too long, 3 copies`."""
    return ", ".join(f"{count} {what}" for what, count in counts.items())
