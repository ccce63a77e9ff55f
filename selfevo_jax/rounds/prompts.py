"""The prompts of a round: those that are given, and those that the model writes itself, each text kept as it comes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfevo_jax.config import Config
from selfevo_jax.data import PromptRow, SelfWrittenSection, read_prompts
from selfevo_jax.data.self_written import Harvest, WritingAsk, WrittenText, write_prompts
from selfevo_jax.errors import ConfigError, EmptySelectionError
from selfevo_jax.rounds.dealing import given
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.meta_stage import meta_rows, qa_rows
from selfevo_jax.rounds.ordinary import ordinary_rows
from selfevo_jax.rounds.workbench import Prompt, Workbench, sampling_params
from selfevo_jax.run.files import read_rows, understood
from selfevo_jax.run.names import WRITTEN, WRITTEN_COUNTS, WRITTEN_TEXTS, name_of
from selfevo_jax.sample import Chain, DrawKey, Request, SamplingParams, Single, is_whole
from selfevo_jax.tasks import Task, open_rows
from selfevo_jax.tasks.overlap import check_overlap
from selfevo_jax.text import FormatSection, PromptFormat


def prompts_of(loop: Loop, round: int) -> list[PromptRow]:
    """All prompts of a round; those that the model writes are written once."""
    if loop.config.rounds.prompts == "answered":
        return answered_prompts(loop, round)
    own = _written(loop, round)
    return [*given(loop.config, loop.task, round), *([] if own is None else own.harvest.prompts)]


def answered_prompts(loop: Loop, round: int) -> list[PromptRow]:
    """Prompts of D_QA and D_meta, each text once, in an order of the round's own; no more than a round has."""
    prompts = [row.prompt for row in qa_rows(loop)] + [row.prompt for row in meta_rows(loop)]
    texts = dict.fromkeys(prompts)
    rows = [PromptRow(f"answered-{n}", text) for n, text in enumerate(texts)]
    rng = random.Random(f"answered prompts {loop.config.seed} {round}")
    return rng.sample(rows, min(len(rows), loop.config.data.prompts_per_round))


@dataclass(frozen=True)
class Written:
    """What the model wrote for a round."""

    wanted: int
    given: int
    harvest: Harvest

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {"wanted": self.wanted, "given": self.given, **self.harvest.to_dict()}


def write_own(loop: Loop, round: int) -> Written | None:
    """The phase of a round in which the model writes prompts; None where all of them are given.

    Warns where they are fewer than were wanted, and raises EmptySelectionError where they are too few for what a round
    must keep.
    """
    own = _written(loop, round)
    if own is not None:
        _require_enough(loop, round, own)
    return own


def _written(loop: Loop, round: int) -> Written | None:
    """What the checkpoint before a round has written for it. Texts that are there are read, never sampled again."""
    data, dir = loop.config.data, loop.dir
    section, wanted = data.self_written, data.to_write(round)
    if section is None or not wanted:
        return None
    rows, texts, counts = (dir.round(round, name) for name in (WRITTEN, WRITTEN_TEXTS, WRITTEN_COUNTS))
    told = dir.load(counts)
    if told is not None and dir.has(rows) and dir.has(texts):
        dir.require(rows)
        with understood(rows):
            kept = [PromptRow(**row) for row in read_rows(rows)]
        with understood(counts):
            own = Written(told["wanted"], told["given"], Harvest.of_dict(told, kept))
    else:
        harvest, said = _write(loop, round, section, wanted)
        own = Written(wanted, len(given(loop.config, loop.task, round)), harvest)
        dir.write_rows(texts, said)
        dir.write_rows(rows, harvest.prompts)
        dir.write_json(counts, own.to_dict())
        loop.reporter.line(f"  round {round}: {harvest.line()}")
    return own


