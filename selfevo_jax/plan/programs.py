"""The three programs of a config, lowered for a topology: a training step, an extend, and a dispatch of decode steps.

They are the very programs that a run compiles, of shapes and shardings alone: no array is made and nothing is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from selfevo_jax.config import Config
from selfevo_jax.methods import open_method
from selfevo_jax.model import ModelConfig, TrainAttention, abstract_params, param_shardings
from selfevo_jax.plan.accounting import KernelRule
from selfevo_jax.plan.kernels import causal_share, cost_of_kernels
from selfevo_jax.plan.lengths import Lengths
from selfevo_jax.plan.roofline import forward_flops, train_flops
from selfevo_jax.sample import Engine, SlotPlan, make_engine, sampler_memory
from selfevo_jax.sample.decode import empty_rows
from selfevo_jax.sample.memory import device_bytes, released_while_sampling
from selfevo_jax.sharding import TRAIN_RULES, laid_out
from selfevo_jax.train import TrainConfig, gradient_shapes, lower_train_step, train_settings

TRAIN, EXTEND, DECODE = "train", "extend", "decode"
_STOPS = 4


@dataclass(frozen=True)
class Program:
    """One program of a run, not compiled yet. Bytes are those of one device."""

    name: str
    kind: str
    """TRAIN, EXTEND or DECODE."""
    shape: str
    """In words."""
    mesh: Mesh
    lower: Callable[[], Any]
    """-> jax.stages.Lowered."""
    parameters: int
    optimizer: int
    cache: int
    gradients: int
    held: int
    """What the run keeps on the device beside the program's own arguments."""
    rows: int
    """Of one execution over all devices: packed rows, rows of an extend, slots."""
    length: int
    """Tokens of each row: of a packed row, of an extend, steps of a dispatch."""
    model_flops: float
    """Of one execution over all devices."""
    kernel_cost: KernelRule

    @property
    def tokens(self) -> int:
        """Of one execution: places of a training step, tokens put into the cache, tokens drawn."""
        return self.rows * self.length

    @property
    def steps(self) -> int:
        """Trips of its outermost loop of unknown length: decode steps of a dispatch."""
        return self.length if self.kind == DECODE else 1


def train_programs(config: Config, model: ModelConfig, mesh: Mesh) -> list[Program]:
    """The step of meta-skill learning and that of the rounds, as far as a run has them; one where they are the same
    program."""
    settings = {name: train_settings(section, config.seed) for name, section in config.trained.items()}
    neutral: dict[str, Any] = {"steps": 1, "warmup_steps": 0, "learning_rate": 1e-9, "schedule": "cosine"}
    compiled = {name: dataclasses.replace(s, **neutral, end_fraction=1.0) for name, s in settings.items()}
    kinds = list(compiled.values())
    if kinds and kinds.count(kinds[0]) == len(kinds):
        return [train_program(TRAIN, config, model, [*settings.values()][-1], mesh)]
    return [train_program(f"{TRAIN} ({name})", config, model, s, mesh) for name, s in settings.items()]


def train_program(name: str, config: Config, model: ModelConfig, settings: TrainConfig, mesh: Mesh) -> Program:
    """One training step. Raises ConfigError where rows or axes do not divide over the mesh."""
    lowered, state = lower_train_step(model, settings, mesh)
    masters = device_bytes(abstract_params(model), param_shardings(model, mesh, TRAIN_RULES))
    shape = f"{settings.batch_rows} rows x {settings.length} tokens, {settings.compute_dtype}, remat {settings.remat}"
    shape += f", {settings.accumulate} micro-batches" if settings.accumulate > 1 else ""
    kernel = TrainAttention.choose(model, mesh, TRAIN_RULES, settings.compute_dtype, settings.length)
    shape += f", attention {'plain' if kernel is None else kernel.kernel}"
    shape += f", adapters of rank {settings.lora.rank}" if settings.lora is not None else ""
    seen = [causal_share(settings.length, kind.window) for kind in model.layers]
    return Program(
        name=name,
        kind=TRAIN,
        shape=shape,
        mesh=mesh,
        lower=lambda: lowered,
        parameters=shard_bytes((state.params, state.frozen)),
        optimizer=shard_bytes(state.opt_state),
        cache=0,
        gradients=shard_bytes(gradient_shapes(model, settings, mesh)),
        held=held_copies(config, mesh) * masters,
        rows=settings.batch_rows,
        length=settings.length,
        model_flops=train_flops(
            model, settings.batch_rows * settings.length, settings.length, frozen=settings.lora is not None
        ),
        kernel_cost=cost_of_kernels(seen=sum(seen) / len(seen), experts=model.n_experts),
    )


