"""A model's answers beside those of another side, and a judge asked about them in both orders.

Models are in memory one after the other. Every text is kept as it comes, so that nothing is sampled or asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.checkpoint import open_model
from selfevo_jax.config import Config
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges import SIDES, EndpointSection, Judgement, Pair, PairPrompt
from selfevo_jax.judges.endpoint import Question, ask_endpoint
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.limits import CLIPPED_WARN_ABOVE
from selfevo_jax.rounds.workbench import Workbench, open_workbench
from selfevo_jax.run.journal import Journal
from selfevo_jax.run.sources import require_unchanged
from selfevo_jax.sample import Chain, Completion, DrawKey, Request, Single, is_whole
from selfevo_jax.text import PromptFormat

OPENING, CLOSING = "Final verdict: [[", "]]"
"""What a brief judge's text begins and ends with."""

Answers = Mapping[str, str]
"""Prompt id -> an answer that is given."""


@dataclass(frozen=True)
class Said:
    """A text that was sampled."""

    text: str
    finish: str
    error: str | None = None
    """Why there is none."""

    @property
    def whole(self) -> bool:
        return self.error is None and is_whole(self.finish)


class Kept:
    """Texts by their keys, the same on every process; with a journal those of an earlier, broken off call too."""

    def __init__(self, journal: Journal | None) -> None:
        self.journal = journal
        rows = hosts.share("texts of an earlier call", journal.rows if journal is not None else [])
        self._found = {row["id"]: row for row in rows}

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str) -> Said | None:
        row = self._found.get(key)
        return None if row is None else Said(row["text"], row["finish"], row.get("error"))

    def add(self, key: str, said: Said) -> None:
        row = {"id": key, "sample": 0, **asdict(said)}
        self._found[key] = row
        if self.journal is not None:
            self.journal.append(row)


