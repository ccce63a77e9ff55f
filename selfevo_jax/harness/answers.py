"""What the tasks of a harness ask for, answered by the engine: texts, direct and refined, and likelihoods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfevo_jax.chains import Rollout, StageParams
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError, shown
from selfevo_jax.harness.likelihood import Likelihood, Pair, asked, beginning, scoring, windows
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.limits import clipped, not_run
from selfevo_jax.rounds.workbench import Workbench

_READ = ("until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p", "min_p")
_GREEDY_TOO = ("top_k", "top_p", "min_p")
"""Settings that change nothing where nothing is drawn."""


@dataclass(frozen=True)
class Settings:
    """How a task wants a text written; None: as the config says."""

    until: tuple[str, ...] = ()
    most: int | None = None
    """Tokens."""
    temperature: float = 0.0
    others: tuple[tuple[str, float], ...] = ()
    """top_k, top_p and min_p, where something is drawn."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """From a task's generation_kwargs. Raises ConfigError for one that this engine does not have."""
        if unknown := [key for key in given if key not in _READ]:
            raise ConfigError(
                f"--harness: generation_kwargs.{unknown[0]} is {shown(given[unknown[0]])}; this engine has "
                f"{', '.join(_READ)}; remove it from the task"
            )
        until = given.get("until") or ()
        until = (until,) if isinstance(until, str) else tuple(until)
        temperature = float(given.get("temperature") or 0.0)
        if given.get("do_sample") is False:
            temperature = 0.0
        elif given.get("do_sample") and given.get("temperature") is None:
            temperature = 1.0
        drawn = tuple((key, given[key]) for key in _GREEDY_TOO if given.get(key) is not None) if temperature else ()
        return cls(tuple(text for text in until if text), given.get("max_gen_toks"), temperature, drawn)


class Answers:
    """Each request is run once, whatever asks for it again: texts of both modes come of one chain."""

    def __init__(self, bench: Workbench, params: Any, reporter: Reporter, refine: bool) -> None:
        """`refine`: whether texts are also judged and refined."""
        self._bench, self._params, self._reporter, self._refine = bench, params, reporter, refine
        self._texts: dict[tuple[str, Settings, int], Rollout] = {}
        self._scores: dict[Pair, Likelihood] = {}

    def texts(self, requests: Sequence[tuple[str, Settings]]) -> list[Rollout]:
        """The rollout of each prompt with its settings; the same one again is drawn anew where it is not greedy.

        Raises ConfigError, with the limit, where one could not be run: nothing that was not asked is scored.
        """
        counts: Counter[tuple[str, Settings]] = Counter()
        keys = []
        for prompt, settings in requests:
            keys.append((prompt, settings, counts[prompt, settings] if settings.temperature else 0))
            counts[prompt, settings] += 1
        new = [key for key in dict.fromkeys(keys) if key not in self._texts]
        bench, turns = self._bench, max(1, self._bench.config.rounds.turns)
        bench.engine.fit([len(bench.format.respond(prompt)) for prompt, _, _ in new])
        chains = [
            bench.chain(
                PromptRow(f"{len(self._texts) + n}", prompt),
                self._stages(settings),
                round=0,
                sample=sample,
                judge=self._refine,
                turns=turns,
            )
            for n, (prompt, settings, sample) in enumerate(new)
        ]
        rollouts = bench.roll_out(self._params, chains, self._reporter, "answering the tasks")
        sampling = bench.config.sampling
        if (lost := not_run(rollouts, sampling)) is not None:
            raise ConfigError(f"--harness: {lost}; raise it, or leave the task out")
        for line in clipped(rollouts, sampling):
            self._reporter.warn(f"--harness: {line}")
        self._texts |= dict(zip(new, rollouts, strict=True))
        return [self._texts[key] for key in keys]

    def likelihoods(self, requests: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Of each text behind its context (see `asked`)."""
        bench = self._bench
        return self._scored([asked(bench.format, bench.tokenizer, *pair) for pair in requests], greedy=True)

    def rolling(self, texts: Sequence[str]) -> list[float]:
        """The log-probability of each whole text, which is no prompt, in windows of sampling.cache_length."""
        tokenizer, length = self._bench.tokenizer, self._bench.engine.cache_length
        first = beginning(tokenizer)
        pieces = [windows(tokenizer.encode_run(text, prefix=True), first, length) for text in texts]
        found = iter(self._scored([pair for parts in pieces for pair in parts], greedy=False))
        return [sum(next(found).logprob for _ in parts) for parts in pieces]

    def _scored(self, pairs: Sequence[Pair], greedy: bool) -> list[Likelihood]:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._scores]
        self._bench.engine.fit([len(before) for before, _ in new])
        chains = [scoring(f"text {n}", pair, greedy) for n, pair in enumerate(new)]
        self._bench.run(self._params, chains, self._reporter, "scoring the tasks' texts")
        scores = {pair: chain.result for pair, chain in zip(new, chains, strict=True) if chain.result is not None}
        errors = [found.error for found in scores.values() if found.error is not None]
        if errors:
            raise ConfigError(
                f"--harness: {len(errors)} of {len(new)} texts could not be scored; the first: {errors[0]}; raise "
                "sampling.cache_length, or leave the task out"
            )
        self._scores |= scores
        return [self._scores[pair] for pair in pairs]

    def _stages(self, settings: Settings) -> StageParams:
        """Sampling settings of the stages: what a task says of its answers holds for refinements, too."""
        stages = self._bench.stages(greedy=True)
        stops = tuple(dict.fromkeys((*stages.respond.stop_strings, *settings.until)))
        changes: dict[str, Any] = {"stop_strings": stops, "temperature": settings.temperature, **dict(settings.others)}
        if settings.most is not None:
            changes["max_new_tokens"] = settings.most
        answer = replace(stages.respond, **changes)
        return StageParams(answer, stages.feedback, replace(stages.refine, **changes))
