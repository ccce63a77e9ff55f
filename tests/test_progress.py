"""What work says of itself on its way."""

import io

import pytest
from rich.console import Console

from selfevo_jax import progress
from selfevo_jax.progress import Reporter, rate


@pytest.mark.parametrize(
    ("per_second", "unit", "said"),
    [
        (3.21, "steps", "3.2 steps/s"),
        (1234.5, "chains", "1,234 chains/s"),
        (1.0, "rows", "1.0 rows/s"),
        (0.0316, "programs", "31.6 s a program"),
        (0.8, "answers", "1.2 s an answer"),
        (0.004, "programs at most", "4m 10s a program"),
    ],
)
def test_slow_work_is_told_by_the_seconds_of_one(per_second: float, unit: str, said: str) -> None:
    assert rate(per_second, unit) == said


def test_before_the_first_is_done_no_rate_and_no_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 40.0, 80.0, 90.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    console = Console(width=200)
    with console.capture() as shown, Reporter(console).task("compiling", 4, "programs") as meter:
        meter.set(0)
        meter.set(2, "small ones")
    first, second, _ = shown.get().splitlines()
    assert first == "  compiling: 0/4"
    assert second == "  compiling: 2/4 (40.0 s a program, small ones, 1m 20s left)"


def test_what_a_server_or_a_file_is_called_is_no_markup_of_a_terminal() -> None:
    console = Console(width=200, force_terminal=True, file=io.StringIO())
    with console.capture() as shown, Reporter(console).task("by [/x] [red]m[/]\x1b[2J", 4, "answers") as meter:
        meter.set(2, "no answer yet: [/bold] \x1b]0;t")
    assert "\x1b[2J" not in shown.get()
    assert "by [/x] [red]m[/]\N{REPLACEMENT CHARACTER}[2J" in shown.get()
