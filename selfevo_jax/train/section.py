"""How a model is fine-tuned, and when the state of a fine-tuning is saved."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from selfevo_jax.data.packing import Packing
from selfevo_jax.model.learning import LoraConfig, Remat, Target
from selfevo_jax.section import Count, Positive, Section, Share
from selfevo_jax.train.objectives.section import ObjectiveSection, open_objective
from selfevo_jax.train.settings import Dtype, Schedule, TrainConfig

if TYPE_CHECKING:
    from selfevo_jax.train.objectives.base import Objective

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
_NO_LIMIT = 1e38
"""Above every norm that float32 has the square of."""


def _finite(norm: Any) -> Any:
    """A number for infinity, which JSON does not have."""
    return _NO_LIMIT if norm == math.inf else norm


class LoraSection(Section):
    """Low-rank adapters, which are trained in place of the parameters."""

    rank: Positive = LoraConfig.rank
    """Of the two factors of an adapter."""
    alpha: Annotated[float, Field(gt=0.0)] = LoraConfig.alpha
    """The adapters' product is scaled by alpha / rank."""
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] = LoraConfig.targets
    """The matrices that have adapters."""
    save: Literal["merged", "adapters"] = "merged"
    """What a checkpoint holds: whole parameters, or the adapters and the name of what they are added to."""


WARMUP_STEPS = 20
"""Of a fine-tuning whose config names none, where that is at most a fifth of its steps."""
DEFAULT_STEPS = TrainConfig.steps
"""Of a fine-tuning whose section names neither `steps` nor `epochs`."""


class TrainSection(Section):
    """A fine-tuning: its length, optimizer, rows, precision and memory."""

    in_place_of: ClassVar = {"steps": "epochs", "epochs": "steps"}
    steps: Positive | None = None
    """Updates. The length of a fine-tuning is named by exactly one of `steps` and `epochs`; with neither it is 150
    steps."""
    epochs: Annotated[float, Field(gt=0.0)] | None = None
    """Passes over the packed rows of all examples. Where shares are set by hand, one pass takes as long as the slowest
    pool needs to be seen once."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1000.0)] = TrainConfig.learning_rate
    """The peak, after the warm-up. The default is for models of less than a million parameters; where it is far above
    what is usual for the model's size, a run warns of it."""
    warmup_steps: Count | None = None
    """Steps of linear rise to the learning rate. None: 20, and at most a fifth of the steps."""
    schedule: Schedule = TrainConfig.schedule
    """How the learning rate falls after the warm-up."""
    end_fraction: Share = TrainConfig.end_fraction
    """Learning rate of the last step as a share of the peak. With 0 it is that after the last step: each one trains."""
    b1: Decay = TrainConfig.b1
    """Decay of Adam's first moment."""
    b2: Decay = TrainConfig.b2
    """Decay of Adam's second moment."""
    weight_decay: Weight = TrainConfig.weight_decay
    """Decoupled (AdamW), on matrices alone: not on norms or biases."""
    clip_norm: Annotated[float, BeforeValidator(_finite), Field(gt=0.0)] = TrainConfig.clip_norm
    """Largest global norm of the gradient of the mean loss. `.inf` clips nothing: it is read as 1e38."""
    batch_rows: Positive = TrainConfig.batch_rows
    """Packed rows a step, over all devices and micro-batches."""
    length: Positive = TrainConfig.length
    """Tokens in a packed row; longer examples are dropped and counted."""
    packing: Packing = "tight"
    """How examples share rows: those that fill a row best; first-fit in shuffled order (more padding); one a row."""
    accumulate: Positive = TrainConfig.accumulate
    """Micro-batches a step."""
    compute_dtype: Dtype = TrainConfig.compute_dtype
    """Of activations and matrix products; parameters, optimizer, norms, softmax and loss stay float32."""
    first_moment_dtype: Dtype = TrainConfig.first_moment_dtype
    """Of Adam's first moment; bfloat16 saves 2 bytes a parameter."""
    remat: Remat = TrainConfig.remat
    """What is computed again in the backward pass: nothing; all but matrix products; all but the input of each layer;
    the same, with those inputs in the host's memory."""
    scan_layers: bool | None = TrainConfig.scan_layers
    """Compile one layer and run it n times. None: on TPU alone."""
    objective: ObjectiveSection = ObjectiveSection()
    """What the training minimises. In a round the method may name another."""
    lora: LoraSection | None = None
    """Learn low-rank adapters in place of the parameters."""
    w_feedback: Weight = 1.0
    """Weight in the loss of feedback, given prompt and response."""
    w_refine: Weight = 1.0
    """Weight of the refinement, given prompt, response and feedback."""
    w_direct: Weight = 1.0
    """Weight of the refinement as a direct answer, given the prompt alone."""
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
    """Meta-skill learning: the fine-tuning on D_meta before the rounds."""

    steps: Count | None = None
    """As for `learn`. 0: the model has its meta-skills already, and is M_meta as it is; D_meta may then be left out."""


class SavingSection(Section):
    """When the state of a fine-tuning is saved on its way, and which checkpoints are kept."""

    every_minutes: Annotated[float, Field(gt=0.0)] | None = 10.0
    """A notice to end (SIGTERM) saves it at once, too."""
    every_steps: Positive | None = None
    """Save after so many steps, too. None: by the clock alone."""
    keep_last: Positive | None = None
    """Keep the checkpoints of so many rounds, the last ones; None keeps all. Texts and figures of all rounds stay."""
    keep_every: Positive | None = None
    """With `keep_last`: keep every so many rounds' checkpoint too."""
    keep_best: bool = True
    """With `keep_last`: keep the one with the best direct accuracy on the first evaluation set too."""


def train_settings(
    section: TrainSection, seed: int, steps: int | None = None, objective: Objective | None = None
) -> TrainConfig:
    """The settings of a config's section; its other keys are about the data. `objective`: in place of the section's.

    `steps` is what a length in epochs comes to with the data at hand; its warm-up is then at most all but the last of
    them. Before the data is known, a length in epochs counts as the fewest steps that its warm-up allows.
    """
    fields: dict[str, Any] = {
        f.name: getattr(section, f.name) for f in dataclasses.fields(TrainConfig) if hasattr(section, f.name)
    }
    if section.epochs is not None:
        fields["steps"] = (section.warmup_steps or 0) + 1 if steps is None else steps
    if section.warmup_steps is None:
        fields["warmup_steps"] = min(WARMUP_STEPS, fields["steps"] // 5)
    elif section.epochs is not None:
        fields["warmup_steps"] = min(section.warmup_steps, fields["steps"] - 1)
    if section.lora is not None:
        fields["lora"] = LoraConfig(**section.lora.model_dump(exclude={"save"}))
    fields["objective"] = open_objective(section.objective) if objective is None else objective
    return TrainConfig(**fields, seed=seed)
