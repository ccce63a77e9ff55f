"""A config's training step and its sampler on this machine's devices: tokens a second, share of the peak, memory.

    python benchmarks/accelerator.py configs/smollm2_1_7b_h100.yaml --json h100.json
    python benchmarks/accelerator.py configs/quickstart.yaml --steps 3 --new 16    # a quick check on a CPU

Parameters, rows and prompts are random, of the config's shapes (`model.preset`). The peak is a matrix product of
4096 x 4096 measured here. First the attention kernels of this platform are held against the plain path; the step is
timed with each of them, the one that training takes first.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sampling_common import One

from selfevo_jax.config import Config, load_config
from selfevo_jax.data import Batch
from selfevo_jax.model import ModelConfig, TrainAttention, init_params
from selfevo_jax.model.attention import Scoring, causal_mask
from selfevo_jax.model.train_attention import PLAIN
from selfevo_jax.model.transformer import attend_masked
from selfevo_jax.plan.planner import read_shape
from selfevo_jax.plan.roofline import train_flops
from selfevo_jax.sample import DrawKey, Request, SamplingParams, make_engine, sampler_memory
from selfevo_jax.sample.floor import measure_rates
from selfevo_jax.sharding import DECODE_RULES, TRAIN_RULES, batch_sharding, make_mesh
from selfevo_jax.train import TrainConfig, train_settings
from selfevo_jax.train.state import init_state
from selfevo_jax.train.step import make_train_step

SEGMENT, PROMPT = 512, 256
PEAK = "share_of_measured_peak"


class NoText:
    """A stream of a tokenizer that has no words."""

    def push(self, token: int) -> str:
        return ""

    def finish(self) -> tuple[str, bool]:
        return "", True


def peak_bytes() -> int | None:
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def packed_rows(model: ModelConfig, rows: int, length: int) -> Batch:
    """`[rows, length]` of random tokens in sequences of at most SEGMENT."""
    rng, at = np.random.default_rng(0), np.arange(length)
    whole = np.broadcast_to(at, (rows, length))
    tokens = rng.integers(0, model.vocab_size, (rows, length), dtype=np.int32)
    weights = np.ones((rows, length), np.float32)
    return Batch(tokens, weights, (whole // SEGMENT + 1).astype(np.int32), (whole % SEGMENT).astype(np.int32))


def uneven_segments(rows: int, length: int) -> jax.Array:
    """`[rows, length]`: a sequence of one token, others of unlike lengths, and padding; cut elsewhere in each row."""
    rng, ids = np.random.default_rng(1), []
    for _ in range(rows):
        cuts = [1, *(2 + rng.choice(length - 2, 7, replace=False))]
        row = 1 + (np.arange(length) >= np.array(cuts)[:, None]).sum(0)
        ids.append(np.where(row == row[-1], 0, row))
    return jnp.asarray(np.stack(ids), jnp.int32)


def check_attention(model: ModelConfig, settings: TrainConfig, mesh: Any, kernels: list[str]) -> dict[str, Any]:
    """How far output and gradients of each kernel are off from those of the plain path in fp32: the largest relative
    norm, also over padding, where a number that is not finite would spoil a step."""
    dtype, rows = jnp.dtype(settings.compute_dtype), 2 * mesh.size
    keys = jax.random.split(jax.random.key(0), 4)
    heads = (model.n_heads, model.n_kv_heads, model.n_kv_heads, model.n_heads)
    shapes = [(rows, settings.length, n, model.head_dim) for n in heads]
    *parts, out = (jax.random.normal(key, shape, jnp.float32) for key, shape in zip(keys, shapes, strict=True))
    segments = uneven_segments(rows, settings.length)
    window, scoring = model.kinds[0].window, Scoring.of(model)
    plain = attend_masked(causal_mask(segments, settings.length, window), scoring)

    def found(attend: Any, kind: Any) -> list[np.ndarray]:
        def loss(q: Any, k: Any, v: Any) -> Any:
            made = attend(q.astype(kind), k.astype(kind), v.astype(kind))[0].astype(jnp.float32)
            return jnp.sum(made * out), made

        grads, made = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*parts)
        return [np.asarray(x) for x in (made, *grads)]

    def error(name: str) -> float:
        kernel = TrainAttention.choose(model, mesh, TRAIN_RULES, dtype, settings.length, name)
        pairs = zip(found(plain if kernel is None else kernel.within(segments, window), dtype), exact, strict=True)
        return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)

    exact = found(plain, jnp.float32)
    return {name: tried(name, lambda name=name: {"relative_error": error(name)}) for name in kernels}


def tried(name: str, job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the job gives, or why it failed: one kernel that fails, or does not fit, does not keep the others."""
    try:
        found = job()
    except RuntimeError as error:
        found = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    print(name, found, flush=True)
    return found


