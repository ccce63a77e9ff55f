"""Whether a run's texts are still good: what each checkpoint's answers have of faults, how probable it finds ordinary
answers of people, and a sentence where either got worse than the base's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from selfevo_jax.config import Config
from selfevo_jax.evaluate import (
    BIGRAMS,
    FAULTS,
    fault_changes,
    grew,
    likelihood_change,
    paired,
    rollout_of,
    text_figures,
)
from selfevo_jax.judges import Leaks, format_for, open_judge
from selfevo_jax.report.cells import estimate, percent, plain_table
from selfevo_jax.run.files import read_json, read_rows
from selfevo_jax.run.names import BASE
from selfevo_jax.run.run_dir import RunDir

LEGEND = (
    (
        r"^looping$",
        "texts: of the greedy direct answers. clipped: cut at a limit. looping: a fifth or more of the 3-grams of "
        "words, and at least three, stood in the answer before. leaked: words of the judge or refine instruction, or "
        "the mark of a verdict, that are not in the prompt. distinct: share of different ones among "
        f"{BIGRAMS:,} bigrams of words, drawn from all answers. tokens: of an answer.",
    ),
    (
        r"^log-likelihood$",
        "log-likelihood: of held-out answers of people and their ends, in nats a token, ± the standard error over "
        "rows; against base: on the same rows.",
    ),
)
"""What shows in the tables, as a pattern, and what it means."""

ORDINARY, LIKELIHOOD = "ordinary answers", "log-likelihood"
"""How a comparison names what is measured by them; no set has white space in its name."""
Scored = dict[tuple[str, str, str], dict[str, float | None]]
"""(set, measure, checkpoint) -> row id -> value; None: there is none."""


@dataclass(frozen=True)
class OrdinaryRow:
    """One checkpoint on the held-out ordinary answers."""

    checkpoint: str
    figures: dict[str, Any]
    """An `OrdinaryFigures` as plain values, without what is known row by row."""
    change: dict[str, Any] | None
    """Against the base: a `LikelihoodChange` as plain values; None for the base itself."""


class Texts:
    """What the texts of a run's checkpoints have, read from its directory."""

    def __init__(self, run: RunDir, config: Config) -> None:
        self._run, self._config = run, config
        self._base: dict[str, dict[str, Any]] = {}
        self._ordinary: dict[str, Any] | None = None

    def of_set(self, name: str, set_name: str, figures: Mapping[str, Any]) -> dict[str, Any] | None:
        """Of a checkpoint on a set, whose figures are given: a `TextFigures` as plain values without what is known row
        by row; and against the base, which is asked for before the others, a `change` (fault -> a `Paired` as plain
        values, and whether it `grew`). None where they are not known."""
        found = self.figures(name, set_name, figures)
        if found is None:
            return None
        base = self._base.get(set_name)
        changes = {} if base is None else fault_changes(base["by_row"], found["by_row"])
        if name == BASE:
            self._base[set_name] = found
        told = {fault: asdict(change) | {"grew": grew(change)} for fault, change in changes.items()}
        return {key: value for key, value in found.items() if key != "by_row"} | {"change": told or None}

    def figures(self, name: str, set_name: str, figures: Mapping[str, Any]) -> dict[str, Any] | None:
        """A `TextFigures` as plain values: the one among the figures, or, where they were made before there was any,
        that of the texts that are kept."""
        if (told := figures.get("texts")) is not None:
            return dict(told)
        file = self._run.texts(name, set_name)
        if not file.exists():
            return None
        judge = open_judge(self._config.judge)
        leaks = Leaks.of(judge, format_for(judge, self._config.format))
        return asdict(text_figures([rollout_of(row) for row in read_rows(file)], leaks))

    def ordinary(self, name: str, shown: str) -> list[OrdinaryRow]:
        """Of a checkpoint, the base before the others; none where it was not measured."""
        file = self._run.ordinary(name)
        if not file.exists():
            return []
        found: dict[str, Any] = read_json(file)
        change = None if self._ordinary is None else likelihood_change(self._ordinary["by_row"], found["by_row"])
        if name == BASE:
            self._ordinary = found
        figures = {key: value for key, value in found.items() if key != "by_row"}
        return [OrdinaryRow(shown, figures, None if change is None else asdict(change))]


def text_scores(run: RunDir, texts: Texts, names: Mapping[str, str], sets: Sequence[str]) -> Scored:
    """What two runs are compared by, row by row: 1 for an answer with a fault, 0 for one without; log-likelihoods.
    `names`: checkpoint as it is shown -> its name in the run directory; `sets`: those to read, ORDINARY among them, or
    none for all."""
    found: Scored = {}
    for shown, name in names.items():
        file = run.evaluation(name)
        for set_name, figures in (read_json(file) if file.exists() else {}).items():
            told = texts.figures(name, set_name, figures) if not sets or set_name in sets else None
            for fault, rows in told["by_row"].items() if told is not None else ():
                one = {id: None if has is None else float(has) for id, has in rows.items()}
                found[set_name, fault, shown] = one
        if (not sets or ORDINARY in sets) and run.ordinary(name).exists():
            found[ORDINARY, LIKELIHOOD, shown] = read_json(run.ordinary(name))["by_row"]
    return found


