"""The filter: which self-made rows a round learns from. Sees what the judge says, and knows no judge."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from selfevo_jax.chains import CUT, Candidate, Rollout
from selfevo_jax.config.rounds import Policy
from selfevo_jax.errors import EmptySelectionError
from selfevo_jax.evaluate import distinct_ngrams, entropy
from selfevo_jax.methods.answers import pass_rates
from selfevo_jax.methods.scored import ByScore


@dataclass(frozen=True)
class Counts:
    """What became of the rollouts of a round."""

    sampled: int
    failed: int
    """Prompts that could not be run (too long, say)."""
    clipped: int
    """Rows whose response or chosen candidate hit a limit; a clipped candidate is never kept."""
    unparseable: int
    """Rows with feedback that could not be read (or was clipped): the chain ends there, and the row is dropped. With a
    batch judge: rows about which it was asked, and is not understood or gave no answer."""
    cut: int
    """Rows whose response or chosen candidate ran on behind its end and was cut there; it is taught without an end."""
    empty: int
    """Rows whose chosen candidate came to its end without a word, or within its first token; never kept."""
    run_on_feedback: int
    """Rows with feedback that ran on behind its verdict; what ran on is read by nobody."""
    judged_good_first: int
    """First responses that the judge called good."""
    refined: int
    """Rows whose chosen candidate is a refinement."""
    judged_good: int
    """Rows whose chosen candidate was called good."""
    duplicates: int
    """Rows that passed and were dropped because prompt and answer are there already."""
    over_cap: int
    """Rows that passed and were dropped because their prompt has `rounds.per_prompt` kept rows already."""
    kept: int
    mean_tokens: float
    """Of kept answers."""
    distinct_bigrams: float | None
    entropy_bits: float | None
    unread_texts: int = 0
    """Texts of feedback that could not be read, also those beside others that could."""
    least_score: float | None = None
    """With `judge.top_share`: the lowest score that passed."""
    drawn_by_lot: int = 0
    """With `judge.top_share`: rows of that score that passed while others of it did not, for which lots were drawn."""
    unscored: int = 0
    """With a selection by scores: whole rows without one that can be read; never kept."""
    outside: int = 0
    """Rows of prompts whose share of responses called good is not within `rounds.pass_rate`, or not known."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Selection:
    kept: list[Rollout]
    counts: Counts


def _finished(rollout: Rollout) -> bool:
    return rollout.error is None and rollout.candidates[rollout.chosen].finished


def _empty(rollout: Rollout) -> bool:
    chosen = rollout.candidates[rollout.chosen]
    return not (chosen.text.strip() and chosen.tokens)


def within(rollouts: Sequence[Rollout], pass_rate: tuple[float, float]) -> list[Rollout]:
    """The rows of prompts of whose responses a share within these is called good; all rows where that may be any. By
    id and sample, whatever their order was."""
    ordered, (least, most) = sorted(rollouts, key=lambda r: (r.id, r.sample)), pass_rate
    if (least, most) == (0.0, 1.0):
        return ordered
    rates = pass_rates(rollouts)
    return [r for r in ordered if r.prompt in rates and least <= rates[r.prompt] <= most]


def _usable(rollout: Rollout) -> bool:
    return _finished(rollout) and not _empty(rollout)


def _unread(candidate: Candidate) -> bool:
    """Whether a judge was asked about it, and is not understood."""
    if candidate.assessment is not None:
        return candidate.assessment.unread is not None
    return candidate.feedback is not None and candidate.feedback.good is None


def lets_through(good: bool | None, score: float | None, least: float | None) -> bool:
    """Whether feedback lets an answer through: it is good, or (where `least` is given) its score is that or better."""
    return good is True if least is None else good is not None and score is not None and score >= least


def least_score(rollouts: Sequence[Rollout], top_share: float | None) -> float | None:
    """The lowest score within the top share of a round, infinity where no answer has one; None without such a share."""
    if top_share is None:
        return None
    scores = sorted((score for _, score in _scored(r for r in rollouts if _usable(r))), reverse=True)
    return scores[_top_count(len(scores), top_share) - 1] if scores else math.inf