def _write(loop: Loop, round: int, section: SelfWrittenSection, wanted: int) -> tuple[Harvest, list[dict[str, Any]]]:
    """What became of the texts, and the texts in the order in which they were asked for."""
    dir, title = loop.dir, f"round {round}: write prompts"
    writing = Writing.of(loop.bench, section)
    writer = write_prompts(
        wanted,
        seeds(loop.task, section),
        [prompt for number in range(1, round) for prompt in _kept(loop, number)],
        _evaluated(loop),
        section,
        name=f"{loop.config.seed}-{round}",
        there=_known(loop, round),
    )
    with dir.journal(dir.round(round, WRITTEN_TEXTS)) as journal:
        loop.tell_notes()
        found = {row["id"]: row for row in journal.rows}
        if found:
            loop.reporter.line(f"  {len(found)} texts with prompts are kept")
        said: list[dict[str, Any]] = []
        asks = next(writer)
        while True:
            shown = {ask.id: ask.text for ask in asks}

            def done(chain: Any, shown: Mapping[str, str] = shown) -> None:
                text = chain.completion
                row = {"id": chain.id, "sample": 0, "asked": shown[chain.id]}
                row |= {"text": text.text, "finish": text.finish, "error": text.error}
                journal.append(row)
                found[chain.id] = row

            chains: list[Chain] = [writing.chain(ask, round) for ask in asks if ask.id not in found]
            if chains:
                loop.bench.run(loop.checkpoints.decoding(name_of(round - 1)), chains, loop.reporter, title, done)
            said += (rows := [found[ask.id] for ask in asks])
            try:
                asks = writer.send([WrittenText(r["text"], is_whole(r["finish"]), r["error"]) for r in rows])
            except StopIteration as end:
                return end.value, said


@dataclass(frozen=True)
class Writing:
    """How the model is asked for prompts."""

    format: PromptFormat
    params: SamplingParams
    asked: int

    @classmethod
    def of(cls, bench: Workbench, section: SelfWrittenSection) -> Writing:
        own = bench.format.config
        as_text = own.kind == "plain" if section.as_text is None else section.as_text
        if as_text:
            config = FormatSection(respond="{prompt}", stop_strings=own.stop_strings)
        elif own.kind == "plain":
            raise ConfigError(
                "data.self_written.as_text: false, but format.kind is plain, which has no turns; leave it out"
            )
        else:
            config = own.model_copy(update={"respond": "{prompt}"})
        format = PromptFormat(config, bench.tokenizer)
        return cls(format, sampling_params(bench.config.sampling.write, format), section.asked)

    def chain(self, ask: WritingAsk, round: int) -> Single:
        """One text; it ends where the number behind the last prompt that is asked for begins."""
        stop = f"\n{ask.first + self.asked}."
        params = replace(self.params, stop_strings=(*self.params.stop_strings, stop))
        return Single(ask.id, Request(tuple(self.format.respond(ask.text)), params, DrawKey(round, "write", ask.id)))


def _seeds(task: Task, section: SelfWrittenSection) -> Sequence[PromptRow]:
    """The given prompts that are shown as examples."""
    of = section.seeds
    return task.prompts(1) if of is None else read_prompts(of.source, columns=of.columns)


def seeds(task: Task, section: SelfWrittenSection) -> list[str]:
    """Their texts."""
    return [row.prompt for row in _seeds(task, section)]


def _kept(loop: Loop, round: int) -> list[str]:
    """What the model has written for a round that is there; its prompts may have been given to it, as in a fork."""
    counts, rows = (loop.dir.round(round, name) for name in (WRITTEN_COUNTS, WRITTEN))
    if loop.dir.load(counts) is None:
        return []
    loop.dir.require(rows)
    with understood(rows):
        return [row["prompt"] for row in read_rows(rows)]


def _evaluated(loop: Loop) -> list[str]:
    gold = [row.prompt for of in loop.task.evaluation().values() for row in of.rows]
    others = [row.prompt for of in loop.open_sets.values() for row in of.rows]
    return gold + others + [row.prompt for row in ordinary_rows(loop.config)]


def _known(loop: Loop, round: int) -> Iterator[str]:
    """What new prompts must differ from beside the examples: given ones, and those that the model has learnt from."""
    for number in range(1, round + 1):
        yield from (row.prompt for row in given(loop.config, loop.task, number))
    yield from (row.prompt for row in meta_rows(loop))
    yield from (row.prompt for row in qa_rows(loop))


# --- before there is any


def writing_rounds(config: Config) -> list[int]:
    """The rounds for which the model writes prompts."""
    return [number for number in range(1, config.rounds.number + 1) if config.data.to_write(number)]


