"""A config's training step and its sampler on this machine's devices: tokens a second, share of the peak, memory.

    python benchmarks/accelerator.py configs/smollm2_1_7b_h100.yaml --json h100.json
    python benchmarks/accelerator.py configs/quickstart.yaml --steps 3 --new 16    # a quick check on a CPU

Parameters, rows and prompts are random, of the config's shapes (`model.preset`). The peak is a matrix product of
4096 x 4096 measured here. First the attention kernel of this platform is held against the plain path.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
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


def check_attention(model: ModelConfig, settings: TrainConfig, mesh: Any) -> dict[str, Any]:
    """Output and gradients of the platform's kernel and of the plain path, against the plain path in fp32."""
    dtype = jnp.dtype(settings.compute_dtype)
    kernel = TrainAttention.choose(model, mesh, TRAIN_RULES, dtype, settings.length)
    if kernel is None:
        return {"kernel": "plain"}
    batch = packed_rows(model, mesh.size, settings.length)
    keys = jax.random.split(jax.random.key(0), 4)
    heads = (model.n_heads, model.n_kv_heads, model.n_kv_heads, model.n_heads)
    shapes = [(mesh.size, settings.length, n, model.head_dim) for n in heads]
    *parts, out = (jax.random.normal(key, shape, jnp.float32) for key, shape in zip(keys, shapes, strict=True))
    segments = jnp.asarray(batch.segment_ids)
    window, scoring = model.kinds[0].window, Scoring.of(model)
    plain = attend_masked(causal_mask(segments, settings.length, window), scoring)

    def found(attend: Any, kind: Any) -> list[np.ndarray]:
        def loss(q: Any, k: Any, v: Any) -> Any:
            made = attend(q.astype(kind), k.astype(kind), v.astype(kind))[0].astype(jnp.float32)
            return jnp.sum(made * out), made

        grads, made = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*parts)
        return [np.asarray(x) for x in (made, *grads)]

    exact = found(plain, jnp.float32)
    errors = {}
    for name, attend in ((kernel.kernel, kernel.within(segments, window)), ("plain", plain)):
        pairs = zip(found(attend, dtype), exact, strict=True)
        errors[name] = max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)
    return {"kernel": kernel.kernel, "relative_errors": errors}


def train(model: ModelConfig, settings: TrainConfig, mesh: Any, steps: int) -> dict[str, Any]:
    """Seconds of a step, after two that are not counted."""
    state = init_state(init_params(model, jax.random.key(0), mesh, TRAIN_RULES), model, settings, mesh)
    step = make_train_step(model, settings, mesh)
    rows = packed_rows(model, settings.batch_rows, settings.length).micro(settings.accumulate)
    batch = jax.device_put(rows, batch_sharding(mesh, TRAIN_RULES, leading=1))
    seconds, losses = [], []
    for _ in range(steps + 2):
        begin = time.perf_counter()
        state, metrics = step(state, batch, jnp.float32(settings.learning_rate))
        losses.append(float(metrics["loss"]))
        seconds.append(time.perf_counter() - begin)
    tokens = settings.batch_rows * settings.length
    flops = train_flops(model, tokens, SEGMENT, frozen=settings.lora is not None)
    took = statistics.median(seconds[2:])
    rate = measure_rates(jax.devices()[0], settings.compute_dtype).flops_per_second * mesh.size
    return {
        "tokens": tokens,
        "first_step_seconds": seconds[0],
        "step_seconds": seconds[2:],
        "tokens_per_second": tokens / took,
        "flops_per_second": flops / took,
        "measured_peak": rate,
        "share_of_measured_peak": flops / took / rate,
        "peak_bytes": peak_bytes(),
        "losses": losses,
    }


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
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config = load_config(args.config, tuple(args.set))
    model, mesh = read_shape(config), make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    settings = train_settings(config.learn, config.seed)
    found: dict[str, Any] = {"device": jax.devices()[0].device_kind, "devices": mesh.size, "jax": jax.__version__}
    jobs = {
        "attention": lambda: check_attention(model, settings, mesh),
        "train": lambda: train(model, settings, mesh, args.steps),
        "sample": lambda: sample(config, model, mesh, args.slots, args.new, args.workers),
    }
    print(found, flush=True)
    for name in args.parts.split(","):
        found[name] = jobs[name]()
        print(name, json.dumps(found[name], indent=1), flush=True)
        if args.json is not None:
            args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
