"""Runs side by side: the same checkpoints on the same rows, runs that differ in the seed alone as one.

Read from run directories alone, so that live runs may be compared. What two runs answered is compared row by row, and
refused where the rows, or what scores them, are not the same.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from selfevo_jax.errors import ConfigError
from selfevo_jax.evaluate import paired
from selfevo_jax.report.figures import Figure, over_seeds
from selfevo_jax.report.members import CONTENT, DATA, Member, Right, member_of, scorers_of
from selfevo_jax.report.open_comparison import EQUAL_LENGTHS, compared
from selfevo_jax.report.status import evaluation_sets
from selfevo_jax.report.texts import ORDINARY
from selfevo_jax.run.artefacts import EVALUATION, OPEN_ENDED, ORDINARY_SET, SETS, below, entry_of, is_read_by
from selfevo_jax.run.identity import is_safe_to_change
from selfevo_jax.run.names import META
from selfevo_jax.run.run_dir import RunDir

MODES = ("direct", "refined", "consistency", "both")
GAIN, LAST = "gain", "last"
_LIMIT = "data.evaluation_rows"
_PLACES = ("source", "against", "against.source")


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed alone."""

    name: str
    members: tuple[Member, ...]
    """By seed."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    The keys of figures are set, mode, row and checkpoint; of the rounds' data kind, row and checkpoint.
    """

    rows: list[Row]
    baseline: str
    accuracy: dict[tuple[str, str, str, str], Figure]
    """Beside the checkpoints: `gain`, that of the last round over M_meta."""
    differences: dict[tuple[str, str, str, str], Figure]
    """To the same checkpoint of the baseline; `last`: where the rounds of both end, if that is not one checkpoint."""
    data: dict[tuple[str, str, str], Figure]
    judged: dict[tuple[str, str, str, str], Figure]
    """Of open-ended sets, with the measure for the mode."""
    judged_differences: dict[tuple[str, str, str, str], Figure]
    texts: dict[tuple[str, str, str, str], Figure]
    """Shares of answers with a fault, and log-likelihoods; keys as those of `judged`."""
    text_differences: dict[tuple[str, str, str, str], Figure]
    config: dict[str, dict[str, tuple[Any, Any]]]
    """Row -> key -> the baseline's value and its own."""
    scorer: str | None = None
    """By whose grades, where it is not the primary scorer of each set."""

    def to_dict(self) -> dict[str, Any]:
        def listed(figures: Iterable[tuple[tuple[str, ...], Figure]], *names: str) -> list[dict[str, Any]]:
            return [dict(zip(names, key, strict=True)) | asdict(figure) for key, figure in figures]

        told = ("run_dir", "seed", "complete", "ended", "labels", "ordinary_tokens")
        return {
            "baseline": self.baseline,
            "scorer": self.scorer,
            "rows": [
                {
                    "name": row.name,
                    "runs": [{name: getattr(member, name) for name in told} for member in row.members],
                    "config": {k: {"baseline": a, "here": b} for k, (a, b) in self.config.get(row.name, {}).items()},
                }
                for row in self.rows
            ],
            "accuracy": listed(self.accuracy.items(), "set", "mode", "row", "checkpoint"),
            "differences": listed(self.differences.items(), "set", "mode", "row", "checkpoint"),
            "open_ended": listed(self.judged.items(), "set", "measure", "row", "checkpoint"),
            "open_ended_differences": listed(self.judged_differences.items(), "set", "measure", "row", "checkpoint"),
            "texts": listed(self.texts.items(), "set", "measure", "row", "checkpoint"),
            "text_differences": listed(self.text_differences.items(), "set", "measure", "row", "checkpoint"),
            "data": listed(self.data.items(), "kind", "row", "checkpoint"),
        }


