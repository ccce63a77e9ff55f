"""Meta-skill data: D_meta from files or from an annotator, and the training pools made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from selfevo_jax.chains import Rollout
from selfevo_jax.config import TrainSection
from selfevo_jax.data import (
    Example,
    MetaRow,
    PromptRow,
    QARow,
    TermWeights,
    by_term,
    meta_balance,
    meta_examples,
    qa_example,
    self_example,
    stories,
)
from selfevo_jax.errors import DataError, EmptySelectionError
from selfevo_jax.judges import ChainJudge
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.limits import clipped
from selfevo_jax.rounds.pools import StoryPools
from selfevo_jax.rounds.workbench import Workbench
from selfevo_jax.text import PromptFormat


def annotate_stories(bench: Workbench, base_params: Any, pools: StoryPools, reporter: Reporter) -> list[MetaRow]:
    """D_meta of the embedded task: the base's own sampled responses, feedback by the generator's annotator.

    The critic must see the model's own mistakes (planted ones alone teach it nothing about them), and enough right
    responses, or it learns to say `incorrect` to everything.
    """
    settings = bench.config.data.stories
    assert settings is not None
    prompts = [PromptRow(story.id, story.text) for story in pools.meta_questions]
    stages = bench.stages(temperature=1.0)
    chains = [
        bench.chain(prompt, stages, round=0, sample=sample, judge=False)
        for prompt in prompts
        for sample in range(settings.responses_per_question)
    ]
    title = "responses of the base for D_meta"
    sampled = bench.roll_out(base_params, chains, reporter, title)
    for line in clipped(sampled, bench.config.sampling):
        reporter.warn(f"{title}: {line}")
    by_story = {story.id: story for story in pools.meta_questions}
    rows = []
    for rollout in sampled:
        story, response = by_story[rollout.id], rollout.candidates[0].text.strip()
        found = stories.feedback_text(story, response)
        if found is not None:
            right = stories.answer_text(story.answer)
            rows.append(MetaRow(f"{story.id}-{rollout.sample}", story.text, response, found[0], right, found[1]))
    for story in pools.meta_questions:
        right = stories.answer_text(story.answer)
        found = stories.feedback_text(story, right)
        assert found is not None
        rows += [
            MetaRow(f"{story.id}-right{copy}", story.text, right, found[0], right, True)
            for copy in range(settings.right_copies)
        ]
    if not rows:
        raise EmptySelectionError("D_meta: the base gives no response that can be read; check the base checkpoint")
    return rows


def check_verdicts(rows: Sequence[MetaRow], judge: ChainJudge, source: str = "D_meta") -> None:
    """Raises DataError with the source, the count and the first row's number when the verdict that feedback gives in
    words is not the row's own."""
    wrong = [at for at, row in enumerate(rows) if judge.read(row.feedback).good != row.good]
    if wrong:
        first = rows[wrong[0]]
        found = judge.read(first.feedback).good
        said = "cannot be parsed" if found is None else "is " + ("good" if found else "bad")
        raise DataError(
            source,
            None,
            "feedback",
            f"in {len(wrong)} of {len(rows)} rows (from number {wrong[0] + 1} on) the verdict in words is not the "
            f"field 'good'; first in row '{first.id}': its verdict {said}, good is {str(first.good).lower()}. End "
            "feedback in 'Verdict: correct' or 'Verdict: incorrect' (or in a rating, by judge.kind)",
        )


def verdicts_alone(rows: Sequence[MetaRow], judge: ChainJudge) -> list[MetaRow]:
    """D_meta without the words of its feedback: the verdict, or the rating, is all that is left."""

    return [replace(row, feedback=judge.bare(row.feedback, row.good)) for row in rows]


def warn_unbalanced(rows: Sequence[MetaRow], reporter: Reporter) -> None:
    balance = meta_balance(rows)
    reporter.line(f"  D_meta: {balance.rows} rows, {balance.right} right and {balance.wrong} wrong responses")
    if balance.warning is not None:
        reporter.warn(balance.warning)


def _unique_direct(examples: Sequence[Example]) -> list[Example]:
    """Several rows of D_meta share a prompt and a refinement; as direct examples they are one."""
    return list({example.tokens.tobytes(): example for example in examples}.values())


def supervised_examples(
    rows: Sequence[MetaRow],
    qa: Sequence[QARow],
    fmt: PromptFormat,
    section: TrainSection,
) -> dict[str, list[Example]]:
    """Examples of D_meta (`meta`: feedback with refinement; `direct`: the refinement alone) and of D_QA (`qa`)."""
    weights = TermWeights(section.w_feedback, section.w_refine, section.w_direct)
    groups = by_term(example for row in rows for example in meta_examples(row, fmt, weights))
    if "direct" in groups:
        groups["direct"] = _unique_direct(groups["direct"])
    if qa:
        groups["qa"] = [qa_example(row, fmt) for row in qa]
    return groups


def self_pool(kept: Sequence[Rollout], fmt: PromptFormat) -> list[Example]:
    """D_self as direct examples (p, r-hat) of the ids that were sampled; the same prompt with the same answer is taken
    once."""
    out = []
    unique = {(r.prompt, r.candidates[r.chosen].text.strip()): r for r in reversed(kept)}
    for r in reversed(unique.values()):
        answer = r.candidates[r.chosen]
        end = answer.end if fmt.ends(answer.end) else ()
        out.append(self_example(f"{r.id}/{r.sample}", r.prompt, answer.tokens, end, fmt))
    return out