def first_asks(config: Config, task: Task, section: SelfWrittenSection) -> list[WritingAsk]:
    """What is asked for first; it depends on no text of the model, and what is asked later is like it."""
    round = writing_rounds(config)[0]
    name = f"{config.seed}-{round}"
    return next(write_prompts(config.data.to_write(round), seeds(task, section), [], [], section, name=name))


def expected(config: Config, task: Task, round: int) -> list[PromptRow]:
    """The prompts of a round as far as they are known before it: seeds, as long as the settings let a prompt be, stand
    for those that the model will write."""
    data = config.data
    rows, section, own = given(config, task, round), data.self_written, data.to_write(round)
    if section is None or not own:
        return rows
    words = [seed.split()[: section.most_words] for seed in seeds(task, section)]
    return rows + [PromptRow(f"written-{i}", " ".join(words[i % len(words)])) for i in range(own)]


def check_writing(config: Config, task: Task, bench: Workbench) -> str | None:
    """A line where some of the first texts cannot be as long as they may. Raises DataError for seeds that are rows of
    an evaluation set, ConfigError where there are too few, or none can be shown within the cache."""
    section = config.data.self_written
    if section is None or not writing_rounds(config):
        return None
    if section.seeds is not None:
        rows: dict[str, Sequence[Prompt]] = {f"evaluation.{n}": of.rows for n, of in task.evaluation().items()}
        rows |= {f"open_ended.{name}": own for name, own in open_rows(config.data).items()}
        rows["ordinary"] = ordinary_rows(config)
        check_overlap(rows, {"self_written.seeds": _seeds(task, section)})
    writing, room = Writing.of(bench, section), config.sampling.cache_length
    sizes = [len(writing.format.respond(ask.text)) for ask in first_asks(config, task, section)]
    most, drawn = max(sizes), config.sampling.write.max_new_tokens
    remedy = "raise sampling.cache_length, or lower data.self_written.examples or data.self_written.most_words"
    if min(sizes) >= room:
        raise ConfigError(
            f"data.self_written: the examples that the model is shown take {min(sizes)} tokens or more, but "
            f"sampling.cache_length is {room}; {remedy}"
        )
    if (short := sum(size + drawn > room for size in sizes)) == 0:
        return None
    return (
        f"{short} of the first {len(sizes)} texts with prompts have no room for sampling.write.max_new_tokens {drawn} "
        f"within sampling.cache_length {room} (examples take up to {most} tokens); {remedy}"
    )


_REMEDIES = {
    "texts": "raise data.self_written.patience",
    "failed": "raise sampling.cache_length, or lower data.self_written.examples",
    "empty": "a longer list of seeds (data.self_written.seeds), or other words in data.self_written.head, may help",
    "clipped": "raise sampling.write.max_new_tokens",
    "short": "lower data.self_written.least_words",
    "long": "raise data.self_written.most_words",
    "characters": "a lower sampling.write.temperature may help",
    "unsuitable": "shorten data.self_written.unsuitable",
    "copy": "more seeds (data.self_written.seeds) or a higher sampling.write.temperature may help",
    "similar": "more seeds (data.self_written.seeds) or a higher sampling.write.temperature may help",
    "evaluation": "seeds that are less like the evaluation sets may help",
}
"""What would keep more prompts, by what most of them are lost to."""


def _require_enough(loop: Loop, round: int, own: Written) -> None:
    harvest, have = own.harvest, len(own.harvest.prompts)
    if have == own.wanted:
        return
    lost = {"texts": 0, "failed": harvest.failed, "empty": harvest.empty, **harvest.refused}
    remedy = _REMEDIES[max(lost, key=lambda reason: lost[reason])]
    fewer = f"round {round}: the model wrote {have} of {own.wanted} prompts ({harvest.line()})"
    data, rounds = loop.config.data, loop.config.rounds
    a_prompt = rounds.most_of_prompt(data.samples_per_prompt)
    most = (own.given + have) * a_prompt
    if most < rounds.minimum_kept:
        raise EmptySelectionError(
            f"{fewer}: with {own.given} given ones the round can keep {most} rows at most, expected "
            f"{rounds.minimum_kept} or more (rounds.minimum_kept). The weights are untouched and the round is not "
            f"trained. {remedy[0].upper()}{remedy[1:]}. {loop.way_on(round)}"
        )
    loop.reporter.warn(f"{fewer}; the round goes on with {own.given + have} prompts. {remedy[0].upper()}{remedy[1:]}")