class Contest:
    """The answers of both sides, and what a judge says of them.

    Args:
      config: of the model, its format and its sampling; answers are greedy, with `sampling.respond.max_new_tokens`, and
        a judging model's texts have `sampling.feedback.max_new_tokens`.
      rows: the prompts.
      pair: what asks the judge.
      kept: what was sampled before.
      brief: a judging model's text begins with OPENING, and ends with its verdict: it explains nothing. For models that
        do not keep to the form by themselves.
    """

    def __init__(
        self,
        config: Config,
        rows: Sequence[PromptRow],
        pair: PairPrompt,
        kept: Kept,
        reporter: Reporter,
        brief: bool = False,
    ) -> None:
        self.config, self.rows, self.pair, self.kept, self.reporter = config, rows, pair, kept, reporter
        self.brief = brief
        self._bench: Workbench | None = None
        self._params: tuple[str, Any] | None = None

    def answers(self, side: str, source: str) -> dict[str, Said]:
        """Greedy answers of a model to every prompt; `side` names it in the journal and in what is shown."""

        def requests(bench: Workbench) -> dict[str, Request]:
            stop = bench.stages(greedy=True).respond
            return {
                row.id: Request(tuple(bench.format.respond(row.prompt)), stop, DrawKey(0, side, row.id))
                for row in self.rows
            }

        found = self._sampled(source, side, [row.id for row in self.rows], requests, f"answers of {source}")
        self._warn(list(found.values()), "answers", source, "sampling.respond.max_new_tokens")
        return found

    def judged_by_model(self, source: str, model: Mapping[str, Said], other: Mapping[str, Said]) -> list[Pair]:
        """A model as the judge."""

        def requests(bench: Workbench) -> dict[str, Request]:
            format, params = judge_format(bench, self.pair), bench.stages(greedy=True).feedback
            if self.brief:
                params = replace(params, stop_strings=(CLOSING,))
            return {
                key: Request(tuple(self._shown(format, text)), params, DrawKey(0, "judge", key))
                for key, text in asked.items()
            }

        asked = self._asked(model, other)
        found = self._sampled(source, "judge", list(asked), requests, f"{source} judges")
        self._warn(list(found.values()), "judgements", source, "sampling.feedback.max_new_tokens")
        return self._pairs(model, other, {key: self._judgement(said) for key, said in found.items()})

    def _shown(self, format: PromptFormat, text: str) -> list[int]:
        shown = format.respond(text)
        return [*shown, *format.continuation(shown, OPENING)] if self.brief else shown

    def _judgement(self, said: Said) -> Judgement:
        closing = CLOSING if said.finish == "stop_string" else ""
        text = f"{OPENING}{said.text.strip()}{closing}" if self.brief else said.text
        return Judgement.of("" if said.error is not None else text, said.whole, said.error)

    def judged_by_endpoint(
        self, section: EndpointSection, model: Mapping[str, Said], other: Mapping[str, Said]
    ) -> list[Pair]:
        """A server as the judge."""
        asked = self._asked(model, other)
        questions = [Question.of(f"judge/{key}", self.pair.system, text) for key, text in asked.items()]
        found = ask_endpoint(section, questions, self.kept.journal, self.reporter, f"{section.model} judges")
        judged = {key: Judgement.of(a.text, a.whole, a.error) for key, a in zip(asked, found, strict=True)}
        return self._pairs(model, other, judged)

    def _asked(self, model: Mapping[str, Said], other: Mapping[str, Said]) -> dict[str, str]:
        """What the judge is shown, by `ORDER/ID`: the prompts that both sides have answered, in both orders."""
        return {
            f"{order}/{row.id}": self.pair.text(row.prompt, (model[row.id].text, other[row.id].text), order == SIDES[0])
            for row in self.rows
            if model[row.id].error is None and other[row.id].error is None
            for order in SIDES
        }

    def _pairs(
        self, model: Mapping[str, Said], other: Mapping[str, Said], judged: Mapping[str, Judgement]
    ) -> list[Pair]:
        found = []
        for row in self.rows:
            answers = model[row.id], other[row.id]
            why = next((said.error for said in answers if said.error is not None), None)
            first, second = (judged.get(f"{order}/{row.id}") or Judgement.of("", False, why) for order in SIDES)
            found.append(Pair(row.id, row.prompt, (answers[0].text, answers[1].text), (first, second)))
        return found

    def _sampled(
        self,
        source: str,
        stage: str,
        keys: Sequence[str],
        requests: Callable[[Workbench], Mapping[str, Request]],
        title: str,
    ) -> dict[str, Said]:
        """The texts of some requests, which are made only where some of them are not there yet."""
        if any(self.kept.get(f"{stage}/{key}") is None for key in keys):
            bench = self._open(source)
            left = {key: r for key, r in requests(bench).items() if self.kept.get(f"{stage}/{key}") is None}
            chains: list[Chain] = [Single(f"{stage}/{key}", request) for key, request in left.items()]

            def done(chain: Any) -> None:
                said: Completion = chain.completion
                self.kept.add(chain.id, Said(said.text, said.finish, said.error))

            bench.run(self._loaded(bench, source), chains, self.reporter, title, done)
        found = {key: self.kept.get(f"{stage}/{key}") for key in keys}
        return {key: said for key, said in found.items() if said is not None}

    def _open(self, source: str) -> Workbench:
        """The sampler for a model: the one before, where its shape and its tokens are the same."""
        config = with_model(self.config, source)
        if self._bench is not None:
            require_unchanged(source)
            found = open_model(source, config.model.tokenizer)
            same = found.config == self._bench.model
            if same and found.tokenizer.fingerprint == self._bench.tokenizer.fingerprint:
                self._bench = replace(self._bench, config=config, source=found)
                return self._bench
        self._bench = open_workbench(config)
        self._bench.engine.fit(self._lengths(self._bench))
        return self._bench

    def _loaded(self, bench: Workbench, source: str) -> Any:
        if self._params is None or self._params[0] != source:
            self._params = None  # one model in memory
            self._params = source, bench.engine.place(bench.base_params())
        return self._params[1]

    def _lengths(self, bench: Workbench) -> list[int]:
        """Token counts to expect: of the prompts, and of what the judge is shown with answers of any length."""
        prompts = [len(bench.format.respond(row.prompt)) for row in self.rows]
        format, most = judge_format(bench, self.pair), self.config.sampling.respond.max_new_tokens
        empty = len(format.respond(self.pair.text("", ("", ""), True)))
        judged = [empty + length + most * quarter // 2 for length in prompts for quarter in (1, 2, 3, 4)]
        return [length for length in prompts + judged if length <= bench.engine.cache_length]

    def _warn(self, said: Sequence[Said], what: str, source: str, key: str) -> None:
        lost = [one.error for one in said if one.error is not None]
        if len(lost) == len(said):
            raise ConfigError(f"{source}: none of the {what} could be sampled; raise sampling.cache_length ({lost[0]})")
        if lost:
            self.reporter.warn(
                f"{source}: {len(lost)} of {len(said)} {what} could not be sampled; the first: {lost[0]}"
            )
        cut = sum(one.finish in ("length", "cache") for one in said)
        if cut > CLIPPED_WARN_ABOVE * len(said):
            self.reporter.warn(f"{source}: {cut} of {len(said)} {what} were cut at a limit; raise {key}")


def with_model(config: Config, source: str) -> Config:
    """The config with another model; its own tokenizer and preset are not those of another one."""
    if source == config.model.source:
        return config
    return config.model_copy(update={"model": type(config.model)(source=source)})


def judge_format(bench: Workbench, pair: PairPrompt) -> PromptFormat:
    """How a model is asked to compare: the pair prompt alone, in the model's own template where the format is one."""
    respond = "{prompt}" if bench.format.config.kind == "chat" else "{prompt}\n\n"
    return PromptFormat(replace(bench.format.config, system=pair.system, respond=respond), bench.tokenizer)


def given(answers: Answers) -> dict[str, Said]:
    """Answers that were not sampled here."""
    return {id: Said(text, "stop") for id, text in answers.items()}


def journal_of(path: Path | None, belongs: str) -> Any:
    """A journal on process 0, as a context; None elsewhere, and without a path."""
    return Journal(path, belongs=belongs) if path is not None and hosts.is_writer() else nullcontext()


def to_row(pair: Pair) -> dict[str, Any]:
    """A pair as plain JSON values, every text in it."""
    return {
        "id": pair.id,
        "prompt": pair.prompt,
        "model": pair.answers[0],
        "against": pair.answers[1],
        "judgements": {
            f"model_{order}": {
                "text": judgement.text,
                "verdict": judgement.verdict.slot,
                "unread": judgement.verdict.unread,
                "error": judgement.error,
            }
            for order, judgement in zip(SIDES, pair.judgements, strict=True)
        },
        "outcome": pair.outcome,
    }
