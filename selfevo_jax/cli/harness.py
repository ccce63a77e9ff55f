"""`selfevo eval --harness`: tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfevo_jax.cli.common import alone_at, check_output, console, say
from selfevo_jax.errors import ConfigError
from selfevo_jax.progress import counted

if TYPE_CHECKING:
    from selfevo_jax.config import Config
    from selfevo_jax.harness import Measured


def harness_command(config: Config, harness: str, out: Path | None, force: bool) -> None:
    """Measures, says each figure, and writes them with the texts where `out` is named.

    Raises ConfigError as `measure_tasks`, and where a file that is to be written is there already.
    """
    names = [name.strip() for name in harness.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--harness {harness!r}: names no task; name some, such as --harness gsm8k")
    from selfevo_jax import hosts
    from selfevo_jax.data import jsonl_lines
    from selfevo_jax.harness import measure_tasks
    from selfevo_jax.progress import Reporter
    from selfevo_jax.storage import storage_of

    texts = None if out is None else out.with_name(f"{out.stem}-texts.jsonl")

    def check() -> None:
        for file in (out, texts):
            if file is not None:
                check_output(file, force, names)

    with alone_at(out, check):
        found = measure_tasks(config, names, Reporter(console, quiet=console.quiet))
        for one in found:
            _say(one)
        if out is not None and texts is not None and hosts.is_writer():
            rows = (_row(one, sample) for one in found for sample in one.samples)
            storage_of(texts).write(texts, b"".join(jsonl_lines(rows)))
            figures = [_plain({key: value for key, value in vars(one).items() if key != "samples"}) for one in found]
            storage_of(out).write(out, (json.dumps(figures, indent=2) + "\n").encode())


def _say(one: Measured) -> None:
    asked = "" if one.rows is None else f" ({counted(one.rows, 'row')})"
    shown = [
        f"{name} {value:.4f}" + (f" ± {one.errors[name]:.4f}" if name in one.errors else "")
        for name, value in one.metrics.items()
    ]
    say(f"{one.task} {one.mode}: {', '.join(shown) or 'no figure'}{asked}")


def _row(one: Measured, sample: Any) -> dict[str, Any]:
    """A sample as lm-eval logs it, in plain JSON."""
    return {"task": one.task, "mode": one.mode, **_plain(sample)}


def _plain(value: Any) -> Any:
    """As JSON has it: null for a number that is none."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