def compare(
    runs: Sequence[RunDir],
    baseline: str | None = None,
    names: Mapping[str, str] | None = None,
    ended: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    scorer: str | None = None,
) -> Comparison:
    """Compares runs by what they have finished.

    Args:
      runs: run directories; one that has not begun is left out.
      baseline: the row that the others are compared with, by its name or a run's directory; default: the first.
      names: run directory -> name of its row; default: the directory without its seed.
      ended: run directory -> why the run ended early.
      sets: the evaluation sets to compare; default: all.
      scorer: whose grades are compared, by its name, on the sets that have it; default: the primary one of each set.

    Raises ConfigError where no run is, no such row, set or scorer, or evaluation rows or scorers of one set differ;
    SelfevoError for what no run has written.
    """
    begun = [run for run in runs if run.root.exists()]
    members = [member_of(run, (ended or {}).get(str(run.root)), sets, scorer) for run in begun]
    if not members:
        raise ConfigError("no run has begun; name run directories")
    there = dict.fromkeys(name for run in begun for name in _sets_of(run))
    if unknown := [name for name in sets if name not in there]:
        raise ConfigError(
            f"--set {unknown[0]}: no run has such an evaluation set; there are {', '.join(there) or 'none'}"
        )
    if scorer is not None and not any(member.right for member in members):
        known = dict.fromkeys(name for run in begun for name in scorers_of(run, sets))
        raise ConfigError(f"--scorer {scorer}: no set was graded by it; there are {', '.join(known) or 'none'}")
    return replace(compare_members(members, baseline, names), scorer=scorer)


def _sets_of(run: RunDir) -> list[str]:
    config = run.read_config()
    data = config.data
    return [*evaluation_sets(run, config), *data.open_ended, *([] if data.ordinary is None else [ORDINARY])]


def compare_members(
    members: Sequence[Member], baseline: str | None = None, names: Mapping[str, str] | None = None
) -> Comparison:
    """`compare`, of what runs hold."""
    rows = _rows(members, names or {})
    first = _baseline(rows, baseline)
    _refuse_others(rows)
    columns = _checkpoints(members)
    accuracy: dict[tuple[str, str, str, str], Figure] = {}
    differences: dict[tuple[str, str, str, str], Figure] = {}
    for set_name, mode in _measures(members):
        for row in rows:
            for checkpoint in columns:
                key = (set_name, mode, checkpoint)
                if (found := _share(row, key)) is not None:
                    accuracy[set_name, mode, row.name, checkpoint] = found
                if row is not first and (found := _difference(first, row, key)) is not None:
                    differences[set_name, mode, row.name, checkpoint] = found
            if row is not first and (found := _last_difference(first, row, set_name, mode)) is not None:
                differences[set_name, mode, row.name, LAST] = found
            if (found := _gain(row, set_name, mode)) is not None:
                accuracy[set_name, mode, row.name, GAIN] = found
    data = {
        (kind, row.name, checkpoint): found
        for kind in DATA.values()
        for row in rows
        for checkpoint in columns
        if (found := _known(row, (kind, checkpoint))) is not None
    }
    config = {row.name: _otherwise(first, row) for row in rows if row is not first}
    seen = {row.name: {member.seed: member.judged for member in row.members} for row in rows}
    read = {row.name: {member.seed: member.texts for member in row.members} for row in rows}
    judged, texts = (compared(known, first.name, columns) for known in (seen, read))
    return Comparison(rows, first.name, accuracy, differences, data, *judged, *texts, config)


# --- rows of the table


def _rows(members: Sequence[Member], names: Mapping[str, str]) -> list[Row]:
    """Runs of equal configs (but for the seed, and where they ran) and equal data; each seed once."""
    groups: list[tuple[str | None, dict[str, Any], list[Member]]] = []
    for member in members:
        given = names.get(member.run_dir)
        fixed = {key: value for key, value in member.config.items() if not _may_differ(key)}
        for name, like, there in groups:
            if name == given and like == fixed and member.seed not in {other.seed for other in there}:
                there.append(member)
                break
        else:
            groups.append((given, fixed, [member]))
    rows: list[Row] = []
    for given, _, there in groups:
        name, taken = given or _without_seed(there[0]), {row.name for row in rows}
        if name in taken:
            name = there[0].run_dir
        rows.append(Row(name, tuple(sorted(there, key=lambda member: member.seed))))
    return rows


