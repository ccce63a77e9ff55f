"""A model that is loaded: it answers, judges its answers, refines them, and says how probable a text is."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, overload

from selfevo_jax.api.given import path_text, require_numbers, require_seed, require_settings, require_whole, texts
from selfevo_jax.api.settings import as_overrides
from selfevo_jax.api.targets import target_config
from selfevo_jax.chains import Feedback, Generated, Rollout
from selfevo_jax.config import Config
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError
from selfevo_jax.harness.likelihood import Likelihood, asked, beginning, scoring
from selfevo_jax.model import param_count
from selfevo_jax.progress import counted
from selfevo_jax.rounds.workbench import Workbench, open_workbench, sampling_params
from selfevo_jax.sample import Chain, Completion, DrawKey, Request, Single
from selfevo_jax.text import FormatSection, PromptFormat

SLOTS = 8
"""Texts that are decoded side by side, unless the settings say another number."""
T = TypeVar("T")


def load(source: str | Path, settings: Mapping[str, Any] | None = None, *, seed: int = 0) -> Model:
    """Loads a model, on what JAX finds (GPU, TPU, else CPU).

    Args:
      source: `builtin:stories`; a run directory (its newest checkpoint), `RUN@2`, `RUN@meta` or `RUN@base`; a
        checkpoint inside a run; a Hugging Face folder; a `.gguf` file; `hub:OWNER/NAME`; `package:NAME`; or a config
        (`.yaml`). A run's model is asked as the run asks it, a model alone by its chat template.
      settings: keys of the config, with dots, in place of its own: `{"sampling.cache_length": 1024}`. `sampling.slots`
        is 8 unless it is among them: texts that are decoded side by side. `sampling.cache_length` is the most tokens
        of a prompt with all that is said to it.
      seed: enters every draw.

    Raises ModelError where there is no such model or it cannot be used, ConfigError for a faulty setting, SelfevoError
    where the platform is not available.
    """
    named = path_text("source", source)
    require_settings(settings)
    require_seed(seed, drawn=False)
    given = {"sampling.slots": SLOTS, **(settings or {}), "seed": seed}
    config = target_config(named, as_overrides(given))
    bench = open_workbench(config)
    return Model(bench, bench.engine.place(bench.base_params()))


class Model:
    """A loaded model; made by `load`. Programs are compiled when they are first needed.

    One prompt gives one result, several give a list in their order. Prompts are texts, asked in the model's format (a
    run's own, else the chat template). Draws follow from `seed`, prompt and place: the k-th of equal prompts in a call
    gets the k-th draw, so that five requests give five texts; and without `seed` each call draws anew. In float32 a
    text does not depend on the other prompts of its call.
    """

    def __init__(self, bench: Workbench, params: Any) -> None:
        self._bench, self._params = bench, params
        self._calls = count()

    def __repr__(self) -> str:
        return f"<Model {self.source}: {param_count(self._bench.model):,} parameters, format {self.config.format.kind}>"

    @property
    def config(self) -> Config:
        """How the model is asked."""
        return self._bench.config

    @property
    def source(self) -> str:
        """Where the model came from."""
        return self._bench.source.origin

    @overload
    def sample(  # type: ignore[overload-overlap]
        self,
        prompts: str,
        n: int = ...,
        *,
        raw: bool = ...,
        temperature: float | None = ...,
        top_k: int | None = ...,
        top_p: float | None = ...,
        min_p: float | None = ...,
        max_new_tokens: int | None = ...,
        stop: str | Sequence[str] = ...,
        seed: int | None = ...,
    ) -> list[Completion]: ...
    @overload
    def sample(
        self,
        prompts: Sequence[str],
        n: int = ...,
        *,
        raw: bool = ...,
        temperature: float | None = ...,
        top_k: int | None = ...,
        top_p: float | None = ...,
        min_p: float | None = ...,
        max_new_tokens: int | None = ...,
        stop: str | Sequence[str] = ...,
        seed: int | None = ...,
    ) -> list[list[Completion]]: ...
    def sample(
        self,
        prompts: str | Sequence[str],
        n: int = 1,
        *,
        raw: bool = False,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> list[Completion] | list[list[Completion]]:
        """Texts of the model: `n` different draws for each prompt.

        Args:
          n: texts a prompt.
          raw: the prompts are the beginnings of texts, and are continued as they are (with the space that may stand
            between); else they are asked.
          temperature, top_k, top_p, min_p: None: as the config says (0.8 for a model alone); temperature 0 is greedy,
            and all texts of a prompt are equal.
          max_new_tokens: of a text at most; None: as the config says.
          stop: texts that end a text, beside the end of a turn; they are not part of it.
          seed: None: another draw in each call.

        Returns the texts with their tokens, log-probabilities (in nats, of the model without temperature) and finish:
        `stop` or `stop_string` where the model came to its end, `length` or `cache` where it was cut, `error` where the
        prompt could not be run, with the reason in `error`.

        Raises ConfigError for prompts that are no texts, and for settings that cannot be used.
        """
        given, ends = texts("prompts", prompts), texts("stop", stop)
        require_whole(1, must=True, n=n)
        require_whole(1, max_new_tokens=max_new_tokens)
        require_whole(0, top_k=top_k)
        require_numbers(temperature=temperature, top_p=top_p, min_p=min_p)
        require_seed(seed)
        bench = self._bench
        format = self._bare if raw else bench.format
        stage = sampling_params(bench.config.sampling.respond, format, temperature)
        own = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "max_new_tokens": max_new_tokens}
        stops = (*stage.stop_strings, *ends)
        changes: dict[str, Any] = {key: value for key, value in own.items() if value is not None}
        params = replace(stage, stop_strings=tuple(dict.fromkeys(stops)), **changes).validated()
        chains = [
            Single(f"{id}/{k}", Request(start, params, DrawKey(prompt_id=id, sample=k)))
            for prompt, id, first in self._keys(given, seed, n)
            for start in [tuple(format.respond(prompt)) or (beginning(bench.tokenizer),)]
            for k in range(first, first + n)
        ]
        self._run(chains)
        drawn = [self._whole(_done(chain.completion), raw) for chain in chains]
        found = [drawn[at : at + n] for at in range(0, len(drawn), n)]
        return found[0] if isinstance(prompts, str) else found

    @overload
    def refine(  # type: ignore[overload-overlap]
        self, prompts: str, *, turns: int | None = ..., temperature: float | None = ..., seed: int | None = ...
    ) -> Rollout: ...
    @overload
    def refine(
        self,
        prompts: Sequence[str],
        *,
        turns: int | None = ...,
        temperature: float | None = ...,
        seed: int | None = ...,
    ) -> list[Rollout]: ...
    def refine(
        self,
        prompts: str | Sequence[str],
        *,
        turns: int | None = None,
        temperature: float | None = 0.0,
        seed: int | None = None,
    ) -> Rollout | list[Rollout]:
        """Answers, judges and refines, as a round does: SELF's chain (Lu et al., arXiv 2310.00533).

        Args:
          turns: refinements at most; None: as the config says, and at least one.
          temperature: of all texts; None: of each stage what the config says.
          seed: None: another draw in each call.

        Returns the chain of each prompt: `candidates[0]` is the response, the others are refinements, each with its
        feedback (`good` is None where that cannot be read), and `candidates[chosen]` is the answer.

        Raises ConfigError for prompts that are no texts, and for settings that cannot be used.
        """
        given = texts("prompts", prompts)
        require_whole(0, turns=turns)
        require_numbers(temperature=temperature)
        require_seed(seed)
        bench = self._bench
        stages = bench.stages(temperature=temperature)
        most = max(1, bench.config.rounds.turns) if turns is None else turns
        chains = [
            bench.chain(PromptRow(id, prompt), stages, round=0, sample=sample, turns=most)
            for prompt, id, sample in self._keys(given, seed, 1)
        ]
        self._run(chains)
        found = [replace(_done(chain.result), id=str(at)) for at, chain in enumerate(chains)]
        return found[0] if isinstance(prompts, str) else found

    @overload
    def judge(  # type: ignore[overload-overlap]
        self, prompts: str, answers: str, *, temperature: float | None = ..., seed: int | None = ...
    ) -> Feedback: ...
    @overload
    def judge(
        self, prompts: Sequence[str], answers: Sequence[str], *, temperature: float | None = ..., seed: int | None = ...
    ) -> list[Feedback]: ...
    def judge(
        self,
        prompts: str | Sequence[str],
        answers: str | Sequence[str],
        *,
        temperature: float | None = 0.0,
        seed: int | None = None,
    ) -> Feedback | list[Feedback]:
        """The model's feedback on answers that are given, by the config's judge.

        Args:
          answers: one for each prompt.
          temperature: None: as the config says of feedback.
          seed: None: another draw in each call.

        Returns text, `good` (None where it cannot be read) and `rating` (None where the judge gives none); where the
        answer could not be judged `finish` is `error`, with the reason in `error`.

        Raises ConfigError for what is no text, and where there are not as many answers as prompts.
        """
        pairs = _paired(prompts, answers)
        require_numbers(temperature=temperature)
        require_seed(seed)
        bench = self._bench
        params = bench.stages(temperature=temperature).feedback
        chains = [
            Generated(id, bench.judging(prompt, answer, DrawKey(stage="judge", prompt_id=id, sample=sample), params))
            for (prompt, answer), (_, id, sample) in zip(pairs, self._keys([p for p, _ in pairs], seed, 1), strict=True)
        ]
        self._run(chains)
        found = [_done(chain.result).feedback for chain in chains]
        return found[0] if isinstance(prompts, str) else found

    @overload
    def score(  # type: ignore[overload-overlap]
        self, prompts: str, answers: str, *, raw: bool = ...
    ) -> Likelihood: ...
    @overload
    def score(self, prompts: Sequence[str], answers: Sequence[str], *, raw: bool = ...) -> list[Likelihood]: ...
    def score(
        self, prompts: str | Sequence[str], answers: str | Sequence[str], *, raw: bool = False
    ) -> Likelihood | list[Likelihood]:
        """How probable the model finds answers that are given; nothing is drawn.

        Args:
          answers: one for each prompt.
          raw: prompt and answer are one text, as it is; an empty prompt is the beginning of a text. Else the prompt is
            asked in the model's format, and the answer is said to it.

        Returns the log-probability of each answer (in nats, summed over its `tokens`), and whether greedy sampling
        gives it.

        Raises ConfigError for what is no text, and where there are not as many answers as prompts.
        """
        bench = self._bench
        format = self._bare if raw else bench.format
        pairs = [asked(format, bench.tokenizer, *pair) for pair in _paired(prompts, answers)]
        chains = [scoring(str(at), pair) for at, pair in enumerate(pairs)]
        self._run(chains)
        found = [_done(chain.result) for chain in chains]
        return found[0] if isinstance(prompts, str) else found

    def _run(self, chains: Sequence[Chain]) -> None:
        self._bench.engine.run(self._params, chains)

    @functools.cached_property
    def _bare(self) -> PromptFormat:
        """Of prompts that are continued as they are."""
        return PromptFormat(FormatSection(respond="{prompt}"), self._bench.tokenizer)

    def _whole(self, found: Completion, raw: bool) -> Completion:
        """A text that goes on from another begins with its space, which decoding leaves out before a text alone."""
        tokenizer = self._bench.tokenizer
        pieces = map(tokenizer.token_bytes, found.tokens)
        if raw and tokenizer.prefix_space and next(filter(None, pieces), b"").startswith(b" "):
            return replace(found, text=f" {found.text}")
        return found

    def _keys(self, prompts: Sequence[str], seed: int | None, n: int) -> list[tuple[str, str, int]]:
        """Of each prompt its own text, what its draws depend on, and the first of its `n` draws."""
        call = f"call {next(self._calls)}" if seed is None else f"seed {seed}"
        before: Counter[str] = Counter()
        found = []
        for prompt in prompts:
            id = f"{call}, {hashlib.sha256(prompt.encode()).hexdigest()[:16]}"
            found.append((prompt, id, n * before[prompt]))
            before[prompt] += 1
        return found


def _paired(prompts: str | Sequence[str], answers: str | Sequence[str]) -> list[tuple[str, str]]:
    left, right = texts("prompts", prompts), texts("answers", answers)
    if len(left) != len(right):
        raise ConfigError(f"answers: found {len(right)} for {counted(len(left), 'prompt')}, expected one for each")
    return list(zip(left, right, strict=True))


def _done(found: T | None) -> T:
    assert found is not None, "a chain has not ended"
    return found
