"""A study as it is written: one base config, named variants of it, seeds. All of it is checked before any work."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfevo_jax.config import Config, override, parse_config, read_tree, set_key
from selfevo_jax.errors import ConfigError
from selfevo_jax.run.artefacts import EVALUATION, OPEN_ENDED, ORDINARY, ORDINARY_SET, SETS, below, entry_of, is_read_by
from selfevo_jax.run.identity import flat
from selfevo_jax.storage import is_remote, place

_KEYS = ("base", "out", "seeds", "variants", "baseline")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_SET_BY_STUDY = {"seed": "list it in `seeds`", "run_dir": "a run's folder is OUT/VARIANT/seed-N"}
_EXAMPLE = "such as {self: {}, no_filter: {rounds.select: none}}"


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    variant: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        return f"{self.variant}/seed-{self.seed}"


@dataclass(frozen=True)
class Study:
    """What is to be run, and compared with what."""

    file: str
    out: Path
    variants: tuple[str, ...]
    baseline: str
    """The variant that the others are compared with."""
    runs: tuple[StudyRun, ...]
    """Seed by seed, so that what is there early can be compared."""


def read_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Reads a study, and the config of each of its runs.

    Args:
      path: YAML with `base` (a config, from the study's own folder), `out` (a folder), and any of `seeds` (default:
        the base's), `variants` (name -> keys that differ from the base; default: the base alone) and `baseline`
        (default: the first variant). Of a variant's keys dotted ones take a whole value, sections are merged.
      overrides: `key=value`; keys of the study itself are set in it, all others in every run's config.

    Raises ConfigError naming the file, and of faulty variants each with its keys.
    """
    file = place(path)
    tree, of_runs = read_tree(file), list[tuple[str, Any]]()
    for text in overrides:
        key, value = override(text)
        if key.partition(".")[0] in _KEYS:
            _set(tree, key, value)
        else:
            of_runs.append((key, value))
    _check_keys(file, tree)
    base, out, seeds, variants = _base(file, tree), tree["out"], tree.get("seeds"), _variants(file, tree)
    seeds = _seeds(file, [base.get("seed", 0)] if seeds is None else seeds)
    baseline = tree.get("baseline") or next(iter(variants))
    if not isinstance(baseline, str) or baseline not in variants:
        raise ConfigError(f"{file}: baseline: '{baseline}' is no variant; expected one of {', '.join(variants)}")
    faults, runs = list[str](), list[StudyRun]()
    for seed in seeds:
        for name, changes in variants.items():
            run_dir = f"{str(out).rstrip('/')}/{name}/seed-{seed}"
            try:
                config = _config(file, name, base, [*changes, *of_runs, ("seed", seed), ("run_dir", run_dir)])
                runs.append(StudyRun(name, seed, config))
            except ConfigError as error:
                faults += [line for line in str(error).splitlines() if line not in faults]
    if faults:
        raise ConfigError("\n".join(faults))
    _check_compared(file, {run.variant: run.config for run in runs})
    platforms = {run.config.platform: run.variant for run in runs}
    if len(platforms) > 1:
        told = ", ".join(f"{name}: {platform}" for platform, name in platforms.items())
        raise ConfigError(f"{file}: platform: all runs are made by one process, found {told}; give them one platform")
    return Study(str(file), place(out), tuple(variants), baseline, tuple(runs))


def _config(file: Path, variant: str, base: Mapping[str, Any], changes: Sequence[tuple[str, Any]]) -> Config:
    tree, origin = dict(base), f"{file}: variant {variant}"
    for key, value in changes:
        try:
            set_key(tree, key, value)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error}") from error
    return parse_config(tree, origin)


