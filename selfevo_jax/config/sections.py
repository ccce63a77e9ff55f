"""The keys of a config, section by section, each with its form, its default and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from selfevo_jax.config.instructions import InstructionsSection
from selfevo_jax.judges import JudgeSection
from selfevo_jax.scorers import EvaluationSection
from selfevo_jax.section import Count, Positive, RowsSection, Section, Share

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


def _some_devices(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError(f"found {value}, expected a whole number above 0, or -1 for what the others leave")
    return value


Devices = Annotated[int, AfterValidator(_some_devices)]


class ModelSection(Section):
    source: str
    """`builtin:stories`, `package:NAME` (a GGUF inside an installed package), a `.gguf` file, a Hugging Face
    directory, one written by `selfevo import`, or `preset:NAME` (random weights, needs `tokenizer`)."""
    tokenizer: str | None = None
    """Path of the tokenizer; None takes the one that lies with the model."""
    preset: str | None = None
    """Name of a known shape that the model must have; with it `selfevo plan` needs no model at all."""


class MeshSection(Section):
    data: Devices = -1
    """Devices for data parallelism; -1 takes what the other two leave."""
    fsdp: Devices = 1
    tensor: Devices = 1

    @model_validator(mode="after")
    def _one_is_inferred(self) -> MeshSection:
        open_sizes = [name for name in ("data", "fsdp", "tensor") if getattr(self, name) == -1]
        if len(open_sizes) > 1:
            raise ValueError(f"{' and '.join(open_sizes)} are -1; one of them at most takes what the others leave")
        return self


class FormatSection(Section):
    kind: Literal["plain", "chat"] = "plain"
    """`plain`: the strings below around the texts. `chat`: the model's own chat template."""
    system: str | None = None
    respond: str | None = None
    """Text around `{prompt}`; None takes the default of the kind."""
    judge: str | None = None
    """What asks for feedback on the answer so far."""
    refine: str | None = None
    """What asks for the refinement by the light of the feedback."""
    stop_strings: tuple[str, ...] = ()
    template: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the chat template's own, as `{enable_thinking: false}`; what they do is up to the template."""


class StageSection(Section):
    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    """0 is greedy."""
    top_k: Count = 0
    """0 is off."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    min_p: Share = 0.0
    max_new_tokens: Positive = 256


class RespondSection(StageSection):
    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.8


class FeedbackSection(StageSection):
    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.7


class SamplingSection(Section):
    slots: Positive | None = None
    """Chains that are decoded side by side; results do not depend on it. None takes as many as fit in memory, at most
    32 on a CPU and 512 elsewhere (more do not help), and at most the chains of a round."""
    cache_length: Positive = 512
    """Tokens a slot can hold: prompt, response, feedback and refinement together."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of compute."""
    param_dtype: Literal["float32", "bfloat16", "int8"] | None = None
    """Of the parameters while decoding (training keeps its float32 ones); None takes `dtype`. int8: matrices with a
    scale for each output channel, norms and biases in float32."""
    cache_dtype: Literal["float32", "bfloat16", "int8"] | None = None
    """Of the KV cache; None takes `dtype`. int8: with a scale for each position and head."""
    tensor: Positive | None = None
    """Devices that share one copy of the parameters while decoding; the slots lie over the others. None: `mesh.tensor`.
    Training seldom wants it, but a copy that does not fit on one device needs it here."""
    respond: RespondSection = RespondSection()
    feedback: FeedbackSection = FeedbackSection()
    refine: StageSection = StageSection()


SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\z")]


class StoriesSection(Section):
    """The embedded task: counting stories, made by a generator with a seed."""

    changes: Annotated[int, Field(ge=2, le=4)] = 3
    meta_questions: Positive = 300
    responses_per_question: Positive = 4
    """Responses sampled from the base for each D_meta question; the annotator writes the feedback."""
    right_copies: Count = 3
    """Copies of a right response for each D_meta question: too few, and the critic says only `incorrect`."""
    evaluation_rows: Positive = 512
    evaluation_split: Literal["development", "test"] = "test"

    read_by: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "changes": ("answers", "D_meta", "evaluation", "rollouts"),
        **dict.fromkeys(("meta_questions", "responses_per_question", "right_copies"), ("D_meta",)),
        **dict.fromkeys(("evaluation_rows", "evaluation_split"), ("evaluation",)),
    }


