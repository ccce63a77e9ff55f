"""What chains say beside what is to be learnt: which of two answers is better, and which answers are good or bad."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from selfevo_jax.chains import Rollout
from selfevo_jax.config.rounds import Extremes
from selfevo_jax.data import Example, Group, self_example
from selfevo_jax.judges import Assessment
from selfevo_jax.methods.answers import Answer, scored_samples
from selfevo_jax.methods.scored import extremes
from selfevo_jax.text import PromptFormat
from selfevo_jax.train.objectives.kto import MISMATCHED, VERDICT
from selfevo_jax.train.objectives.pairs import SIDE
from selfevo_jax.train.objectives.xpo import OF_REFERENCE

LeftOut = Counter[str]
"""Why answers or pairs are not learnt from -> how many."""
UNFINISHED, EQUAL = "with an answer that is cut off or empty", "of equal texts"
REPEATED, OVER_CAP = "that are there already", "over rounds.per_prompt"


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt."""

    better: Answer
    worse: Answer


def refinement_pairs(rollouts: Iterable[Rollout]) -> Iterator[Pair]:
    """Within a chain: its chosen candidate, called good, over its first response, called bad."""
    for rollout in rollouts:
        if rollout.error is None and rollout.chosen > 0:
            first, chosen = Answer(rollout, 0), Answer(rollout, rollout.chosen)
            if first.good is False and chosen.good is True:
                yield Pair(chosen, first)


def sample_pairs(rollouts: Iterable[Rollout], rule: Extremes = "best_worst", seed: int = 0) -> Iterator[Pair]:
    """Among the first responses to a prompt: the best over the worst, where their scores differ; of equal ones the
    earliest. With `best_random` over any one that is worse, drawn by the seed. Only what is whole is compared."""
    for prompt, scored in scored_samples(rollouts).items():
        found = extremes([score for score, _ in scored], rule, random.Random(f"{seed} {prompt}"))
        if found is not None:
            yield Pair(*(scored[at][1] for at in found))


def usable_pairs(found: Iterable[Pair], per_prompt: int | None) -> tuple[list[Pair], LeftOut]:
    """The pairs of whole and different answers, each once, in the order given, and what became of the others."""
    kept: list[Pair] = []
    left, there = LeftOut(), dict[str, set[tuple[str, str]]]()
    for pair in found:
        of_prompt, texts = there.setdefault(pair.better.rollout.prompt, set()), (pair.better.text, pair.worse.text)
        if not (pair.better.usable and pair.worse.usable):
            left[UNFINISHED] += 1
        elif texts[0] == texts[1]:
            left[EQUAL] += 1
        elif texts in of_prompt:
            left[REPEATED] += 1
        elif per_prompt is not None and len(of_prompt) >= per_prompt:
            left[OVER_CAP] += 1
        else:
            of_prompt.add(texts)
            kept.append(pair)
    return kept, left


def told_of(pairs: Sequence[Pair], left: LeftOut) -> str:
    """For people."""
    others = ", ".join(f"{count} {why}" for why, count in sorted(left.items()))
    return f"{len(pairs)} pairs are learnt from" + (f"; left out: {others}" if others else "")


def told_of_verdicts(answers: Sequence[Answer]) -> tuple[str, bool]:
    """For people, and whether there are good ones and bad ones."""
    good = sum(answer.good is True for answer in answers)
    told = f"{len(answers)} answers are learnt from: {good} good, {len(answers) - good} bad"
    return told, 0 < good < len(answers)


def judged_answers(rollouts: Iterable[Rollout]) -> list[Answer]:
    """Every whole answer with a verdict that can be read, each text of a prompt once; one that was called both good and
    bad is none."""
    found: dict[tuple[str, str], list[Answer]] = {}
    for rollout in rollouts:
        for index in range(0 if rollout.error is not None else len(rollout.candidates)):
            answer = Answer(rollout, index)
            if answer.usable and answer.good is not None:
                found.setdefault((rollout.prompt, answer.text), []).append(answer)
    return [same[0] for same in found.values() if len({answer.good for answer in same}) == 1]


def with_winners(rollout: Rollout) -> Rollout:
    """A chain whose batch judge compares its answers: with the one that won called good, be it the response, and the
    others bad. Where none won an answer is good if it passes, and neither good nor bad if not."""
    said = [made.assessment for made in rollout.candidates]
    known = [a.rating for a in said if a is not None and a.good is not None and a.rating is not None]
    tie = len(set(known)) < 2

    def held(a: Assessment | None) -> Assessment | None:
        if a is None or a.good is None or a.rating is None:
            return a
        return replace(a, good=(a.good or None) if tie else a.rating == max(known))

    candidates = tuple(replace(c, assessment=held(c.assessment)) for c in rollout.candidates)
    return replace(rollout, candidates=candidates)


def learnt(answer: Answer, prompt: str, ends: bool, fmt: PromptFormat, extras: Mapping[str, float]) -> Example:
    """An answer as a direct one to a prompt, of the ids that were sampled, with its end or without."""
    made, r = answer.candidate, answer.rollout
    id = f"{r.id}/{r.sample}/{answer.index}"
    return replace(self_example(id, prompt, made.tokens, made.end if ends else (), fmt), extras=extras)


def pair_groups(pairs: Sequence[Pair], fmt: PromptFormat, reads: Sequence[str] = (SIDE,)) -> list[Group]:
    """Each pair as a group, as the objectives on pairs read it (`reads`). Where one answer has no end that may be
    taught neither is taught its own: the pair would teach length.

    For `xpo`, which compares an answer of the model with one of its start: both were drawn from that, and what counts
    as its own is the response beside a refinement, and of two samples the later one.
    """
    groups = []
    for pair in pairs:
        sides = ((pair.better, 1.0), (pair.worse, -1.0))
        ends = all(fmt.ends(answer.candidate.end) for answer, _ in sides)
        plain = max((pair.better, pair.worse), key=lambda answer: (answer.index == 0, answer.rollout.sample))
        every = [{SIDE: side, OF_REFERENCE: float(answer is plain)} for answer, side in sides]
        extras = [{name: value for name, value in of.items() if name in reads} for of in every]
        members = zip(sides, extras, strict=True)
        groups.append(Group(tuple(learnt(a, a.rollout.prompt, ends, fmt, own) for (a, _), own in members)))
    return groups


def verdict_groups(answers: Sequence[Answer], fmt: PromptFormat) -> list[Group]:
    """Each answer with its verdict, as `kto` reads it, and its prompt with the next answer to another prompt."""
    groups = []
    for n, answer in enumerate(answers):
        prompt = answer.rollout.prompt
        said = {VERDICT: 1.0 if answer.good else -1.0, MISMATCHED: 0.0}
        members = [learnt(answer, prompt, fmt.ends(answer.candidate.end), fmt, said)]
        others = (answers[(n + step) % len(answers)] for step in range(1, len(answers)))
        if (other := next((a for a in others if a.rollout.prompt != prompt), None)) is not None:
            apart = {VERDICT: 0.0, MISMATCHED: 1.0}
            members.append(learnt(other, prompt, fmt.ends(other.candidate.end), fmt, apart))
        groups.append(Group(tuple(members)))
    return groups
