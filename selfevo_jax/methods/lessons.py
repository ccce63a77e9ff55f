"""From rows and rollouts to examples: what D_meta, D_QA and D_self teach."""

from __future__ import annotations

from collections.abc import Sequence

from selfevo_jax.chains import Rollout
from selfevo_jax.data import Example, MetaRow, QARow, TermWeights, by_term, meta_examples, qa_example, self_example
from selfevo_jax.text import PromptFormat
from selfevo_jax.train import TrainSection


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
