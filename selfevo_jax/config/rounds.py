"""What a round does. Methods are given the whole config, so their section is here and not in their room."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from selfevo_jax.section import Count, Positive, Section, Share

Policy = Literal["feedback", "none", "random"]


class RoundsSection(Section):
    """How many rounds there are, what they train on, and which rows they keep."""

    number: Annotated[int, Field(ge=0, le=100_000)] = 3
    """A finished run goes on when it is raised."""
    variant: Literal["restart", "continual_mixed", "continual_self_only"] = "restart"
    """`restart` trains from the base on D_meta and D_self. `continual_mixed` trains the checkpoint before on D_self
    mixed with D_meta, `continual_self_only` on D_self alone, which forgets how to give feedback."""
    pool: Literal["all", "last"] | None = None
    """Self-curated rows to learn from: of all rounds so far, or of the last one. None: all for `restart`, else last."""
    turns: Count = 1
    """Feedback-refine turns at most; 0 judges first responses alone."""
    select: Policy = "feedback"
    """`random` keeps as many rows as the feedback would, drawn blindly (an ablation)."""
    per_prompt: Positive | None = 4
    """Kept rows of one prompt in a round at most (different answers, of the first samples), so that easy
    prompts do not fill D_self where each is sampled often. None: all."""
    minimum_kept: Positive = 8
    """With fewer kept rows a round is not trained, and the run ends with the counts: so few teach nothing but
    themselves."""
    controls: Count = 32
    """Answers made wrong on purpose and shown to the critic; not trained on."""
    controls_warn_above: Share = 0.2
    """Warn where the critic calls more than this share of the controls good."""
    stop_when_worse: bool = False
    """End the run when direct answers on the first evaluation set are measurably worse than those of the best
    checkpoint so far, row by row (McNemar's exact p below 0.05). A run that ended so goes on when this is false."""

    @property
    def judges(self) -> bool:
        """Whether rounds ask for feedback at all; without turns and filter they are plain self-training."""
        return self.turns > 0 or self.select != "none"


class MethodSection(Section):
    """What a round does."""

    name: str = "self_refine"
    """`self_refine` (SELF), `self_training` (first responses, unjudged), `iterative_dpo` (better answers over worse
    ones), one of an installed package (entry points `selfevo_jax.methods`), or `module:name`."""

    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a method from outside the package; `iterative_dpo` has `pairs` (`refinement`, `samples` or `both`), all other
    settings of ours are in `rounds`."""