def train(model: ModelConfig, settings: TrainConfig, mesh: Any, steps: int, kernels: list[str]) -> dict[str, Any]:
    """Seconds of a step with each kernel, after two that are not counted."""
    rows = packed_rows(model, settings.batch_rows, settings.length).micro(settings.accumulate)
    batch = jax.device_put(rows, batch_sharding(mesh, TRAIN_RULES, leading=1))
    rate = measure_rates(jax.devices()[0], settings.compute_dtype).flops_per_second * mesh.size
    tokens, learning_rate = settings.batch_rows * settings.length, jnp.float32(settings.learning_rate)
    flops = train_flops(model, tokens, SEGMENT, frozen=settings.lora is not None)

    def timed(kernel: str) -> dict[str, Any]:
        state = init_state(init_params(model, jax.random.key(0), mesh, TRAIN_RULES), model, settings, mesh)
        begin = time.perf_counter()
        step: Any = make_train_step(model, settings, mesh, attention=kernel)
        compiled = step.lower(state, batch, learning_rate).compile()
        compiling, needs = time.perf_counter() - begin, compiled.memory_analysis()
        seconds, losses = [], []
        for _ in range(steps + 2):
            begin = time.perf_counter()
            state, metrics = compiled(state, batch, learning_rate)
            losses.append(float(metrics["loss"]))
            seconds.append(time.perf_counter() - begin)
        took = statistics.median(seconds[2:])
        return {
            "compile_seconds": compiling,
            "step_seconds": seconds[2:],
            "tokens_per_second": tokens / took,
            "flops_per_second": flops / took,
            PEAK: flops / took / rate,
            "state_bytes": needs.argument_size_in_bytes,
            "temporary_bytes": needs.temp_size_in_bytes,
            "peak_bytes_so_far": peak_bytes(),
            "losses": losses,
        }

    made = {name: tried(name, lambda name=name: timed(name)) for name in kernels}
    return {"tokens": tokens, "measured_peak": rate, "kernels": made}


def side_by_side(found: dict[str, Any], kernels: list[str]) -> None:
    """A line for each kernel."""
    print("kernel          error  s/step  tokens/s  TFLOP/s  of peak  state GB  temporaries GB  compiled s")
    for name in kernels:
        error = found.get("attention", {}).get(name, {}).get("relative_error", math.nan)
        of = found.get("train", {}).get("kernels", {}).get(name, {})
        took = statistics.median(of["step_seconds"]) if "step_seconds" in of else math.nan
        speed, flops, share = (of.get(key, math.nan) for key in ("tokens_per_second", "flops_per_second", PEAK))
        state, temporary = (of.get(key, math.nan) / 1e9 for key in ("state_bytes", "temporary_bytes"))
        compiling = of.get("compile_seconds", math.nan)
        print(
            f"{name:<13}{error:>8.4f}{took:>8.3f}{speed:>10.0f}{flops / 1e12:>9.1f}{share:>9.1%}{state:>10.2f}"
            f"{temporary:>16.2f}{compiling:>12.1f}"
        )


def sample(config: Config, model: ModelConfig, mesh: Any, slots: int | None, new: int, workers: int) -> dict[str, Any]:
    """Two fillings of all slots with random prompts, after one that compiles."""
    memory = sampler_memory(config.sampling, model, mesh)
    plan = memory.plan(slots or config.sampling.slots, 4096)
    print(plan, flush=True)
    engine = make_engine(memory, None, plan.slots, config.seed, stream=lambda _: NoText())
    params = engine.place(init_params(model, jax.random.key(0), memory.mesh, DECODE_RULES, engine.param_dtype))
    rng, prompt = np.random.default_rng(0), min(PROMPT, config.sampling.cache_length // 2)
    settings = SamplingParams(temperature=0.7, max_new_tokens=new)

    def requests(round_: int) -> list[Request]:
        texts = rng.integers(0, model.vocab_size, (2 * engine.slots, prompt)).tolist()
        return [Request(tuple(t), settings, DrawKey(round_, "respond", str(i), 0)) for i, t in enumerate(texts)]

    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda job: job(), engine.compilations(params, [prompt])))
    compiling, results = time.perf_counter() - begin, []

    for round_ in range(2):
        ones = [One(request.key.prompt_id, request) for request in requests(round_)]
        stats = engine.run(params, ones)
        bad = [one.completion for one in ones if len(one.completion.tokens) != new]
        if bad:
            raise SystemExit(f"{len(bad)} completions came back short; the first: {bad[0]}")
        results.append(stats.to_dict() | {"floor": engine.floor(stats)})
    return {"compile_seconds": compiling, "slots": engine.slots, "peak_bytes": peak_bytes(), "run": results[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `selfevo evolve`")
    parser.add_argument("--steps", type=int, default=8, help="training steps that are timed")
    parser.add_argument("--slots", type=int, help="in place of the config's, or of as many as fit")
    parser.add_argument("--new", type=int, default=256, help="tokens drawn for each prompt")
    parser.add_argument("--workers", type=int, default=8, help="programs of the sampler compiled side by side")
    parser.add_argument("--parts", default="attention,train,sample")
    parser.add_argument("--kernels", help="of attention; by default all of this platform, and plain")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config = load_config(args.config, tuple(args.set))
    model, mesh = read_shape(config), make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    settings = train_settings(config.learn, config.seed)
    offered = TrainAttention.choices(model, mesh, TRAIN_RULES, settings.compute_dtype, settings.length)
    kernels = args.kernels.split(",") if args.kernels else [*(one.kernel for one in offered), PLAIN]
    found: dict[str, Any] = {"device": jax.devices()[0].device_kind, "devices": mesh.size, "jax": jax.__version__}
    jobs = {
        "attention": lambda: check_attention(model, settings, mesh, kernels),
        "train": lambda: train(model, settings, mesh, args.steps, kernels),
        "sample": lambda: sample(config, model, mesh, args.slots, args.new, args.workers),
    }
    print(found, flush=True)
    for name in args.parts.split(","):
        found[name] = jobs[name]()
        print(name, json.dumps(found[name], indent=1), flush=True)
        if args.json is not None:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    side_by_side(found, kernels)


if __name__ == "__main__":
    main()
