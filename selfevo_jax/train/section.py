"""How a model is fine-tuned, and when the state of a fine-tuning is saved."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from selfevo_jax.section import Count, Positive, Section, Share
from selfevo_jax.train.objectives import ObjectiveSection

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class LoraSection(Section):
    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 32.0
    """The adapters' product is scaled by alpha / rank."""
    targets: Annotated[tuple[Literal["q", "k", "v", "o", "gate", "up", "down"], ...], Field(min_length=1)] = (
        "q",
        "k",
        "v",
        "o",
        "gate",
        "up",
        "down",
    )
    save: Literal["merged", "adapters"] = "merged"
    """What a checkpoint holds: whole parameters, or the adapters and the name of what they are added to."""


DEFAULT_STEPS = 150
"""Of a fine-tuning whose section names neither `steps` nor `epochs`."""


class TrainSection(Section):
    steps: Positive | None = None
    """Updates. The length of a fine-tuning is named by exactly one of `steps` and `epochs`; with neither it is 150
    steps."""
    epochs: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Passes over the packed rows of all examples. Where shares are set by hand, one pass takes as long as the slowest
    pool needs to be seen once."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1000.0)] = 1e-3
    warmup_steps: Count | None = None
    """Steps of linear rise to the learning rate. None: 20, and at most a fifth of the steps."""
    schedule: Literal["cosine", "linear"] = "cosine"
    end_fraction: Share = 0.1
    """Learning rate of the last step as a share of the peak. With 0 it is that after the last step: each one trains."""
    b1: Decay = 0.9
    b2: Decay = 0.98
    weight_decay: Weight = 0.01
    clip_norm: Annotated[float, Field(gt=0.0)] = 1.0
    batch_rows: Positive = 32
    """Packed rows a step, over all devices and micro-batches."""
    length: Positive = 256
    """Tokens in a packed row; longer examples are dropped and counted."""
    packing: Literal["tight", "shuffled", "none"] = "tight"
    """How examples share rows: those that fill a row best; first-fit in shuffled order (more padding); one a row."""
    accumulate: Positive = 1
    """Micro-batches a step."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    first_moment_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of Adam's first moment; bfloat16 saves 2 bytes a parameter."""
    remat: Literal["none", "minimal", "full", "offload"] = "none"
    """What is computed again in the backward pass: nothing; all but matrix products; all but the input of each layer;
    the same, with those inputs in the host's memory."""
    scan_layers: bool | None = None
    """Compile one layer and run it n times. None: on TPU alone."""
    objective: ObjectiveSection = ObjectiveSection()
    """What is made small. In a round the method may name another."""
    lora: LoraSection | None = None
    """Learn low-rank adapters in place of the parameters."""
    w_feedback: Weight = 1.0
    w_refine: Weight = 1.0
    w_direct: Weight = 1.0
    direct_share: Share | None = None
    """Share of D_meta's examples that are direct answers (the rest are feedback with refinement). None: by their
    numbers, each example as often as any other."""
    qa_share: Share | None = None
    """Share of the supervised examples drawn from D_QA, where it is given. None: by their numbers."""
    meta_share: Share | None = None
    """In a round: share of the examples that replay D_meta and D_QA (`continual_mixed` and `restart`). None: by their
    numbers, so that D_meta and every D_self in the pool are one set, of which each example is seen as often as any
    other."""

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        steps, epochs = tree.get("steps"), tree.get("epochs")
        if steps is not None and epochs is not None:
            raise ValueError(f"found steps {steps} and epochs {epochs}; give one of them, and set the other to null")
        return {**tree, "steps": DEFAULT_STEPS} if steps is None and epochs is None else tree


class MetaSection(TrainSection):
    steps: Count | None = None
    """As for `learn`. 0: the model has its meta-skills already, and is M_meta as it is; D_meta may then be left out."""


class SavingSection(Section):
    """When the state of a fine-tuning is saved on its way, and which checkpoints are kept."""

    every_minutes: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = 10.0
    """A notice to end (SIGTERM) saves it at once, too."""
    every_steps: Positive | None = None
    keep_last: Positive | None = None
    """Keep the checkpoints of so many rounds, the last ones; None keeps all. Texts and figures of all rounds stay."""
    keep_every: Positive | None = None
    """With `keep_last`: keep every so many rounds' checkpoint too."""
    keep_best: bool = True
    """With `keep_last`: keep the one with the best direct accuracy on the first evaluation set too."""