def held_copies(config: Config, mesh: Mesh) -> int:
    """fp32 trees that a run keeps on the devices beside a training: what it goes on from; on a CPU, `restart` keeps M_0
    and the newest checkpoint until the next is learnt."""
    return 2 if open_method(config).keeps_base and not released_while_sampling(mesh) else 1


def shard_bytes(tree: Any) -> int:
    """Bytes on one device of a tree of shapes with their shardings."""
    leaves = jax.tree.leaves(tree)
    return device_bytes(leaves, [leaf.sharding for leaf in leaves])


@dataclass(frozen=True)
class Sampler:
    """The engine of a config on a mesh of devices that are not there, and its slots."""

    engine: Engine
    mesh: Mesh
    slots: SlotPlan
    held: int
    """Bytes on a device of parameters that a run keeps while it samples, beside those that it samples with."""


def open_sampler(config: Config, model: ModelConfig, train_mesh: Mesh, hbm: float) -> Sampler:
    """The engine as a run makes it, on a mesh of its own where the config asks for one.

    Raises ConfigError when the slots asked for do not fit in `hbm` bytes a device.
    """
    memory = sampler_memory(config.sampling, model, train_mesh)
    chains = config.data.prompts_per_round * config.data.samples_per_prompt
    plan = memory.plan(config.sampling.slots, chains, available=int(hbm))
    # only texts need a tokenizer
    engine = make_engine(memory, None, plan.slots, config.seed, stream=lambda _: None)
    return Sampler(engine, memory.mesh, plan, memory.held)


def sampler_programs(sampler: Sampler, model: ModelConfig, lengths: Lengths) -> list[Program]:
    """A prompt's extend, and a full dispatch of decode steps over all slots: without drafts, and with those that they
    may check; of a step with drafts one token a slot is counted, the least that it draws."""
    engine, mesh = sampler.engine, sampler.mesh
    state_shapes = jax.eval_shape(engine.new_state)
    state = laid_out(state_shapes, engine.state_layout)
    params = engine.weights.shapes
    common: dict[str, Any] = {
        "mesh": mesh,
        "parameters": shard_bytes(params),
        "optimizer": 0,
        "cache": shard_bytes(state.cache),
        "gradients": 0,
        "held": sampler.held,
        "kernel_cost": cost_of_kernels(context=lengths.mean_context, experts=model.n_experts),
    }
    dtypes = f"{engine.dtype.name}, parameters {engine.param_dtype.name}, cache {engine.cache_dtype.name}"

    def kinds(queries: int, whole: bool) -> str:
        return f"{dtypes}, attention {'by a kernel' if engine.by_kernel(queries, whole) else 'plain'}"

    length = lengths.extend_bucket(engine.extend_lengths)
    each = engine.rows_of(length)[-1]
    given, rows, whole = engine.shards * each, engine.at_once(each, length), engine.is_whole(each, length)
    window = next((w for w in engine.extend_windows if w >= min(lengths.prompt, engine.cache_length)), None)
    window = window or engine.extend_windows[-1]
    tokens, ids = np.zeros((given, length), np.int32), np.zeros(given, np.int32)
    extend = Program(
        name=EXTEND,
        kind=EXTEND,
        shape=f"{rows} rows x {length} tokens of {engine.slots} slots x {state.cache.length}, {kinds(length, whole)}",
        lower=lambda: engine.programs.lower(
            "extend",
            (
                params,
                state,
                None if whole else ids,
                empty_rows(given, _STOPS),
                tokens,
                ids,
                ids,
                engine.drawable,
            ),
            window=window,
            at_once=rows,
        ),
        rows=rows,
        length=length,
        model_flops=forward_flops(model, rows * length, (length + 1) / 2, predicted=rows),
        **common,
    )
    here, whole_cache = engine.decode_rows[-1], engine.decode_windows[-1]
    slots = engine.shards * here

    def decode(drafts: int) -> Program:
        steps = engine.decode_steps
        checked = f", {drafts} drafts each" if drafts else ""
        return Program(
            name=f"{DECODE} (drafts)" if drafts else DECODE,
            kind=DECODE,
            shape=f"{steps} steps of {slots} slots x {state.cache.length}{checked}, {kinds(1 + drafts, whole=True)}",
            lower=lambda: engine.programs.lower(
                "decode_many",
                (params, state, empty_rows(slots, _STOPS), np.int32(0), np.int32(0), engine.drawable),
                window=whole_cache,
                capacity=steps,
                drafts=drafts,
            ),
            rows=slots,
            length=steps,
            model_flops=steps * forward_flops(model, slots * (1 + drafts), lengths.mean_context),
            **common,
        )

    return [extend, *map(decode, sorted({0, engine.drafts_of(here)}))]