def text_table(name: str, texts: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """Of a set: checkpoint and its `Texts.of_set`."""
    cells = [
        [
            checkpoint,
            *(percent(found[fault], "\n") for fault in FAULTS),
            "-" if found["distinct_bigrams"] is None else f"{100 * found['distinct_bigrams']:.1f}",
            estimate(found["length"]),
        ]
        for checkpoint, found in texts
    ]
    return plain_table(f"{name}: texts of direct answers in %", ["model", *FAULTS, "distinct", "tokens"], cells)


def ordinary_table(rows: Sequence[OrdinaryRow]) -> Table:
    cells = []
    for row in rows:
        found, change = row.figures, row.change
        lost = [f"{word} {found[key]}" for key, word in _LOST.items() if found[key]]
        against = "-" if change is None else signed(change["gain"], change["stderr"])
        told = "\n".join([f"{found['log_likelihood']['n']}/{found['rows']}", *lost])
        cells.append([row.checkpoint, estimate(found["log_likelihood"], digits=3), against, told, str(found["tokens"])])
    headers = ["model", "log-likelihood", "against base", "rows", "tokens"]
    return plain_table("held-out ordinary answers, in nats a token", headers, cells)


_LOST = {"too_long": "too long", "not_finite": "not finite"}


def text_line(found: Mapping[str, Any]) -> str:
    """A `TextFigures` as plain values, in a line."""
    shares = [f"{fault} {percent(found[fault])} %" for fault in FAULTS]
    bigrams = found["distinct_bigrams"]
    distinct = [] if bigrams is None else [f"distinct bigrams {100 * bigrams:.1f} %"]
    return ", ".join([*shares, *distinct, f"tokens {estimate(found['length'])}"])


def ordinary_line(found: Mapping[str, Any]) -> str:
    """An `OrdinaryFigures` as plain values, in a line."""
    lost = [f"{word} {found[key]}" for key, word in _LOST.items() if found[key]]
    told = f"{estimate(found['log_likelihood'], digits=3)} nats a token, {found['log_likelihood']['n']} rows"
    return ", ".join([told, *lost])


def signed(value: float, stderr: float | None, times: float = 1.0, digits: int = 3) -> str:
    """`+0.012 ± 0.004`."""
    error = "" if stderr is None else f" ± {times * stderr:.{digits}f}"
    return f"{times * value:+.{digits}f}{error}"


@dataclass(frozen=True)
class Measured:
    """What is known of one checkpoint beside the base."""

    checkpoint: str
    accuracy: Mapping[str, Any] | None
    """Direct answers of the first set against the base's: a `Paired` as plain values with `better`."""
    texts: Mapping[str, Mapping[str, Any]]
    """Set -> `Texts.of_set`."""
    ordinary: OrdinaryRow | None


def accuracy_change(before: Mapping[str, bool | None], after: Mapping[str, bool | None]) -> dict[str, Any] | None:
    found = paired(before, after)
    return None if found is None else asdict(found) | {"better": found.better, "worse": found.worse}


def warnings(base: Measured, others: Iterable[Measured]) -> Iterator[str]:
    """A sentence for each checkpoint whose texts are worse than the base's: a fault measurably more frequent (see
    `grew`), or ordinary answers less probable by more than two standard errors. It says whether accuracy rose."""
    for one in others:
        found = [*_faults(base, one), *_less_probable(base, one)]
        if found:
            yield f"{one.checkpoint}: {_accuracy(one.accuracy, next(iter(one.texts), ''))}: {'; '.join(found)}."


def _accuracy(change: Mapping[str, Any] | None, set_name: str) -> str:
    if change is None:
        return "texts are worse than the base's"
    told = f"direct accuracy on {set_name} {signed(change['gain'], change['stderr'], 100, 1)} points against the base"
    return f"{told}, {'but' if change['better'] else 'and'} texts are worse"


def _faults(base: Measured, one: Measured) -> Iterator[str]:
    for name, found in one.texts.items():
        for fault, change in (found["change"] or {}).items():
            if change["grew"]:
                before, after = (100 * of[fault]["share"] for of in (base.texts[name], found))
                told = signed(change["gain"], change["stderr"], 100, 1)
                yield f"{fault} on {name} {before:.1f} -> {after:.1f} % ({told} points, {change['n']} rows)"


def _less_probable(base: Measured, one: Measured) -> Iterator[str]:
    if base.ordinary is None or one.ordinary is None or one.ordinary.change is None:
        return
    change = one.ordinary.change
    if change["lower"]:
        before, after = (row.figures["log_likelihood"]["value"] for row in (base.ordinary, one.ordinary))
        told = f"{signed(change['gain'], change['stderr'])}, {change['n']} rows"
        yield f"log-likelihood of ordinary answers {before:.3f} -> {after:.3f} nats a token ({told})"
