"""What a round does. Methods are given the whole config, so their section is here and not in their room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from selfevo_jax.section import Count, Positive, Section, Share

Policy = Literal["feedback", "none", "random", "best_of_n", "threshold", "extremes", "improvement"]
Extremes = Literal["best_worst", "best_random"]


class RoundsSection(Section):
    """How many rounds there are, what they train on, and which rows they keep."""

    number: Annotated[int, Field(ge=0, le=100_000)] = 3
    """A finished run goes on when it is raised."""
    variant: Literal["restart", "continual_mixed", "continual_self_only"] = "restart"
    """`restart` trains from the base on D_meta and D_self. `continual_mixed` trains the checkpoint before on D_self
    mixed with D_meta, `continual_self_only` on D_self alone, which forgets how to give feedback."""
    pool: Literal["all", "last"] | None = None
    """Self-curated rows to learn from: of all rounds so far, or of the last one. None: all for `restart`, else last."""
    decay: Share = 1.0
    """With the rows of all rounds: of those k rounds back this share to the power of k is learnt, drawn by the seed."""
    prompts: Literal["given", "answered"] = "given"
    """What rounds ask. `answered`: the prompts of D_QA and D_meta, whose answers are known, in an order of each round's
    own; such as `spin` learns from."""
    order: Literal["as_given", "easy_to_hard", "hard_to_easy", "cyclical"] = "as_given"
    """In which given prompts come, over the rounds of `order_rounds`: short ones first, long ones first, or short ones
    first in these rounds and long ones first in the next."""
    order_rounds: Annotated[int, Field(ge=2)] = 3
    """Rounds whose prompts are put in order together."""
    turns: Count = 1
    """Feedback-refine turns at most; 0 judges first responses alone."""
    select: Policy = "feedback"
    """What is kept. `feedback`: what is called good; `none`: everything; `random`: as many rows as the feedback would,
    drawn blindly (an ablation). By a score, whatever the verdict: `best_of_n` the best of a prompt's samples,
    `threshold` what reaches a quantile of the round, `improvement` refinements that score more than their response,
    `extremes` (for methods that compare) the best of a prompt's samples and another one."""
    keep: Positive = 1
    """With `best_of_n`: rows of a prompt."""
    quantiles: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5,)
    """With `threshold`: of the scores of each round; the last one is that of all further rounds."""
    margin: Annotated[float, Field(ge=0.0)] = 0.0
    """With `improvement`: by how much a refinement must score more."""
    extremes: Extremes = "best_worst"
    """With `extremes`: beside the best sample the worst, or any other one, drawn by the seed."""
    pass_rate: tuple[Share, Share] = (0.0, 1.0)
    """Learn of prompts alone of whose responses in the round a share between these is called good: `[0.2, 0.8]` leaves
    out what is too easy or too hard."""
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

    of_policy: ClassVar[Mapping[str, str]] = {
        "keep": "best_of_n",
        "quantiles": "threshold",
        "margin": "improvement",
        "extremes": "extremes",
    }
    """Key -> the value of `select` that reads it."""

    @model_validator(mode="after")
    def _fits_the_selection(self) -> RoundsSection:
        for key, policy in self.of_policy.items():
            if policy != self.select and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"rounds.{key}: of {policy}, but rounds.select is {self.select}; leave it out")
        if self.order == "as_given" and self.order_rounds != type(self).model_fields["order_rounds"].default:
            raise ValueError("rounds.order_rounds: of an order, but rounds.order is as_given; leave it out")
        if self.order != "as_given" and self.prompts == "answered":
            raise ValueError("rounds.order: of given prompts, but rounds.prompts is answered; leave it out")
        least, most = self.pass_rate
        if least > most:
            raise ValueError(f"rounds.pass_rate: found [{least:g}, {most:g}], expected the lower share first")
        if (least, most) != (0.0, 1.0) and not self.judges:
            raise ValueError(
                "rounds.pass_rate: counts verdicts, but with rounds.turns 0 and rounds.select none nothing is judged; "
                "leave it out"
            )
        if self.decay != 1.0 and not self.pools_all:
            raise ValueError(
                f"rounds.decay: found {self.decay:g}, but the rows of the last round alone are learnt; set rounds.pool "
                "to all"
            )
        return self

    @property
    def pools_all(self) -> bool:
        """Whether the rows of all rounds so far are learnt, and not those of the last one alone."""
        return (self.pool or ("all" if self.variant == "restart" else "last")) == "all"

    @property
    def judges(self) -> bool:
        """Whether rounds ask for feedback at all; without turns and filter they are plain self-training."""
        return self.turns > 0 or self.select != "none"

    def most_of_prompt(self, samples: int) -> int:
        """Kept rows of a prompt that is sampled so often, at most."""
        limits = (samples, self.per_prompt or samples, self.keep if self.select == "best_of_n" else samples)
        return min(limits)

    def together(self, round: int) -> range:
        """The rounds whose given prompts are put in order together, and dealt out among them."""
        if self.order == "as_given":
            return range(round, round + 1)
        first = round - (round - 1) % self.order_rounds
        return range(first, first + self.order_rounds)

    @property
    def last_given(self) -> int:
        """The last round whose given prompts a run may ask, or deal out among others: it may never come."""
        return self.together(self.number)[-1]

    def quantile(self, round: int) -> float:
        """With `threshold`: of a round."""
        return self.quantiles[min(round, len(self.quantiles)) - 1]

    def notice(self) -> str | None:
        """A line where there are quantiles of rounds that are not run, or not before `number` is raised."""
        named, rounds = len(self.quantiles), self.number
        if rounds == 0 or named <= rounds:
            return None
        left = ", ".join(f"{quantile:g}" for quantile in self.quantiles[rounds:])
        return (
            f"rounds.quantiles: found {named}, one for each round, but rounds.number is {rounds}, so that no round is "
            f"filtered by {left}; name no more than are run, or raise rounds.number"
        )


class MethodSection(Section):
    """What a round does."""

    name: str = "self_refine"
    """`self_refine` (SELF), `self_training` (first responses, unjudged), `raft` (the best of several samples),
    `superhf` (that, near the start), `rest_em` (what passes, from the base each round), `ilf` (the best of several
    refinements), `debate` (the better of two answers), `iterative_dpo` (better answers over worse ones),
    `self_rewarding` (the best sample over the worst, judged several times), `spin` (written answers over the model's
    own), `list_preferences` (lists of samples), `grpo` (samples by their advantage), `chain_of_hindsight` (worse and
    better answers in one sequence), `sdpo` (the model that has read its feedback teaches), `star` (reads labels: what
    is right, also after a hint), one of an installed package (entry points `selfevo_jax.methods`), or `module:name`.
    Keys that the config leaves out are as the method needs them."""

    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a method from outside the package. Of ours `iterative_dpo` has `pairs` (`refinement`, `samples` or `both`),
    `chain_of_hindsight` these and `markers` (two texts), `feedback` (false) and `worse_weight` (1), `ilf` `refinements`
    (4), `star` `hint` (a text with `{prompt}` and `{answer}`, or null); all others are in `rounds`."""
