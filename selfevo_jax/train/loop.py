"""The training loop: batches in, parameters out, with no wait for the device inside a step."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from selfevo_jax import hosts
from selfevo_jax.data import Batch
from selfevo_jax.errors import ConfigError, NonFiniteLossError
from selfevo_jax.model import ModelConfig, leaves_not_finite, require_finite, shown_leaves
from selfevo_jax.process import give_back_freed_memory
from selfevo_jax.sharding import TRAIN_RULES, ShardingRules, batch_sharding, on_devices, replicated, spans_processes
from selfevo_jax.train.keep import Keeper, TrainingKeeper
from selfevo_jax.train.optimizer import learning_rates
from selfevo_jax.train.settings import TrainConfig
from selfevo_jax.train.state import TrainState, init_state, learnt
from selfevo_jax.train.step import make_train_step

OnStep = Callable[[int, dict[str, float]], None]

_IN_FLIGHT = 2
"""Steps dispatched ahead of the metrics that are read: the device never waits for the host."""


class BatchSource(Protocol):
    """What the loop needs of `Batches`."""

    def at(self, step: int) -> tuple[Batch, list[list[str]]]: ...


_ALWAYS = ("loss", "learning_rate", "grad_norm", "tokens")


def step_row(step: int, found: Mapping[str, float]) -> dict[str, float]:
    """What is kept of a step, from 1: its loss, learning rate, gradient norm and tokens, and the figures of its
    objective but for those of which a step has nothing to take a mean of."""
    return {"step": step, **{key: found[key] for key in _ALWAYS}, **_figures(found)}


def _figures(found: Mapping[str, float]) -> dict[str, float]:
    others = ((name, value) for name, value in found.items() if name not in (*_ALWAYS, "targets"))
    return {name: value for name, value in others if math.isfinite(value)}


@dataclass(frozen=True)
class TrainReport:
    """What a run of steps did; lists have one entry a step."""

    losses: list[float] = field(default_factory=list)
    """Of the objective, before the update: for `sft` the weighted mean of the targets, in nats a token."""
    learning_rates: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    """Before clipping."""
    step_tokens: list[int] = field(default_factory=list)
    """Real tokens read (padding is not counted)."""
    figures: list[dict[str, float]] = field(default_factory=list)
    """Of the objective, by their names."""
    targets: int = 0
    places: int = 0
    """Token places computed, padding included."""
    seconds: float = 0.0
    first_step_seconds: float = 0.0
    """Of which until the first step was done: mostly compilation."""
    tokens_per_second: float = 0.0
    """Real tokens a second after the first step (0 when there was only one)."""

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def tokens(self) -> int:
        """Real tokens read in all steps."""
        return sum(self.step_tokens)

    def rows(self) -> Iterator[dict[str, float]]:
        """One row a step, from step 1: the same whether the training was interrupted or not."""
        columns = zip(self.losses, self.learning_rates, self.grad_norms, self.step_tokens, self.figures, strict=True)
        for step, (*always, figures) in enumerate(columns, start=1):
            yield step_row(step, dict(zip(_ALWAYS, always, strict=True))) | figures

    @property
    def padding_share(self) -> float:
        return 1 - self.tokens / self.places if self.places else 0.0


@dataclass
class _Log:
    """What steps have told so far, as plain JSON values: a training that goes on has those of its earlier part."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)
    targets: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Sent:
    """A step that was dispatched and not yet read."""

    step: int
    metrics: dict[str, jax.Array]
    ids: list[list[str]]
    rate: float
    tokens: int


def _names(ids: Sequence[Sequence[str]], most: int = 8) -> str:
    flat = [name for row in ids for name in row]
    return ", ".join(flat[:most]) + (f" and {len(flat) - most} more" if len(flat) > most else "")


def _require_finite(state: TrainState, step: int, rate: float, ids: list[list[str]]) -> None:
    """Of the parameters after a step whose own loss and gradient were finite."""
    if found := leaves_not_finite(state.params):
        raise NonFiniteLossError(
            f"step {step}: its update (learning rate {rate:g}) makes numbers that are not finite in "
            f"{shown_leaves(found)}; rows: {_names(ids)}; lower the learning rate; nothing is saved"
        )


def _check_batch(batch: Batch, ids: list[list[str]], step: int, config: ModelConfig, settings: TrainConfig) -> None:
    shape = tuple(batch.tokens.shape)
    if shape != (settings.batch_rows, settings.length):
        raise ConfigError(
            f"training: the batch of step {step} has shape {shape}, expected "
            f"({settings.batch_rows}, {settings.length}) (batch_rows, length)"
        )
    top = int(batch.tokens.max())
    if top >= config.vocab_size:
        # an embedding look-up would clamp it without a word
        row = int(batch.tokens.max(axis=1).argmax())
        raise ConfigError(
            f"training: token id {top} in rows {_names([ids[row]])}, but the model knows {config.vocab_size} tokens; "
            "model and tokenizer do not belong together"
        )