def _scored(rows: Iterable[Rollout]) -> list[tuple[Rollout, float]]:
    """Rows whose chosen candidate has a score."""
    judged = [(r, r.candidates[r.chosen].judged) for r in rows]
    return [(r, of.rating) for r, of in judged if of is not None and of.good is not None and of.rating is not None]


def _top_count(rows: int, top_share: float) -> int:
    return max(1, int(top_share * rows + 1e-9))  # 0.1 of 30 is 3


def _passed(usable: Sequence[Rollout], least: float | None, top_share: float | None, seed: int) -> list[Rollout]:
    """What feedback lets through, in the order given. Of equal scores at the edge of the share some are drawn."""
    if least is None or top_share is None:
        return [r for r in usable if r.candidates[r.chosen].verdict is True]
    scored = _scored(usable)
    above, at = ([r for r, score in scored if score > least], [r for r, score in scored if score == least])
    count = _top_count(len(scored), top_share) - len(above) if scored else 0
    taken = {(r.id, r.sample) for r in [*above, *random.Random(seed).sample(at, count)]}
    return [r for r in usable if (r.id, r.sample) in taken]


def _capped(passed: Sequence[Rollout], per_prompt: int | None, most: int | None = None) -> tuple[list[Rollout], int]:
    """In the order given, rows that are new and whose prompt has not `per_prompt` rows yet, `most` at most; and how
    many were left out as copies."""
    answers: dict[str, set[str]] = {}
    kept: list[Rollout] = []
    duplicates = 0
    for r in passed:
        if len(kept) == most:
            break
        of_prompt, text = answers.setdefault(r.prompt, set()), r.candidates[r.chosen].text.strip()
        if text in of_prompt:
            duplicates += 1
        elif per_prompt is None or len(of_prompt) < per_prompt:
            of_prompt.add(text)
            kept.append(r)
    return kept, duplicates


def select(
    rollouts: Sequence[Rollout],
    policy: Policy,
    seed: int,
    per_prompt: int | None = None,
    top_share: float | None = None,
    by_score: ByScore | None = None,
    pass_rate: tuple[float, float] = (0.0, 1.0),
) -> Selection:
    """Keeps the rows whose chosen candidate is finished and, by `feedback`, called good; with `top_share` that share of
    the rows with a score, those with the best ones.

    `none` keeps every finished row; `random` as many as `feedback` would, drawn blindly with `seed`; any other policy
    what `by_score` takes. Of a prompt at most `per_prompt` different answers are kept, those of its first samples, so
    that easy prompts do not fill the data.
    """
    ordered = within(rollouts, pass_rate)
    usable = list(filter(_usable, ordered))
    least = least_score(usable, top_share)
    good = _passed(usable, least, top_share, seed)
    taken = None if by_score is None else by_score([r for r in ordered if r.error is None])
    passed = taken.rows if taken is not None else usable if policy == "none" else good
    kept, duplicates = _capped(passed, per_prompt)
    over_cap = len(passed) - len(kept) - duplicates
    if policy == "random":
        blind, _ = _capped(random.Random(seed).sample(usable, len(usable)), per_prompt, len(kept))
        kept = sorted(blind, key=lambda r: (r.id, r.sample))
    counts = Counts(
        sampled=len(rollouts),
        failed=sum(r.error is not None for r in rollouts),
        clipped=sum(
            r.error is None and not (r.candidates[0].finished and r.candidates[r.chosen].finished) for r in rollouts
        ),
        unparseable=sum(r.error is None and any(map(_unread, r.candidates)) for r in rollouts),
        cut=sum(CUT in (r.candidates[0].finish, r.candidates[r.chosen].finish) for r in rollouts),
        empty=sum(_finished(r) and _empty(r) for r in rollouts),
        run_on_feedback=sum(
            any(c.feedback is not None and c.feedback.finish == CUT for c in r.candidates) for r in rollouts
        ),
        judged_good_first=sum(bool(r.candidates) and r.candidates[0].verdict is True for r in rollouts),
        refined=sum(r.chosen > 0 for r in rollouts),
        judged_good=len(good),
        duplicates=duplicates,
        over_cap=over_cap,
        **_of_kept(kept),
        unread_texts=sum(c.feedback.unread for r in rollouts for c in r.candidates if c.feedback is not None),
        least_score=None if least == math.inf else least,
        drawn_by_lot=_drawn_by_lot(usable, good, least),
        unscored=0 if taken is None else taken.unscored,
        outside=len(rollouts) - len(ordered),
    )
    return Selection(kept, counts)


