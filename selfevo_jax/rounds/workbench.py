"""What every phase of a run works with, made once from the config: mesh, model, tokenizer, format, engine."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from selfevo_jax import hosts, notice
from selfevo_jax.accelerators import JAX_NAMES, remedy
from selfevo_jax.chains import Generated, Judgement, RefineChain, Rollout, StageParams, Turns, judging
from selfevo_jax.checkpoint import ModelSource, open_model
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError, Faults, SelfevoError, first_line
from selfevo_jax.judges import BatchJudge, ChainJudge, Leaks, format_for, open_batch, open_judge
from selfevo_jax.methods import Method, open_method
from selfevo_jax.model import ModelConfig, param_shardings, preset_shape, require_finite
from selfevo_jax.process import cache_folder, give_back_freed_memory
from selfevo_jax.progress import Reporter
from selfevo_jax.run.sources import require_unchanged
from selfevo_jax.sample import (
    Chain,
    DrawKey,
    Engine,
    SamplerMemory,
    SamplingParams,
    SlotPlan,
    StageSection,
    available_bytes,
    make_engine,
    sampler_memory,
)
from selfevo_jax.sample.compiling import Watch
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.tasks import Cut, cut_of
from selfevo_jax.text import PromptFormat
from selfevo_jax.text.tokenizer import BaseTokenizer

_CORES_A_PROGRAM, _CORES_A_PROGRAM_CPU = 2, 1
"""Of this machine, for each program that is compiled beside others: 16 cores compile a 24-layer sampler for a GPU in
83 s, one program after the other in more than 220 s. A CPU's program takes one: of 14 s of SmolLM2-135M's decoding all
other threads had 0.7."""
_NOTICED_SECONDS = 1.0
"""Between looks, while programs are compiled, at whether this process has been told to end."""


def select_platform(platform: str) -> None:
    """Makes JAX use the platform asked for, and nothing else.

    Raises SelfevoError, with the command to install what is missing, when it is absent or held by another process: a
    run never falls back to another platform.
    """
    try:
        if platform != "auto":
            jax.config.update("jax_platforms", JAX_NAMES[platform])
        found = jax.devices()[0].platform
    # JAX asserts that there is a backend before it says that there is none
    except (RuntimeError, AssertionError) as error:
        said = first_line(error) if str(error) else "JAX knows no such platform"
        if platform == "auto":
            raise SelfevoError(f"platform=auto: JAX cannot start ({said}); check JAX_PLATFORMS, or unset it") from error
        raise SelfevoError(f"platform={platform}: not available ({said}): {remedy(platform)}") from error
    if found != platform != "auto":
        raise SelfevoError(f"platform={platform}: JAX has already started on {found}; start a new process")


def keep_compiled_programs() -> None:
    """Turns JAX's persistent compilation cache on, so that the next process does not compile the same programs.

    It lies in ~/.cache/selfevo_jax/xla (or under XDG_CACHE_HOME); JAX's own settings go before
    (JAX_COMPILATION_CACHE_DIR, JAX_ENABLE_COMPILATION_CACHE=false).
    """
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder("xla")))


class Prompt(Protocol):
    """A row with an id and a prompt: unlabeled, or with a gold answer that is not looked at here."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...


def sampling_params(stage: StageSection, format: PromptFormat, temperature: float | None = None) -> SamplingParams:
    """The settings of a stage, with the stops of a format; a `temperature` replaces the configured one."""
    return SamplingParams(
        temperature=stage.temperature if temperature is None else temperature,
        top_k=stage.top_k,
        top_p=stage.top_p,
        min_p=stage.min_p,
        max_new_tokens=stage.max_new_tokens,
        stop_ids=format.stop_ids,
        stop_strings=format.stop_strings,
    )