def run_steps(
    state: TrainState,
    config: ModelConfig,
    batches: BatchSource,
    settings: TrainConfig,
    mesh: Mesh,
    rules: ShardingRules = TRAIN_RULES,
    *,
    until: int | None = None,
    on_step: OnStep | None = None,
    keeper: Keeper | None = None,
    record: dict[str, Any] | None = None,
) -> tuple[TrainState, TrainReport]:
    """Updates from the state's own step up to `until` (all of `settings.steps` by default). The state is donated.

    Batches and learning rates are functions of the step: stopping and going on gives what one run would give.
    `on_step(step, metrics)` gets floats (`loss`, `learning_rate`, `grad_norm`, `tokens`, `targets`, and figures of the
    objective, NaN for those of nothing), up to two steps after the dispatch. `keeper` is given states on the way, and
    `record` is what it was given with the state to go on from: the report covers both parts. Raises
    NonFiniteLossError with the step and the ids of its rows, for a loss, a gradient or, before a state is kept or
    returned, parameters that are not finite.
    On a mesh over several processes every one calls it, with equal batches; HostError names one that did not.
    """
    if hosts.is_active() and spans_processes(mesh):
        hosts.barrier("training")
    step_fn = make_train_step(config, settings, mesh, rules)
    rows, whole = batch_sharding(mesh, rules, leading=1), replicated(mesh)
    rates = learning_rates(settings)
    first = int(jax.device_get(state.step))
    last = settings.steps if until is None else min(until, settings.steps)
    sent: collections.deque[_Sent] = collections.deque()
    log = _Log(**(record or {}))
    earlier = len(log.losses)
    log.figures += [{}] * (earlier - len(log.figures))  # of records that were made before there were any
    began = time.perf_counter() - log.seconds
    first_seconds = 0.0

    def read() -> None:
        nonlocal first_seconds
        done = sent.popleft()
        values = {name: float(value) for name, value in jax.device_get(done.metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            what = "loss" if not math.isfinite(values["loss"]) else "gradient norm"
            raise NonFiniteLossError(
                f"step {done.step}: the {what} is {values['loss' if what == 'loss' else 'grad_norm']}; rows: "
                f"{_names(done.ids)}; look at these rows, lower the learning rate, or compute in float32"
            )
        if len(log.losses) == earlier:
            first_seconds = time.perf_counter() - began - log.seconds
            give_back_freed_memory()
        log.losses.append(values["loss"])
        log.grad_norms.append(values["grad_norm"])
        log.tokens.append(done.tokens)
        log.figures.append(_figures(values))
        log.targets += int(values["targets"])
        if on_step is not None:
            on_step(done.step, {**values, "learning_rate": done.rate, "tokens": float(done.tokens)})

    for step in range(first, last):
        batch, ids = batches.at(step)
        _check_batch(batch, ids, step, config, settings)
        on_device = jax.tree.map(lambda x: on_devices(x, rows), batch.micro(settings.accumulate))
        rate = rates[step]
        state, metrics = step_fn(state, on_device, on_devices(np.asarray(rate), whole))
        sent.append(_Sent(step, metrics, ids, float(rate), int(np.count_nonzero(batch.segment_ids))))
        if len(sent) > _IN_FLIGHT or step == first:
            read()
        if keeper is not None and step + 1 < last and keeper.due(step + 1):
            while sent:
                read()
            _require_finite(state, step, rate, ids)
            keeper.keep(state, asdict(replace(log, seconds=time.perf_counter() - began)))
    while sent:
        read()
    if first < last:
        _require_finite(state, last - 1, rates[last - 1], ids)  # the loss of a next step would have told
    seconds = time.perf_counter() - began
    warm, here = seconds - log.seconds - first_seconds, log.tokens[earlier:]
    report = TrainReport(
        losses=log.losses,
        learning_rates=[float(rate) for rate in rates[first - earlier : last]],
        grad_norms=log.grad_norms,
        step_tokens=log.tokens,
        figures=log.figures,
        targets=log.targets,
        places=len(log.losses) * settings.batch_rows * settings.length,
        seconds=seconds,
        first_step_seconds=first_seconds,
        tokens_per_second=sum(here[1:]) / warm if len(here) > 1 and warm > 0 else 0.0,
    )
    return state, report


def fit(
    params: Any,
    config: ModelConfig,
    batches: BatchSource,
    settings: TrainConfig,
    mesh: Mesh,
    rules: ShardingRules = TRAIN_RULES,
    *,
    on_step: OnStep | None = None,
    keeper: TrainingKeeper | None = None,
) -> tuple[Any, TrainReport]:
    """Fine-tunes a copy of `params` for `settings.steps` steps; returns fp32 parameters sharded by `rules`.

    With `settings.lora` it returns the adapters (`merge_adapters` adds them to the parameters). `params` may lie
    anywhere and stay valid. `on_step` and errors are those of `run_steps`. With a `keeper` it goes on from the newest
    state that was kept.
    """
    state, record = init_state(params, config, settings, mesh, rules), None
    if keeper is not None:
        state, record = keeper.resume(state)
        require_finite(
            state.params, f"{keeper.store.folder}: the saved state", "remove this folder, and the training begins again"
        )
    state, report = run_steps(
        state, config, batches, settings, mesh, rules, on_step=on_step, keeper=keeper, record=record
    )
    if keeper is not None:
        keeper.store.finish()
    return learnt(state, config, settings, mesh, rules), report
