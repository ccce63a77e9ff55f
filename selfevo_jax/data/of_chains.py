"""What chains teach beside their last answer: which answer is better, and what an answer is worth to one who has read
the feedback on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from selfevo_jax.data.examples import Example, Layout, Piece, joined, self_example

MARKERS = ("An unhelpful answer:", "A helpful answer:")
"""Before a worse and before a better answer."""


def hindsight_example(
    id: str,
    prompt: str,
    worse: Sequence[int],
    better: Sequence[int],
    end: Sequence[int],
    fmt: Layout,
    *,
    feedback: Sequence[int] | None = None,
    markers: tuple[str, str] = MARKERS,
    worse_weight: float = 1.0,
    worse_ends: bool = True,
) -> Example:
    """Both answers in one sequence, as an objective of hindsight learns them: `[respond(p) marker r end marker r^
    end]`, or, with the `feedback` on the worse one, as the chain has it: `[respond(p) r J f R r^ end]`.

    Targets are r (which weighs `worse_weight`) and r^, never markers, instructions or feedback. Answers and feedback
    are the ids that were sampled; `end` is that of the better answer, empty where the model said none. The end that
    stands between the two answers is a target where the model said it behind the worse one (`worse_ends`). Source: Liu
    et al. (chain of hindsight), arXiv 2302.02676.
    """
    head = list(fmt.respond(prompt))
    if feedback is not None:
        asked = feedback_context(prompt, worse, feedback, fmt)
        shown = [*head, *worse]
        pieces: list[Piece] = [(head, 0.0), (worse, worse_weight), (asked[len(shown) :], 0.0)]
    else:
        first = [*head, *fmt.continuation(head, markers[0])]
        second = fmt.continuation([*first, *worse, *fmt.end], markers[1])
        ended = worse_weight if worse_ends else 0.0
        pieces = [(first, 0.0), (worse, worse_weight), (fmt.end, ended), (second, 0.0)]
    return joined(id, "self", [*pieces, ([*better, *end], 1.0)])


def feedback_context(prompt: str, response: Sequence[int], feedback: Sequence[int], fmt: Layout) -> list[int]:
    """Ids up to where the refinement of a response begins, of the ids that were sampled."""
    judged = fmt.judge([*fmt.respond(prompt), *response])
    return list(fmt.refine([*judged, *feedback]))


def taught_example(
    id: str, prompt: str, answer: Sequence[int], end: Sequence[int], context: Sequence[int], fmt: Layout
) -> Example:
    """`[respond(p) answer end]`, with the same answer behind another context as its teacher, such as that of the
    feedback on it (`feedback_context`). Answers are the ids that were sampled; `end` as for `self_example`."""
    teacher = joined(id, "self", [(context, 0.0), ([*answer, *end], 1.0)])
    return replace(self_example(id, prompt, answer, end, fmt), teacher=teacher)