@dataclass(frozen=True)
class Workbench:
    """The fixed parts of a run."""

    config: Config
    mesh: Mesh
    source: ModelSource
    format: PromptFormat
    judge: ChainJudge
    slots: SlotPlan
    engine: Engine
    method: Method
    cut: Cut | None
    record: Callable[[dict[str, Any]], None] | None = None
    """Takes what each rollout has cost, as plain JSON values."""
    batch: BatchJudge | None = None
    """A judge of finished chains; None: their own feedback decides."""

    @property
    def model(self) -> ModelConfig:
        return self.source.config

    @property
    def tokenizer(self) -> BaseTokenizer:
        return self.source.tokenizer

    @property
    def label_readers(self) -> list[str]:
        """What reads gold answers inside the rounds."""
        found = [f"method {self.method.name}"] if self.method.reads_labels else []
        return [*found, f"judge {self.batch.name}"] if self.batch is not None and self.batch.reads_labels else found

    @property
    def leaks(self) -> Leaks:
        """Finds feedback in direct answers."""
        return Leaks.of(self.judge, self.format.config)

    def base_params(self) -> Any:
        """M_0 in fp32, laid out for training. Raises ModelError where it is not finite."""
        with hosts.working("reading the model"):
            loaded = self.source.load(param_shardings(self.model, self.mesh, TRAIN_RULES), jnp.float32)
            return require_finite(loaded, self.source.origin)

    def stages(self, greedy: bool = False, temperature: float | None = None) -> StageParams:
        """Sampling settings of the stages; `greedy` or a `temperature` replaces the configured temperatures."""

        def params(stage: StageSection) -> SamplingParams:
            return sampling_params(stage, self.format, 0.0 if greedy else temperature)

        s = self.config.sampling
        return StageParams(respond=params(s.respond), feedback=params(s.feedback), refine=params(s.refine))

    def chain(
        self,
        row: Prompt,
        stages: StageParams,
        *,
        round: int,
        sample: int = 0,
        judge: bool = True,
        turns: int | None = None,
        stop_when_good: bool = True,
        kind: Callable[..., RefineChain] = RefineChain,
        **own: Any,
    ) -> RefineChain:
        """One prompt through the stages of a kind of chain, which may have settings of its own; what runs on behind an
        answer is cut off, where the task knows it."""
        return kind(
            row.id,
            row.prompt,
            self.format,
            stages,
            self.tokenizer.decode,
            judge=self.judge if judge else None,
            turns=self.config.rounds.turns if turns is None else turns,
            round=round,
            sample=sample,
            stop_when_good=stop_when_good,
            cut=self.cut,
            **own,
        )

    def judging(self, prompt: str, answer: str, key: DrawKey, params: SamplingParams) -> Turns[Judgement]:
        """Feedback on an answer that is given."""
        head = self.format.respond(prompt)
        answered = [*head, *self.format.continuation(head, answer)]
        return judging(self.judge, answered, self.format, params, self.tokenizer.decode, key)

    def roll_out(
        self,
        params: Any,
        chains: Sequence[Generated[Rollout]],
        reporter: Reporter,
        title: str,
        on_rollout: Callable[[Rollout], None] | None = None,
    ) -> list[Rollout]:
        """Runs the chains; the rollouts come back in the order of the chains."""

        def done(chain: Any) -> None:
            if on_rollout is not None and chain.result is not None:
                on_rollout(chain.result)

        self.run(params, chains, reporter, title, done)
        return [chain.result for chain in chains if chain.result is not None]

    def run(
        self,
        params: Any,
        chains: Sequence[Chain],
        reporter: Reporter,
        title: str,
        on_done: Callable[[Chain], None] | None = None,
    ) -> None:
        """Runs chains of any kind, with progress and a record of the cost; the sampler is compiled at its first use."""
        if not chains:
            return
        self._compile(params, reporter)
        with reporter.task(title, len(chains), "chains") as meter:
            stats = self.engine.run(
                params,
                chains,
                on_done=on_done,
                progress=lambda s: meter.set(s.chains, f"{s.tokens_per_second:.0f} tokens/s"),
                safe_point=lambda: notice.stop_if_given(f"while {title}"),
            )
        if self.record is not None and hosts.is_writer():
            self.record({"phase": title, **stats.to_dict(), "floor": self.engine.floor(stats)})

    def _compile(self, params: Any, reporter: Reporter) -> None:
        """Compiles the sampler before its first use."""
        if self.engine.prepared:
            return
        reporter.line(f"  {self.slots}")
        jobs = self.engine.compilations(params, n_stops=len(self.format.stop_ids))
        at_once = self.compiled_at_once(len(jobs))
        watch = Watch(self.mesh.devices.flat[0], self.engine.compiled_layers, len(jobs), at_once)
        begin = time.perf_counter()
        pool = ThreadPoolExecutor(at_once)
        try:
            with reporter.task("compiling the sampler", len(jobs), "programs") as meter:
                left = {pool.submit(job) for job in jobs}
                while left:
                    done, left = wait(left, timeout=_NOTICED_SECONDS, return_when=FIRST_COMPLETED)
                    for job in done:
                        job.result()
                    meter.set(len(jobs) - len(left))
                    notice.stop_if_given("while compiling the sampler")
        finally:  # an end, or Ctrl-C, waits for no program: nothing of it needs to be kept
            pool.shutdown(wait=False, cancel_futures=True)
        if hosts.is_writer():
            watch.note(time.perf_counter() - begin)
        give_back_freed_memory()

    def compiled_at_once(self, programs: int) -> int:
        """Of so many programs. Several processes compile in one order: a compiler may share its work among them."""
        if hosts.count() > 1:
            return 1
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        each = _CORES_A_PROGRAM_CPU if self.mesh.devices.flat[0].platform == "cpu" else _CORES_A_PROGRAM
        return max(1, min(cores // each, programs))


def check_preset(preset: str | None, source: ModelSource) -> None:
    """Raises ConfigError when the model has not the shape that the config names, with the first field that differs."""
    if preset is None:
        return
    wanted, found = preset_shape(preset).to_dict(), source.config.to_dict()
    for name, value in wanted.items():
        # a fine-tuned model may stretch its positions, and pad its vocabulary
        if name not in {"max_position", "rope_scaling", "vocab_size"} and value != found[name]:
            raise ConfigError(
                f"model.preset: {preset} has {name} {value}, but {source.origin} has {found[name]}; name the preset of "
                "its shape, or none"
            )


def check_positions(config: Config, model: ModelConfig) -> None:
    """Raises ConfigError for a length that goes beyond the positions that the model was made for, with its key."""
    most = model.positions
    lengths = {
        "sampling.cache_length": config.sampling.cache_length,
        "meta.length": config.meta.length,
        "learn.length": config.learn.length,
    }
    for key, length in lengths.items():
        if length > most:
            raise ConfigError(f"{key}: found {length}, but the model has {most} positions; set it to {most} at most")


def open_workbench(config: Config, record: Callable[[dict[str, Any]], None] | None = None) -> Workbench:
    """Builds the parts of a run. Raises SelfevoError (or a kind of it) with all in the config that cannot work."""
    select_platform(config.platform)
    hosts.check_devices()
    keep_compiled_programs()
    faults = Faults()
    m = config.mesh
    mesh = faults.of(lambda: make_mesh(m.data, m.fsdp, m.tensor, groups=config.sampling.tensor))
    source = faults.of(lambda: _opened(config))
    judge = faults.of(lambda: open_judge(config.judge))
    batch = faults.of(lambda: open_batch(config.judge))
    method, cut = faults.of(lambda: open_method(config)), faults.of(lambda: cut_of(config))
    fmt = plan = memory = None
    if source is not None:
        shape, tokenizer = source.config, source.tokenizer
        faults.of(lambda: check_positions(config, shape))
        if judge is not None:
            fmt = faults.of(functools.partial(_format, judge, config, tokenizer))
        if mesh is not None:
            memory = faults.of(lambda: sampler_memory(config.sampling, shape, mesh))
    if memory is not None:
        plan = faults.of(functools.partial(_slots, config, memory))
    faults.refuse()
    assert mesh is not None
    assert source is not None
    assert judge is not None
    assert method is not None
    assert fmt is not None
    assert memory is not None
    assert plan is not None
    engine = make_engine(memory, source.tokenizer, plan.slots, config.seed)
    return Workbench(config, mesh, source, fmt, judge, plan, engine, method, cut, record, batch)


def _opened(config: Config) -> ModelSource:
    require_unchanged(config.model.source)
    source = open_model(config.model.source, config.model.tokenizer)
    check_preset(config.model.preset, source)
    return source


def _format(judge: ChainJudge, config: Config, tokenizer: BaseTokenizer) -> PromptFormat:
    return PromptFormat(format_for(judge, config.format), tokenizer)


def _slots(config: Config, memory: SamplerMemory) -> SlotPlan:
    # all hosts take the slots that fit in the smallest
    available = min(hosts.gather("comparing memory", available_bytes(memory.train_mesh or memory.mesh)))
    chains = config.data.prompts_per_round * config.data.samples_per_prompt
    return memory.plan(config.sampling.slots, chains, available)
