"""TensorBoard: event files, written by tensorboardX and without TensorFlow."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from selfevo_jax.lazy import extra
from selfevo_jax.trackers.base import About, Scalars, Settings, Texts, Tracker, TrackSection, missing

_FILES = "events.out.tfevents.*"
_LENGTH, _CHECK = struct.Struct("<Q"), 4
"""A record is its length, a check of it, its content, and a check of that (TensorFlow's TFRecord)."""


class TensorboardSection(TrackSection):
    """Event files in a folder: `tensorboard --logdir FOLDER` shows them."""

    kind: Literal["tensorboard"] = "tensorboard"

    def open(self, key: str) -> Tracker:
        return Tensorboard(key)


class Tensorboard:
    """One record for each of a run's events, so that how many are there is counted in the files themselves: a record
    that a kill has torn is not among them, and is written again."""

    def __init__(self, key: str) -> None:
        """Raises ConfigError where tensorboardX is not installed."""
        for module in ("event_file_writer", "summary", "proto.event_pb2", "proto.summary_pb2"):
            extra(f"tensorboardX.{module}", "tensorboardX", "tensorboard", missing(key))
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2, summary_pb2

        self._files, self._text, self._event, self._proto = event_file_writer, summary.text, event_pb2, summary_pb2
        self._out: Any = None
        self._dir, self._there = Path(), 0

    def start(self, about: About) -> int:
        about.dir.mkdir(parents=True, exist_ok=True)
        files = sorted(about.dir.glob(_FILES))
        self._dir = about.dir
        self._there = sum(self._is_ours(record) for file in files for record in _records(file))
        return self._there

    def settings(self, events: Sequence[Settings]) -> None:
        lines = ["\n".join(f"{key}: {value}" for key, value in event.values.items()) for event in events]
        self._write((self._texts({"config": text}), 0) for text in lines)

    def scalars(self, events: Sequence[Scalars]) -> None:
        value, summary = self._proto.Summary.Value, self._proto.Summary
        self._write(
            (summary(value=[value(tag=tag, simple_value=number) for tag, number in event.values.items()]), event.at)
            for event in events
        )

    def texts(self, events: Sequence[Texts]) -> None:
        self._write((self._texts(event.values), event.at) for event in events)

    def finish(self) -> None:
        if self._out is not None:
            self._out.close()

    def _texts(self, values: Mapping[str, str]) -> Any:
        found = self._proto.Summary()
        for tag, text in values.items():
            found.MergeFrom(self._text(tag, _as_code(text)))
        return found

    def _write(self, summaries: Iterable[tuple[Any, int]]) -> None:
        """Begins a file where this process has none: what is behind a torn record is not read."""
        if self._out is None:
            # of two processes within one second only one may have written nothing yet
            self._out = self._files.EventsWriter(str(self._dir / "events"), f".{self._there:010d}")
        for summary, at in summaries:
            self._out.write_event(self._event.Event(summary=summary, step=at, wall_time=time.time()))
        self._out.flush()

    def _is_ours(self, record: bytes) -> bool:
        return bool(self._event.Event.FromString(record).HasField("summary"))


def _records(file: Path) -> Iterator[bytes]:
    """The whole records of an event file; the last one may be torn."""
    content, at = file.read_bytes(), 0
    while at + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        begin = at + _LENGTH.size + _CHECK
        at = begin + length + _CHECK
        if at <= len(content):
            yield content[begin : begin + length]


def _as_code(text: str) -> str:
    """TensorBoard shows texts as Markdown, where indented lines are shown as they are."""
    return "\n".join(f"    {line}" for line in text.splitlines())
