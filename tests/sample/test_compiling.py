"""What compiling will take is guessed, or known from what it took here before."""

import types

import jax
import pytest

from selfevo_jax.sample import compiling
from selfevo_jax.sample.compiling import Watch, estimate

DEVICE = types.SimpleNamespace(device_kind="toy")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "_file", lambda: tmp_path / "xla" / "seconds.json")
    return tmp_path / "xla"


def test_a_guess_grows_with_programs_and_layers_and_falls_with_what_is_compiled_at_once(folder) -> None:
    one = estimate(DEVICE, 30, 12, 1)
    assert one.seconds == pytest.approx(2 * estimate(DEVICE, 30, 6, 1).seconds)
    assert one.seconds == pytest.approx(2 * estimate(DEVICE, 30, 12, 2).seconds)
    assert one.seconds > estimate(DEVICE, 3, 12, 1).seconds
    assert str(one) == "12 programs, a guess by their number and layers"
    assert not folder.exists()


def test_what_compiling_took_here_is_the_pace_of_the_next_estimate(folder) -> None:
    guess = estimate(DEVICE, 3, 12, 1).seconds
    Watch(DEVICE, 3, 12, 1).note(5 * guess)
    found = estimate(DEVICE, 3, 12, 1)
    assert found.seconds == pytest.approx(5 * guess)
    assert found.measured
    assert not estimate(types.SimpleNamespace(device_kind="another"), 3, 12, 1).measured


def test_programs_that_were_kept_say_nothing_of_compiling(folder) -> None:
    watch = Watch(DEVICE, 3, 12, 1)
    jax.monitoring.record_event("/jax/compilation_cache/cache_hits")
    watch.note(1.0)
    assert not estimate(DEVICE, 3, 12, 1).measured


_BROKEN = ["", "[]", '{"toy": "fast"}', '{"toy": -1}', '{"toy": null}', "\x00", "[" * 100_000]
_IMPOSSIBLE = ['{"toy": 1e308}', '{"toy": 1e-300}', '{"toy": NaN}', f'{{"toy": {10**400}}}']


@pytest.mark.parametrize("text", _BROKEN + _IMPOSSIBLE)
def test_a_pace_that_cannot_be_read_is_none(folder, text: str) -> None:
    folder.mkdir()
    (folder / "seconds.json").write_text(text)
    assert not estimate(DEVICE, 3, 12, 1).measured
    Watch(DEVICE, 3, 12, 1).note(10.0)
    assert estimate(DEVICE, 3, 12, 1).measured


def test_where_it_cannot_be_written_nothing_is_said(folder) -> None:
    folder.write_text("a file")
    Watch(DEVICE, 3, 12, 1).note(10.0)
    assert not estimate(DEVICE, 3, 12, 1).measured
