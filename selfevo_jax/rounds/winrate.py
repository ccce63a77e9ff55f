"""A model's answers beside those of another side, and a judge asked about them: which is better, how good each is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from selfevo_jax.data import PromptRow
from selfevo_jax.judges import (
    CLOSING,
    SIDES,
    EndpointSection,
    JudgePrompt,
    Pair,
    RatingJudge,
    in_both_orders,
    mt_bench_pair,
    mt_bench_single,
    pair_text,
)
from selfevo_jax.judges.endpoint import Question, ask_endpoint
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.texts import Kept, Models, Said
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.sample import DrawKey, Request, SamplingParams, common_prefix
from selfevo_jax.text import PromptFormat

Answers = Mapping[str, Said]
"""Prompt id -> an answer."""


class TextJudge(Protocol):
    """What can be shown texts, and says something to each."""

    def said(self, stage: str, prompt: JudgePrompt, shown: Mapping[str, str]) -> dict[str, Said]:
        """By the keys of what is shown; `stage` names the questions in the journal."""
        ...


@dataclass(frozen=True)
class ModelJudge:
    """A model that is sampled here, greedily, with `sampling.feedback.max_new_tokens`."""

    models: Models
    source: str
    brief: bool = False
    """Its text begins with the prompt's opening, and ends with its verdict: it explains nothing. For models that do not
    keep to the form by themselves."""

    def said(self, stage: str, prompt: JudgePrompt, shown: Mapping[str, str]) -> dict[str, Said]:
        def requests(bench: Workbench) -> dict[str, Request]:
            return judge_requests(bench, prompt, shown, bench.stages(greedy=True).feedback, self.brief, 0, stage)

        found = self.models.texts(
            self.source, stage, list(shown), requests, "judgements", "sampling.feedback.max_new_tokens"
        )
        return {key: opened(said, prompt) for key, said in found.items()} if self.brief else found


def judge_requests(
    bench: Workbench,
    prompt: JudgePrompt,
    shown: Mapping[str, str],
    params: SamplingParams,
    brief: bool,
    round: int,
    stage: str,
) -> dict[str, Request]:
    """What asks a model about each of the texts; a brief one begins with the prompt's opening, and ends with its
    verdict."""
    format = judge_format(bench, prompt)
    if brief:
        params = replace(params, stop_strings=(CLOSING,))

    def tokens(text: str) -> tuple[int, ...]:
        found = format.respond(text)
        return (*found, *format.continuation(found, prompt.opening)) if brief else tuple(found)

    return {key: Request(tokens(text), params, DrawKey(round, stage, key)) for key, text in shown.items()}


def opened(said: Said, prompt: JudgePrompt) -> Said:
    """A brief judge's text with what it was made to begin with, and what ended it."""
    closing = CLOSING if said.finish == "stop_string" else ""
    return said if said.error is not None else replace(said, text=f"{prompt.opening}{said.text.strip()}{closing}")


@dataclass(frozen=True)
class ServerJudge:
    """A server that is asked."""

    section: EndpointSection
    kept: Kept
    reporter: Reporter
    title: str = ""
    """Of the questions, in what is shown; empty: judgements by the server's model."""
    record: Callable[[dict[str, Any]], None] | None = None
    """Takes what they have cost."""

    def said(self, stage: str, prompt: JudgePrompt, shown: Mapping[str, str]) -> dict[str, Said]:
        questions = [Question.of(f"{stage}/{key}", prompt.system, text) for key, text in shown.items()]
        title = self.title or f"{self.section.model}: judgements"
        answers = ask_endpoint(self.section, questions, self.kept, self.reporter, title, self.record)
        return {key: Said(a.text, a.finish, a.error) for key, a in zip(shown, answers, strict=True)}


def judge_format(bench: Workbench, prompt: JudgePrompt) -> PromptFormat:
    """How a model is asked to judge: the prompt alone, in the model's own template where the format is one."""
    respond = "{prompt}" if bench.format.config.kind == "chat" else "{prompt}\n\n"
    return PromptFormat(
        bench.format.config.model_copy(update={"system": prompt.system, "respond": respond}), bench.tokenizer
    )


