"""Makes the base checkpoint and the SentencePiece model of the quickstart, from nothing.

    python scripts/make_stories_base.py                 # writes selfevo_jax/assets/stories
    python scripts/make_stories_base.py --out /tmp/base --steps 200

The base learns one-change stories (and some of two changes) with their bare answers, counting aloud, and comparing two
numbers. It never sees a story with feedback, nor a skeleton of the development or test split.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from selfevo_jax.data import Batches, Example
from selfevo_jax.model import ModelConfig, Transformer, init_params, param_count
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.tasks.stories import generate as stories
from selfevo_jax.text import Tokenizer, load_tokenizer
from selfevo_jax.train import TrainConfig, fit

OUT = Path(__file__).parent.parent / "selfevo_jax" / "assets" / "stories"
LENGTH = 64
INIT_SCALE = 5.0  # the initialiser's 0.02 is meant for wide models; 0.1 is the inverse root of this width


def encode(tokenizer: Tokenizer, pieces: stories.Pieces, name: str) -> Example:
    tokens, weights = [tokenizer.bos_id], [0.0]
    for text, weight in pieces:
        ids = tokenizer.encode(text)
        tokens += ids
        weights += [weight] * len(ids)
    tokens.append(tokenizer.eos_ids[0])
    weights.append(1.0)
    return Example(name, "direct", np.asarray(tokens, np.int32), np.asarray(weights, np.float32))


def accuracy(params: Any, config: ModelConfig, tokenizer: Tokenizer, rows: list[stories.Story]) -> float:
    """Share of stories whose answer token is the most likely one after `The answer is`."""
    texts = [stories.RESPOND.format(prompt=row.text) for row in rows]
    prompts = [[tokenizer.bos_id, *tokenizer.encode(text), *tokenizer.encode("The answer is")] for text in texts]
    last = np.array([len(p) - 1 for p in prompts])
    tokens = np.zeros((len(rows), last.max() + 1), np.int32)
    for i, prompt in enumerate(prompts):
        tokens[i, : len(prompt)] = prompt
    positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    apply = jax.jit(lambda p, t, pos, take: Transformer(config).apply({"params": p}, t, pos, take=take)[0])
    said = np.asarray(apply(params, tokens, positions, last)).argmax(-1)
    return float(np.mean([[int(s)] == tokenizer.encode(str(row.answer)) for s, row in zip(said, rows, strict=True)]))


def evaluation(changes: int, n: int = 512) -> list[stories.Story]:
    """Development stories; of one change there are too few for a split of their own, so any are taken."""
    if changes > 1:
        return stories.make_stories("development", n, changes=changes)
    rng = random.Random(7)
    drawn = [stories.draw_skeleton(rng, changes) for _ in range(n)]
    return [stories.Story(str(i), stories.tell(rng, s), s, sum(s)) for i, s in enumerate(drawn)]


def flatten(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    if not isinstance(tree, dict):
        return {prefix[:-1]: np.ascontiguousarray(np.asarray(tree, np.float32))}
    return {name: leaf for key, value in tree.items() for name, leaf in flatten(value, f"{prefix}{key}.").items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rows", type=int, default=32, help="packed rows of 64 tokens a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--documents", type=int, default=100_000)
    args = parser.parse_args()
    started = time.time()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tokenizer.model").write_bytes(stories.train_tokenizer())
    tokenizer = load_tokenizer(args.out / "tokenizer.model")
    config = ModelConfig(
        tokenizer.vocab_size, 96, 3, 4, 4, 24, 256, max_position=256, rope_theta=1000.0, tie_embeddings=True
    )
    mesh = make_mesh(data=1, devices=jax.devices()[:1])
    params = init_params(config, jax.random.key(args.seed), mesh, TRAIN_RULES)
    params = jax.tree.map(lambda x: x * INIT_SCALE if x.ndim > 1 else x, params)
    corpus = stories.base_corpus(args.seed)
    documents = [encode(tokenizer, next(corpus), f"base-{i}") for i in range(args.documents)]
    print(f"seed {args.seed}: {param_count(config)} parameters, {len(documents)} documents", flush=True)
    settings = TrainConfig(
        steps=args.steps,
        learning_rate=args.learning_rate,
        warmup_steps=min(100, args.steps // 2),
        end_fraction=0.05,
        batch_rows=args.rows,
        length=LENGTH,
        seed=args.seed,
    )
    batches = Batches({"base": (documents, 1.0)}, args.rows, LENGTH, args.seed)

    def on_step(step: int, metrics: dict[str, float]) -> None:
        if step % 100 == 0:
            print(f"step {step}: loss {metrics['loss']:.3f}, {time.time() - started:.0f} s", flush=True)

    params, _ = fit(params, config, batches, settings, mesh, TRAIN_RULES, on_step=on_step)
    scores = {n: accuracy(params, config, tokenizer, evaluation(n)) for n in (1, 2, 3)}
    seconds = time.time() - started
    result = ", ".join(f"{n} change{'s' * (n > 1)} {100 * score:.1f} %" for n, score in scores.items())
    (args.out / "model.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    save_file(flatten(params), args.out / "model.safetensors")
    (args.out / "README.md").write_text(
        "# Base of the counting stories\n\n"
        f"Made by `python scripts/make_stories_base.py --seed {args.seed} --steps {args.steps}` in {seconds:.0f} s, "
        "from generated text alone (no outside data).\n\n"
        f"{param_count(config)} parameters in fp32. Direct accuracy: {result}.\n"
    )
    print(f"{args.out}: {result}; {seconds:.0f} s")


if __name__ == "__main__":
    main()
