"""What a step of each objective costs beside one of `sft` on the same rows: memory and FLOPs counted, seconds in turns.

    python benchmarks/objectives.py                          # two layers of SmolLM2-135M's shape, its whole vocabulary
    python benchmarks/objectives.py --turns 0                # what is counted alone

All programs update one state, so that none is timed with memory of its own. Memory is what the compiled step holds
beside its arguments, FLOPs are those of matrix products; the least of the turns' seconds counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sampling_common import conclude, table, use_threads

from selfevo_jax.data import Batch
from selfevo_jax.model import PRESETS, init_params
from selfevo_jax.plan.accounting import account
from selfevo_jax.plan.groups import MeshAxes
from selfevo_jax.plan.hlo import parse
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import ObjectiveSection, TrainConfig, init_state, lower_train_step, open_objective
from selfevo_jax.train.objectives.head import extra_shapes

OBJECTIVES = ("sft", "dpo", "kto", "pro", "grpo", "self_distillation")
ANSWER = 96
"""Tokens of an example, of which half are targets."""


def batch_of(reads: dict[str, tuple[int, ...]], rows: int, length: int, vocab: int) -> Batch:
    """Rows full of pairs, with numbers that any objective reads."""
    rng, place = np.random.default_rng(0), np.arange(length)
    segment, within = place // ANSWER + 1, place % ANSWER
    whole = np.broadcast_to
    first = segment % 2 == 1
    numbers = {"side": np.where(first, 1, -1), "verdict": np.where(first, 1, -1), "place": np.where(first, 1, 2)}
    numbers |= {"value": np.where(first, 1, 0), "advantage": np.where(first, 1, -1), "drawn": np.ones(length)}
    numbers |= {"reference": np.full(length, -400), "token_reference": np.full(length, -10), "taught": np.ones(length)}
    extras = {}
    for name, wide in reads.items():
        made = numbers.get(name, np.zeros(length))
        if name == "teacher_ids":
            made = whole(np.arange(wide[0]), (length, *wide))
        elif name == "teacher_logps":
            made = np.full((length, *wide), -np.log(2 * wide[0]))
        extras[name] = np.array(whole(made, (rows, *made.shape)), np.float32)
    weights = np.array(whole(within >= ANSWER // 2, (rows, length)), np.float32)
    tokens = rng.integers(0, vocab, (rows, length)).astype(np.int32)
    ids, positions = (np.array(whole(x, (rows, length)), np.int32) for x in (segment, within))
    return Batch(tokens, weights, ids, positions, extras)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=768)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--objectives", type=lambda text: text.split(","), default=list(OBJECTIVES))
    args = parser.parse_args()
    names = list(dict.fromkeys(("sft", *args.objectives)))
    use_threads(args.threads)
    config = dataclasses.replace(PRESETS["smollm2-135m"], n_layers=args.layers)
    mesh = make_mesh(devices=jax.devices()[:1])
    state: Any = None
    steps, batches, counted = {}, {}, {}
    for name in names:
        objective = open_objective(ObjectiveSection(name=name))
        settings = TrainConfig(batch_rows=args.rows, length=args.length, objective=objective)
        lowered, _ = lower_train_step(config, settings, mesh)
        steps[name] = lowered.compile()
        flops = account(parse(steps[name].as_text()), MeshAxes({"x": 1})).flops
        counted[name] = (steps[name].memory_analysis().temp_size_in_bytes, flops)
        batches[name] = batch_of(extra_shapes(objective), args.rows, args.length, config.vocab_size).micro(1)
        if state is None and args.turns:
            state = init_state(init_params(config, jax.random.key(0)), config, settings, mesh, TRAIN_RULES)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(args.turns + 1 if args.turns else 0):
        for name in names:
            begin = time.perf_counter()
            state, metrics = steps[name](state, batches[name], jnp.float32(1e-9))
            jax.block_until_ready(metrics)
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    memory, flops = counted["sft"]

    def timed(name: str) -> tuple[str, ...]:
        least = min(seconds[name], default=0.0)
        return (f"{least:.2f}", f"{least / min(seconds['sft']):.2f}") if args.turns else ("", "")

    rows = [
        (name, f"{held / 2**20:.0f}", f"{held / memory:.2f}", f"{work / flops:.2f}", *timed(name))
        for name, (held, work) in counted.items()
    ]
    table(("objective", "MB", "of sft's", "FLOPs of sft's", "seconds", "of sft's"), rows)
    conclude(args.threads)


if __name__ == "__main__":
    main()