def answers_of(models: Models, source: str, side: str, rows: Sequence[PromptRow]) -> dict[str, Said]:
    """Greedy answers of a model, with `sampling.respond.max_new_tokens`; `side` names them in the journal."""

    def requests(bench: Workbench) -> dict[str, Request]:
        params = bench.stages(greedy=True).respond
        return {
            row.id: Request(tuple(bench.format.respond(row.prompt)), params, DrawKey(0, side, row.id)) for row in rows
        }

    return models.texts(source, side, [row.id for row in rows], requests, "answers", "sampling.respond.max_new_tokens")


def lengths(bench: Workbench, rows: Sequence[PromptRow], ratings: bool = True) -> Iterator[int]:
    """Token counts to expect: of the prompts, and of what a judge is shown with answers of any length."""
    yield from (len(bench.format.respond(row.prompt)) for row in rows)
    for length in judged_lengths(bench, rows, ratings):
        yield from (length.least + length.answers * quarter // 4 for quarter in (1, 2, 3, 4))


@dataclass(frozen=True)
class JudgedLength:
    """Tokens of what a judge is shown of one prompt."""

    least: int
    """With empty answers."""
    common: int
    """Those at its beginning that it has in common with other prompts."""
    answers: int
    """Of the answers at most."""


def judged_lengths(bench: Workbench, rows: Sequence[PromptRow], ratings: bool) -> Iterator[JudgedLength]:
    """Of each prompt's pair, and of an answer's rating."""
    most, pair, single = bench.config.sampling.respond.max_new_tokens, mt_bench_pair(), mt_bench_single()
    kinds = [(pair, 2, lambda question: pair_text(pair, question, ("", ""), True))]
    if ratings:
        kinds.append((single, 1, lambda question: single.text(question=question, answer="")))
    for prompt, answers, text in kinds:
        format = judge_format(bench, prompt)
        common = common_prefix(*(format.respond(text(question)) for question in ("A", "B")))
        for row in rows:
            yield JudgedLength(len(format.respond(text(row.prompt))), common, answers * most)


def compared(
    judge: TextJudge, rows: Sequence[PromptRow], model: Answers, other: Answers, prompt: JudgePrompt | None = None
) -> list[Pair]:
    """Both answers to each prompt, judged in both orders; a prompt that a side could not answer is not judged."""
    asks = prompt or mt_bench_pair()
    shown = {
        f"{order}/{row.id}": text
        for row in rows
        if model[row.id].error is None and other[row.id].error is None
        for order, text in in_both_orders(asks, row.prompt, (model[row.id].text, other[row.id].text)).items()
    }
    said = judge.said("pair", asks, shown)
    found = []
    for row in rows:
        answers = model[row.id], other[row.id]
        lost = next((Said("", "error", answer.error) for answer in answers if answer.error is not None), None)
        both = [lost or said[f"{order}/{row.id}"] for order in SIDES]
        found.append(Pair.of(row.id, row.prompt, (answers[0].text, answers[1].text), both))
    return found


@dataclass(frozen=True)
class Rated:
    """An answer's mark from 1 to 10, in the judge's own words."""

    text: str
    rating: float | None
    """None: it cannot be read."""


def rated(judge: TextJudge, rows: Sequence[PromptRow], answers: Answers, side: str) -> dict[str, Rated]:
    """The marks of a side's answers, by prompt id; an answer that there is not has none."""
    prompt, read = mt_bench_single(), RatingJudge().read
    shown = {
        row.id: prompt.text(question=row.prompt, answer=answers[row.id].text)
        for row in rows
        if answers[row.id].error is None
    }
    said = judge.said(f"rating of {side}", prompt, shown)
    found = {id: Rated(one.text, read(one.text).rating if one.whole else None) for id, one in said.items()}
    return {row.id: found.get(row.id, Rated("", None)) for row in rows}


def to_row(pair: Pair, marks: Sequence[Mapping[str, Rated]] = ()) -> dict[str, Any]:
    """A pair, and the marks of both answers where there are some, as plain JSON values with every text in it."""
    judgements = {
        f"model_{order}": {"text": j.text, "verdict": j.verdict.slot, "unread": j.verdict.unread, "error": j.error}
        for order, j in zip(SIDES, pair.judgements, strict=True)
    }
    row = {"id": pair.id, "prompt": pair.prompt, "model": pair.answers[0], "against": pair.answers[1]}
    ratings = {side: vars(of[pair.id]) for side, of in zip(("model", "against"), marks, strict=False)}
    return row | {"judgements": judgements, "outcome": pair.outcome} | ({"ratings": ratings} if marks else {})