def keeping(selection: Selection, kept: Sequence[Rollout], duplicates: int, over_cap: int) -> Selection:
    """The same round with other rows kept, of which so many others were dropped as copies and over the cap."""
    counts = replace(selection.counts, duplicates=duplicates, over_cap=over_cap, **_of_kept(kept))
    return Selection(list(kept), counts)


def _of_kept(kept: Sequence[Rollout]) -> dict[str, Any]:
    """What the counts say of the rows that are kept."""
    answers = [r.candidates[r.chosen] for r in kept]
    texts = [answer.text for answer in answers]
    return {
        "kept": len(kept),
        "mean_tokens": fmean(answer.n_tokens for answer in answers) if answers else 0.0,
        "distinct_bigrams": distinct_ngrams(texts),
        "entropy_bits": entropy(texts),
    }


def _drawn_by_lot(usable: Sequence[Rollout], passed: Sequence[Rollout], least: float | None) -> int:
    of_all, of_passed = (sum(score == least for _, score in _scored(rows)) for rows in (usable, passed))
    return of_passed if of_passed < of_all else 0


FEW_KEPT, MANY_UNPARSEABLE = 0.1, 0.25
"""A round is weak where less of the rows that may be kept is kept, or (with a filter) the feedback of more of all its
rows cannot be read."""


def weakness(counts: Counts, filtered: bool, most: float = 1.0) -> str | None:
    """Why a round has little to learn from, with the counts; None where it has enough.

    Args:
      filtered: by feedback.
      most: the share of its rows that may be kept at all, by what a prompt may have of them.
    """
    few = counts.kept < FEW_KEPT * most * counts.sampled
    blind = filtered and counts.unparseable > MANY_UNPARSEABLE * counts.sampled
    return _summary(counts) if few or blind else None


def _summary(c: Counts) -> str:
    others = {"without a score": c.unscored, "outside rounds.pass_rate": c.outside}
    more = "".join(f", {why} {count}" for why, count in others.items() if count)
    return (
        f"{c.kept} of {c.sampled} rows passed the filter (clipped {c.clipped}, unparseable feedback {c.unparseable}, "
        f"failed {c.failed}, judged good {c.judged_good}, duplicates {c.duplicates}, over rounds.per_prompt "
        f"{c.over_cap}{more})"
    )


def require(selection: Selection, minimum: int, round: int, not_run: str | None = None, way_on: str = "") -> None:
    """Raises EmptySelectionError when too few rows passed to train on, with the counts and what would keep more.

    `not_run` says which rows could not be run and why; `way_on` how to go on with other settings.
    """
    c = selection.counts
    if c.kept >= minimum:
        return
    meta = "a longer meta stage (meta.steps, with --from base)"
    said = f"what a batch judge was told is in rounds/{round:04d}/judged/answers.jsonl"
    causes = {
        f"{not_run}; raise sampling.cache_length, or give shorter prompts": c.failed,
        f"The feedback of {c.unparseable} rows cannot be read: a longer sampling.feedback.max_new_tokens or {meta} may "
        f"help ({said})": c.unparseable,
        f"The answers of {c.clipped} rows were cut: raise sampling.respond.max_new_tokens and "
        "sampling.refine.max_new_tokens": c.clipped,
    }
    remedy = max(causes, key=lambda text: causes[text])
    if 2 * causes[remedy] <= c.sampled - c.kept:  # not what most of the others were dropped for
        remedy = f"More prompts (data.prompts_per_round), a lower rounds.minimum_kept, or {meta} may help"
    raise EmptySelectionError(
        f"round {round}: {_summary(c)}, expected {minimum} or more (rounds.minimum_kept). The weights are untouched "
        f"and the round is not trained. {remedy}. {way_on}".rstrip()
    )