def _check_compared(file: Path, configs: Mapping[str, Config]) -> None:
    """Raises ConfigError where one evaluation set would have other rows, another scorer, or another base beside it, in
    two variants: their table would be refused when all is done."""
    known = {name: _evaluated(config) for name, config in configs.items()}
    for (first, before), (name, after) in itertools.combinations(known.items(), 2):
        own, its = configs[first], configs[name]
        judged = [of for of in its.data.open_ended if of in own.data.open_ended]
        if judged and its.model.source != own.model.source:
            raise ConfigError(
                f"{file}: variant {name}: model.source: found {its.model.source!r}, {own.model.source!r} in variant "
                f"{first}; of the open-ended set '{judged[0]}' the base is a side or the judge, so give another set "
                "another name"
            )
        names = {name for of in (own.data, its.data) for name in (*of.evaluation, *of.open_ended)}
        sets = {key: _set_of(key, names) for key in (*before, *after)}
        shared = {sets[key] for key in before} & {sets[key] for key in after}
        keys = [key for key in sets if sets[key] in shared and before.get(key) != after.get(key)]
        if keys:
            remedy = "give another set another name" if sets[keys[0]] in names else "give both the same"
            raise ConfigError(
                f"{file}: variant {name}: {keys[0]}: found {after.get(keys[0])!r}, {before.get(keys[0])!r} in variant "
                f"{first}; variants are compared on the same rows by the same scorer, so {remedy}"
            )


def _evaluated(config: Config) -> dict[str, Any]:
    """The keys that say which rows the evaluation sets have, and how they are scored."""
    keys = flat({"data": config.data.model_dump(mode="json")})
    read = {key: value for key, value in keys if is_read_by(key, (EVALUATION, OPEN_ENDED, ORDINARY))}
    return {key: value for key, value in read.items() if (key, value) != (ORDINARY_SET, None)}


def _set_of(key: str, names: Collection[str]) -> str:
    """Which of these evaluation sets a key is of; `data` for keys of all of them."""
    return ORDINARY_SET if below(key, (ORDINARY_SET,)) else entry_of(key, SETS, names) or "data"


def _check_keys(file: Path, tree: Mapping[str, Any]) -> None:
    for key in map(str, tree):
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(_KEYS)}"
            raise ConfigError(f"{file}: unknown key '{key}' of a study; {hint}")
    for key, what in (("base", "the config that the variants differ from"), ("out", "the folder of its runs")):
        value = tree.get(key)
        if not isinstance(value, str) or not value.strip():
            found = "missing" if value is None else f"found {type(value).__name__}"
            raise ConfigError(f"{file}: {key}: {found}; expected {what}")


def _base(file: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    given = tree["base"]
    return read_tree(given if is_remote(given) else file.parent / Path(given).expanduser())


def _seeds(file: Path, given: Any) -> list[int]:
    numbers = given if isinstance(given, list) else [given]
    plain = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in numbers)
    if not numbers or not plain or len(set(numbers)) < len(numbers):
        raise ConfigError(f"{file}: seeds: expected different whole numbers, such as [1, 2, 3]")
    return list(numbers)


def _variants(file: Path, tree: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """Each variant's keys, dotted, with their values."""
    given = {"base": {}} if tree.get("variants") is None else tree["variants"]
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{file}: variants: found {type(given).__name__}, expected names and keys, {_EXAMPLE}")
    found = {}
    for name, changes in given.items():
        if not isinstance(name, str) or not _NAME.match(name):
            raise ConfigError(
                f"{file}: variants: '{name}' names a folder: letters, digits, '_', '-' and '.', 64 at most"
            )
        if not isinstance(changes, dict | None):
            raise ConfigError(
                f"{file}: variant {name}: found {type(changes).__name__}, expected the keys that differ, {_EXAMPLE}"
            )
        found[name] = list(_flat(changes or {}))
        for key, _ in found[name]:
            if key in _SET_BY_STUDY:
                raise ConfigError(f"{file}: variant {name}: {key}: set by the study; {_SET_BY_STUDY[key]}")
    return found


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """`set_key` of the study's own file. In a variant it comes last, whatever of the same key is written there, dotted
    or in sections."""
    set_key(tree, key, value)
    variants = tree.get("variants")
    names = [name for name in variants if isinstance(name, str)] if isinstance(variants, dict) else []
    of = entry_of(key, ("variants",), names)  # they may hold dots
    at = key.removeprefix(f"variants.{of}").removeprefix(".")
    if of is None or not at:
        return
    variant = tree["variants"][of]
    for written in [name for name in variant if isinstance(name, str) and "." in name and below(name, (at,))]:
        del variant[written]
    whole = isinstance(value, dict) and value
    for name, leaf in _flat(value, f"{at}.") if whole else [(at, value)]:
        variant.pop(name, None)
        variant[name] = leaf


def _flat(changes: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and "." not in str(key):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value
