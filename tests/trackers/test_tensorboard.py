"""Event files as TensorBoard reads them."""

import struct
from pathlib import Path

import pytest
from tracker_helpers import EVENTS, section, told

from selfevo_jax.trackers import Scalars, Texts

proto = pytest.importorskip("tensorboardX.proto.event_pb2")


def records(dir: Path) -> list:
    """Every event with a summary, by an own reading of the format; its checks are held too."""
    crc32c = pytest.importorskip("tensorboardX.crc32c").crc32c

    def masked(data: bytes) -> int:
        crc = crc32c(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    found = []
    for file in sorted(dir.glob("events.out.tfevents.*")):
        content = file.read_bytes()
        while len(content) >= 12:
            (size,) = struct.unpack("<Q", content[:8])
            if len(content) < 16 + size:
                break
            data = content[12 : 12 + size]
            assert struct.unpack("<I", content[8:12])[0] == masked(content[:8])
            assert struct.unpack("<I", content[12 + size : 16 + size])[0] == masked(data)
            found.append(proto.Event.FromString(data))
            content = content[16 + size :]
    return [event for event in found if event.HasField("summary")]


def scalars(dir: Path) -> list:
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in records(dir)
        if event.summary.value[0].WhichOneof("value") == "simple_value"
    ]


def tensorboard():
    return section("tensorboard").open("track.0")


def test_figures_lie_at_their_steps_and_rounds(tmp_path: Path) -> None:
    assert told(tensorboard(), tmp_path) == 0
    assert scalars(tmp_path) == [
        (event.at, {tag: pytest.approx(value) for tag, value in event.values.items()})
        for event in EVENTS
        if isinstance(event, Scalars)
    ]


def test_texts_of_models_are_shown_as_they_are(tmp_path: Path) -> None:
    told(tensorboard(), tmp_path)
    (event,) = [event for event in records(tmp_path) if event.summary.value[0].tag.startswith("chains/")]
    (wanted,) = [event for event in EVENTS if isinstance(event, Texts)]
    assert event.step == wanted.at
    shown = {value.tag: value.tensor.string_val[0].decode() for value in event.summary.value}
    assert shown["chains/1/text_summary"] == "    prompt: <b>2 + 2</b>\n    response: **4**"


def test_what_is_there_is_counted_in_the_files_and_a_torn_record_is_written_again(tmp_path: Path) -> None:
    assert told(tensorboard(), tmp_path, 5) == 0
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert told(tensorboard(), tmp_path) == 4
    assert told(tensorboard(), tmp_path) == len(EVENTS)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(records(tmp_path)) == len(EVENTS)
    assert [at for at, values in scalars(tmp_path) if "train/loss" in values] == [1, 2, 3, 4]
