"""Sampling on one mesh over two processes, each with half of the devices."""

import json
import os
import socket
import time
from pathlib import Path

import jax
import pytest
from quick_processes import start
from sample_helpers import CONFIG, engine, random_params, told

import selfevo_jax
from selfevo_jax.model import init_params

SHAPES = ("2x2x2", "8x1x1")
LIMIT = 200
"""Seconds for all processes together, most of them compiling."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_workers(folder, n=2):
    """The standard outputs of n workers; none is left when this returns or raises."""
    command = [Path(__file__).with_name("host_worker.py"), free_port(), n]
    places = [str(Path(selfevo_jax.__file__).parents[1]), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    logs = [(folder / f"{i}.out", folder / f"{i}.err") for i in range(n)]
    workers, end = [], time.monotonic() + LIMIT
    try:
        for i, (out, err) in enumerate(logs):  # files: a full pipe of one would hold up the other
            with out.open("w") as stdout, err.open("w") as stderr:
                workers.append(start([*command, i, *SHAPES], stdout, stderr, environment))
        codes = [worker.wait(timeout=max(1, end - time.monotonic())) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for code, (_, err) in zip(codes, logs, strict=True):
        assert code == 0, err.read_text()[-3000:]
    return [out.read_text() for out, _ in logs]


@pytest.mark.slow
def test_two_processes_say_what_one_says(tmp_path):
    first, second = (json.loads(text.strip().splitlines()[-1]) for text in run_workers(tmp_path))
    assert first == second
    assert first["devices"] == [4, 8]
    alone = engine(slots=3)
    fresh = init_params(CONFIG, jax.random.key(3))
    expected = {
        "host": told(alone, random_params(), 0.0),
        "trained": told(alone, random_params(), 1.0),
        "fresh": told(alone, fresh, 1.0),
    }
    for shape in SHAPES:
        assert first[shape] == expected
