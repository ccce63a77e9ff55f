"""Texts of several models, one after the other in memory, each kept as it comes so that none is sampled twice."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from selfevo_jax import hosts
from selfevo_jax.checkpoint import open_model
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.limits import CLIPPED_WARN_ABOVE
from selfevo_jax.rounds.workbench import Workbench, open_workbench
from selfevo_jax.run.files import write_file
from selfevo_jax.run.journal import Journal, Row
from selfevo_jax.run.sources import require_unchanged
from selfevo_jax.sample import Chain, Request, Single, is_whole
from selfevo_jax.storage import storage_of


@dataclass(frozen=True)
class Said:
    """A text of a model, of a server, or from a file."""

    text: str
    finish: str = "stop"
    error: str | None = None
    """Why there is none."""

    @property
    def whole(self) -> bool:
        return self.error is None and is_whole(self.finish)


class Kept:
    """Texts by their keys, the same on every process; with a journal those of an earlier, broken off call too.

    `known` are rows of texts that are there already, the same on every process.
    """

    def __init__(self, journal: Journal | None, known: Iterable[Row] = ()) -> None:
        self._journal = journal
        rows = hosts.share("texts of an earlier call", journal.rows if journal is not None else [])
        self._found: dict[str, Row] = {row["id"]: row for row in (*known, *rows)}

    @property
    def rows(self) -> list[Row]:
        return list(self._found.values())

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> Said:
        row = self._found[key]
        return Said(row["text"], row["finish"], row.get("error"))

    def add(self, key: str, said: Said) -> None:
        self.append({"id": key, "sample": 0, **asdict(said)})

    def append(self, row: Row) -> None:
        self._found[row["id"]] = row
        if self._journal is not None:
            self._journal.append(row)


def journal_of(path: Path | None, belongs: str, reporter: Reporter) -> Any:
    """A journal on process 0, as a context; None elsewhere, and without a path.

    Texts in the file that belong to something else are moved to a file beside it, with a warning.
    """
    if path is None or not hosts.is_writer():
        return nullcontext()
    journal = Journal(path, belongs=belongs)
    if journal.bad:
        there = next(free for n in count(1) if not (free := path.with_name(f"{path.name}.{n}")).exists())
        write_file(there, b"".join(line + b"\n" for line in journal.bad))
        reporter.warn(
            f"{path}: {len(journal.bad)} texts are changed, or of a call with other models, prompts or settings; they "
            f"are moved to {there}, and what is missing is sampled or asked again"
        )
    elif journal.rows:
        reporter.line(f"{path}: going on; {len(journal.rows)} texts of an earlier call are there")
    return journal


def discard(path: Path) -> None:
    """Takes a journal away, with all that it has on a bucket: its texts are in another file now."""
    storage_of(path).lines(path).replaced()
    path.unlink(missing_ok=True)


def settings_of(config: Config) -> str:
    """A digest of the settings that greedy texts depend on."""
    sampling = config.sampling.model_dump(mode="json", exclude={"slots", "tensor"})
    told = [config.format.model_dump(mode="json"), config.model.tokenizer, sampling]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Models:
    """Models that are sampled in turn.

    Args:
      config: of the model, its format and its sampling.
      kept: what was sampled before.
      lengths: token counts to expect of all requests of a model, for which its sampler is compiled.
      tokenizers: source -> its tokenizer, where that does not come with the model.
      on: what is shown before the name of a model.
    """

    def __init__(
        self,
        config: Config,
        kept: Kept,
        reporter: Reporter,
        lengths: Callable[[Workbench], Iterable[int]],
        tokenizers: Mapping[str, str] | None = None,
        on: str = "",
    ) -> None:
        self.config, self.kept, self.reporter, self._expected, self.on = config, kept, reporter, lengths, on
        self._tokenizers = tokenizers or {}
        self._bench: Workbench | None = None
        self._params: tuple[str, Any] | None = None

    def texts(
        self,
        source: str,
        stage: str,
        keys: Sequence[str],
        requests: Callable[[Workbench], Mapping[str, Request]],
        what: str,
        limit: str,
    ) -> dict[str, Said]:
        """What a model says to each request.

        Args:
          source: the model.
          stage: names the requests in the journal, with the key of each.
          keys: of the requests.
          requests: makes them; called only where one of them was not answered before.
          what: names them in what is shown.
          limit: the setting to raise where many are cut.

        Raises ConfigError where none of them could be sampled.
        """
        if any(f"{stage}/{key}" not in self.kept for key in keys):
            bench = self._open(source)
            title = f"{self.on}{source}: {what}"
            params = functools.partial(self._loaded, bench, source)
            sample_left(bench, params, self.kept, stage, requests(bench), self.reporter, title)
        found = {key: self.kept[f"{stage}/{key}"] for key in keys}
        tell_lost(list(found.values()), f"{self.on}{source}: ", what, limit, self.reporter)
        return found

    def release(self) -> None:
        """Keeps no parameters in memory."""
        self._params = None

    def _open(self, source: str) -> Workbench:
        """The sampler for a model: the one before, where its shape and its tokens are the same."""
        config = with_model(self.config, source, self._tokenizers.get(source))
        if self._bench is not None:
            require_unchanged(source)
            found = open_model(source, config.model.tokenizer)
            same = found.config == self._bench.model
            if same and found.tokenizer.fingerprint == self._bench.tokenizer.fingerprint:
                self._bench = replace(self._bench, config=config, source=found)
                return self._bench
        self._bench = open_workbench(config)
        longest = self._bench.engine.cache_length
        self._bench.engine.fit([length for length in self._expected(self._bench) if length <= longest])
        return self._bench

    def _loaded(self, bench: Workbench, source: str) -> Any:
        if self._params is None or self._params[0] != source:
            self._params = None  # one model in memory
            self._params = source, bench.engine.place(bench.base_params())
        return self._params[1]


def sample_left(
    bench: Workbench,
    params: Callable[[], Any],
    kept: Kept,
    stage: str,
    requests: Mapping[str, Request],
    reporter: Reporter,
    title: str,
) -> None:
    """Samples what is said to those requests that were not answered before, and keeps each text as it ends. Parameters
    are asked for where there is one; `stage` names the requests among what is kept, with the key of each."""
    named = {f"{stage}/{key}": request for key, request in requests.items()}
    chains: list[Chain] = [Single(key, request) for key, request in named.items() if key not in kept]

    def done(chain: Any) -> None:
        said = chain.completion
        kept.add(chain.id, Said(said.text, said.finish, said.error))

    if chains:
        bench.run(params(), chains, reporter, title, done)


def tell_lost(said: Sequence[Said], who: str, what: str, limit: str, reporter: Reporter) -> None:
    """Warns of texts that could not be sampled, and of many that were cut. Raises ConfigError where none could."""
    lost = [one.error for one in said if one.error is not None]
    if lost and len(lost) == len(said):
        raise ConfigError(f"{who}none of the {what} could be sampled ({lost[0]}); raise sampling.cache_length")
    if lost:
        reporter.warn(f"{who}{len(lost)} of {len(said)} {what} could not be sampled; the first: {lost[0]}")
    cut = sum(one.finish in ("length", "cache") for one in said)
    if cut > CLIPPED_WARN_ABOVE * len(said):
        reporter.warn(f"{who}{cut} of {len(said)} {what} were cut at a limit; raise {limit}")


def with_model(config: Config, source: str, tokenizer: str | None = None) -> Config:
    """The config with another model, and the tokenizer of that where it does not come with it; the config's own
    tokenizer and preset are not those of another one."""
    if source == config.model.source:
        return config
    return config.model_copy(update={"model": type(config.model)(source=source, tokenizer=tokenizer)})