def _may_differ(key: str) -> bool:
    """Whether runs of one row may differ in a key."""
    return key == "seed" or (is_safe_to_change(key) and not key.startswith("rounds."))


def _without_seed(member: Member) -> str:
    """`runs/self-1` and `runs/self/seed-1`: self."""
    parts = [part for part in re.split(r"[/\\]+", member.run_dir) if part]
    name = re.sub(rf"(^|[-_.])(seed[-_]?)?{member.seed}$", "", parts[-1])
    return name or (parts[-2] if len(parts) > 1 else parts[-1])


def _baseline(rows: Sequence[Row], given: str | None) -> Row:
    if given is None:
        return rows[0]
    for row in rows:
        if row.name == given or any(given.rstrip("/") == member.run_dir.rstrip("/") for member in row.members):
            return row
    raise ConfigError(f"baseline '{given}': no such row; expected one of {', '.join(row.name for row in rows)}")


def _refuse_others(rows: Sequence[Row]) -> None:
    """Raises ConfigError where one set has other rows, or another scorer, in two runs."""
    known: dict[str, tuple[Member, dict[str, Any], frozenset[str]]] = {}
    for member in (member for row in rows for member in row.members):
        for set_name, ids in _asked(member):
            rule = _rule(member, set_name)
            first, its_rule, its_ids = known.setdefault(set_name, (member, rule, ids))
            why = ""
            if other := [key for key in {**its_rule, **rule} if its_rule.get(key) != rule.get(key)]:
                why = f"{other[0]} is {its_rule.get(other[0])!r} and {rule.get(other[0])!r}"
            elif ids != its_ids:
                why = f"{len(its_ids)} and {len(ids)} rows, of which {len(ids & its_ids)} are the same"
            if why:
                raise ConfigError(
                    f"evaluation set '{set_name}' is not the same in {first.run_dir} and {member.run_dir}: {why}; runs "
                    "are compared on the same rows and by the same scorer alone. Measure them alike (selfevo eval), or "
                    "leave the set out (--set)"
                )


def _asked(member: Member) -> Iterator[tuple[str, frozenset[str]]]:
    """Each set, with the rows that were asked about."""
    yield from ((set_name, frozenset(right)) for (set_name, _, _), right in member.right.items())
    for (set_name, measure, _), scores in member.judged.items():
        if measure != EQUAL_LENGTHS:
            yield set_name, frozenset(scores)
    yield from ((ORDINARY, frozenset(rows)) for (set_name, _, _), rows in member.texts.items() if set_name == ORDINARY)


def _rule(member: Member, set_name: str) -> dict[str, Any]:
    """What says which rows a set has and how they are scored. Where a file lies is nothing to its rows: its content is
    compared, and how many of its rows are taken shows in the rows themselves."""
    if set_name == ORDINARY:
        places = (ORDINARY_SET, f"{ORDINARY_SET}.source")
        keys = {key: value for key, value in member.config.items() if key not in places}
        return {key: value for key, value in keys.items() if below(key.removeprefix(CONTENT), (ORDINARY_SET,))}
    kept = [f"{folder}.{set_name}" for folder in SETS]
    found = {}
    for key, value in member.config.items():
        bare = key.removeprefix(CONTENT)
        of_another = below(bare, SETS) and entry_of(bare, SETS, {*member.sets, set_name}) != set_name
        place = key in (*kept, *(f"{own}.{name}" for own in kept for name in _PLACES), _LIMIT)
        if bare.startswith("data.") and is_read_by(bare, (EVALUATION, OPEN_ENDED)) and not of_another and not place:
            found[key] = value
    if any(measured == set_name for measured, _, _ in member.judged):
        found[f"{CONTENT}model"] = member.config.get(f"{CONTENT}model")  # the base is a side, or the judge
    return found


# --- figures