class DataSection(Section):
    stories: StoriesSection | None = None
    """Set it to use the embedded task in place of the files below."""
    instructions: InstructionsSection | None = None
    """Set it to use prompts with verifiable instructions in place of files of prompts and D_meta."""
    task: str | None = None
    """A task from outside the package, in place of the files below: one of an installed package (entry points
    `selfevo_jax.tasks`), or `module:name`."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of that task."""
    prompts: RowsSection | None = None
    """Unlabeled prompts: JSONL, or `builtin:gsm8k/prompts`; or a section of it and the names of its columns."""
    meta_skill: str | None = None
    """D_meta rows (JSONL of prompt, response, feedback, refinement, good)."""
    meta_from_solutions: str | None = None
    """Build D_meta from worked solutions with planted errors, from this file, in place of `meta_skill`."""
    read_by: ClassVar[Mapping[str, tuple[str, ...]]] = {"meta_from_solutions": ("D_meta",)}
    meta_rows: Positive | None = None
    """Use this many D_meta rows; None takes all."""
    meta_feedback: Literal["words", "verdict"] = "words"
    """`verdict` leaves of D_meta's feedback the verdict (or rating) alone, without its words: an ablation."""
    qa: str | None = None
    """D_QA rows (prompt, answer): plain supervised rows beside D_meta, or without one: a supervised baseline."""
    evaluation: dict[SetName, EvaluationSection] = Field(default_factory=dict)
    """Name -> file of (prompt, answer) rows, or a section that says what its answers are. Gold answers are read by
    evaluation alone. Names become file names: letters, digits, '_', '-' and '.'."""
    evaluation_rows: Positive | None = None
    """Use this many rows of each set; None takes all."""
    prompts_per_round: Positive = 1024
    samples_per_prompt: Positive = 1

    @model_validator(mode="after")
    def _some_source(self) -> DataSection:
        made = [name for name in ("stories", "instructions", "task") if getattr(self, name) is not None]
        if len(made) > 1:
            raise ValueError(f"{made[0]} stands beside {made[1]}; remove one of the two")
        files = ["prompts", "meta_skill", "meta_from_solutions", "meta_rows"]
        if made != ["instructions"]:
            files += ["qa", "evaluation", "evaluation_rows"]
        if made and (given := [field for field in files if getattr(self, field)]):
            raise ValueError(f"{made[0]} stands beside {', '.join(given)}; remove `{made[0]}` to use your own files")
        if not made:
            if self.prompts is None:
                raise ValueError("prompts: missing; name a JSONL file of prompts, or set `data.stories`")
            if self.meta_skill is not None and self.meta_from_solutions is not None:
                raise ValueError("name exactly one of meta_skill and meta_from_solutions")
        if twice := next((name for name in self.evaluation if self.set_names.count(name) > 1), None):
            raise ValueError(f"evaluation.{twice}: `instructions` has a set of this name; give the file's another one")
        return self

    @property
    def primary(self) -> EvaluationSection:
        """The first evaluation set: gold answers of the prompts, where they have any, are read as its own. Without one
        they are numbers."""
        return next(iter(self.evaluation.values()), EvaluationSection(source=""))

    @property
    def set_names(self) -> list[str]:
        """The evaluation sets that the config tells of: a task's own, then those of files."""
        made = ["stories"] if self.stories is not None else []
        if self.instructions is not None:
            made += self.instructions.set_names
        return [*made, *self.evaluation]

    @property
    def meta_from_file(self) -> bool:
        """Whether D_meta is made from a file's rows, and so of no answers of the base."""
        return self.meta_skill is not None or self.meta_from_solutions is not None

    @property
    def has_meta(self) -> bool:
        """Whether there is a D_meta."""
        return self.meta_from_file or any(made is not None for made in (self.stories, self.instructions, self.task))


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


class RoundsSection(Section):
    number: Annotated[int, Field(ge=0, le=100_000)] = 3
    variant: Literal["restart", "continual_mixed", "continual_self_only"] = "restart"
    pool: Literal["all", "last"] | None = None
    """Self-curated rows to learn from: of all rounds so far, or of the last one. None: all for `restart`, else last."""
    turns: Count = 1
    """Feedback-refine turns at most; 0 judges first responses alone."""
    select: Literal["feedback", "none", "random"] = "feedback"
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
    """`self_refine` (SELF), `self_training` (first responses, unjudged), one of an installed package (entry points
    `selfevo_jax.methods`), or `module:name`."""

    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a method from outside the package; those of ours are in `rounds`."""


class EvaluateSection(Section):
    modes: Annotated[tuple[Literal["direct", "refined", "consistency", "both"], ...], Field(min_length=1)] = (
        "direct",
        "refined",
    )
    """`consistency`: majority of k samples. `both`: majority of k refined samples."""
    k: Positive = 5
    temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 0.7
    """Of the k samples; `direct` and `refined` are greedy."""


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


class Config(Section):
    """A whole run. The run directory alone is its state; the same command goes on where it was."""

    run_dir: Annotated[str, Field(pattern=r"\S")]
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """`auto` takes what JAX finds; the others are refused when absent, never replaced."""
    model: ModelSection
    mesh: MeshSection = MeshSection()
    format: FormatSection = FormatSection()
    judge: JudgeSection = JudgeSection()
    data: DataSection
    sampling: SamplingSection = SamplingSection()
    meta: MetaSection = MetaSection()
    learn: TrainSection = TrainSection()
    """The fine-tuning inside each round."""
    method: MethodSection = MethodSection()
    rounds: RoundsSection = RoundsSection()
    evaluate: EvaluateSection = EvaluateSection()
    saving: SavingSection = SavingSection()

    @model_validator(mode="after")
    def _meta_skills_come_from_somewhere(self) -> Config:
        if self.meta.steps != 0 and not self.data.has_meta and self.data.qa is None:
            raise ValueError(
                "data: name exactly one of meta_skill and meta_from_solutions (or qa alone, a supervised baseline); "
                "a model that has its meta-skills already needs neither with meta.steps: 0"
            )
        return self

    @model_validator(mode="after")
    def _adapters_rest_on_checkpoints(self) -> Config:
        apart = [name for name in ("meta", "learn") if (lora := getattr(self, name).lora) and lora.save == "adapters"]
        if self.saving.keep_last is not None and apart:
            raise ValueError(
                f"saving.keep_last stands beside {apart[0]}.lora.save: adapters; adapters need the checkpoints that "
                "they are added to, so keep all, or save merged ones"
            )
        return self

    @model_validator(mode="after")
    def _worse_by_some_figure(self) -> Config:
        if self.rounds.stop_when_worse and self.data.task is None and not self.data.set_names:
            raise ValueError("rounds.stop_when_worse: there is nothing to compare by; name a set in data.evaluation")
        return self