def _checkpoints(members: Iterable[Member]) -> list[str]:
    found = {shown for member in members for _, _, shown in (*member.right, *member.judged, *member.texts)}
    found |= {shown for member in members for _, shown in member.data}
    order = {"base": -1, META: 0}
    return sorted(found, key=lambda shown: order[shown] if shown in order else int(shown.removeprefix("round ")))


def _measures(members: Iterable[Member]) -> list[tuple[str, str]]:
    found = dict.fromkeys(key[:2] for member in members for key in member.right)
    sets = list(dict.fromkeys(set_name for set_name, _ in found))
    return [(set_name, mode) for set_name in sets for mode in MODES if (set_name, mode) in found]


def _known(row: Row, key: tuple[str, str]) -> Figure | None:
    found = {member.seed: member.data[key] for member in row.members if key in member.data}
    rows = next(iter(found.values()))[1] if len(found) == 1 else None
    return over_seeds({seed: share for seed, (share, _) in found.items()}, rows)


def _share(row: Row, key: tuple[str, str, str]) -> Figure | None:
    asked = {m.seed: {id: hit for id, hit in m.right.get(key, {}).items() if hit is not None} for m in row.members}
    asked = {seed: hits for seed, hits in asked.items() if hits}
    first = next(iter(asked.values()), {})
    # the base is the same whatever the seed: its texts say how sure its share is, not the seeds
    rows = len(first) if all(hits == first for hits in asked.values()) else None
    return over_seeds({seed: statistics.fmean(hits.values()) for seed, hits in asked.items()}, rows)


def _paired(pairs: Mapping[int, tuple[Right, Right]]) -> Figure | None:
    """Gains row by row: over the seeds of several, by the rows of one."""
    found = {seed: result for seed, (before, after) in pairs.items() if (result := paired(before, after)) is not None}
    if len(found) == 1:
        (seed, one), *_ = found.items()
        return Figure(one.gain, one.stderr, {seed: one.gain}, one.n, one.p)
    return over_seeds({seed: one.gain for seed, one in found.items()})


def _difference(first: Row, row: Row, key: tuple[str, str, str]) -> Figure | None:
    before = {m.seed: m.right[key] for m in first.members if key in m.right}
    after = {m.seed: m.right[key] for m in row.members if key in m.right}
    return _apart(before, after)


def _last_difference(first: Row, row: Row, set_name: str, mode: str) -> Figure | None:
    """Where the rounds of both end, such as a method of three rounds and a baseline that has none."""

    def ends(of: Row) -> dict[int, Right]:
        keys = {m.seed: (set_name, mode, _end(m)) for m in of.members}
        return {m.seed: m.right[keys[m.seed]] for m in of.members if keys[m.seed] in m.right}

    one_checkpoint = {_end(member) for member in (*first.members, *row.members)}
    return None if len(one_checkpoint) == 1 else _apart(ends(first), ends(row))


def _apart(before: Mapping[int, Right], after: Mapping[int, Right]) -> Figure | None:
    """Seed by seed; two single runs are compared whatever their seeds."""
    pairs = {seed: (before[seed], after[seed]) for seed in after if seed in before}
    if not pairs and len(before) == len(after) == 1:
        (one,), ((seed, other),) = before.values(), after.items()
        pairs = {seed: (one, other)}
    return _paired(pairs)


def _gain(row: Row, set_name: str, mode: str) -> Figure | None:
    """Of the last round that the config asks for, over M_meta."""
    pairs = {}
    for member in row.members:
        start, last = (set_name, mode, META), (set_name, mode, _end(member))
        if start == last:
            continue
        if start in member.right and last in member.right:
            pairs[member.seed] = member.right[start], member.right[last]
    return _paired(pairs)


def _end(member: Member) -> str:
    """The checkpoint of the last round that the config asks for."""
    rounds = member.config["rounds.number"]
    return f"round {rounds}" if rounds else META


def _otherwise(first: Row, row: Row) -> dict[str, tuple[Any, Any]]:
    before, after = first.members[0].config, row.members[0].config
    keys = [key for key in {**before, **after} if not _may_differ(key) and before.get(key) != after.get(key)]
    return {key: (before.get(key), after.get(key)) for key in keys}
