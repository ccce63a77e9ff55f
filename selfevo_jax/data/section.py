"""Where rows come from: the settings of files, and of the tasks that are ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from selfevo_jax.data.equations_section import EquationsSection
from selfevo_jax.data.instructions_section import InstructionsSection
from selfevo_jax.data.self_written_section import SelfWrittenSection
from selfevo_jax.judges import OpenSection
from selfevo_jax.scorers import EvaluationSection
from selfevo_jax.section import Count, Positive, RowsSection, Section

SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\z")]


class StoriesSection(Section):
    """The embedded task: counting stories, made by a generator with a seed."""

    changes: Annotated[int, Field(ge=2, le=4)] = 3
    """In each story."""
    meta_questions: Positive = 300
    """Stories of D_meta."""
    responses_per_question: Positive = 4
    """Responses sampled from the base for each D_meta question; the annotator writes the feedback."""
    right_copies: Count = 3
    """Copies of a right response for each D_meta question: too few, and the critic says only `incorrect`."""
    evaluation_rows: Positive = 512
    """Stories of the evaluation set."""
    evaluation_split: Literal["development", "test"] = "test"
    """Which stories these are."""

    read_by: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "changes": ("answers", "D_meta", "evaluation", "rollouts"),
        **dict.fromkeys(("meta_questions", "responses_per_question", "right_copies"), ("D_meta",)),
        **dict.fromkeys(("evaluation_rows", "evaluation_split"), ("evaluation",)),
    }


class DataSection(Section):
    """Where prompts, D_meta, D_QA and evaluation rows come from."""

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
    """Unlabeled prompts: a file of rows, `builtin:gsm8k/prompts` or a data set; or a section of it and the names of its
    columns. So are the other keys below that name rows."""
    meta_skill: RowsSection | None = None
    """D_meta rows (prompt, response, feedback, refinement, good)."""
    meta_from_solutions: RowsSection | None = None
    """Build D_meta from worked solutions with planted errors, from this file, in place of `meta_skill`."""
    meta_from_equations: EquationsSection | None = None
    """Build D_meta from the base's own bare answers to word problems with equations (SVAMP's rows), in place of
    `meta_skill`: a file, or a section with its settings."""
    read_by: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "meta_from_solutions": ("D_meta",),
        "meta_from_equations": ("answers", "D_meta"),
    }
    meta_rows: Positive | None = None
    """Use this many D_meta rows; None takes all."""
    meta_feedback: Literal["words", "verdict"] = "words"
    """`verdict` leaves of D_meta's feedback the verdict (or rating) alone, without its words: an ablation."""
    qa: RowsSection | None = None
    """D_QA rows (prompt, answer): plain supervised rows beside D_meta, or without one: a supervised baseline."""
    evaluation: dict[SetName, EvaluationSection] = Field(default_factory=dict)
    """Name -> file of (prompt, answer) rows, or a section that says what its answers are. Gold answers are read by
    evaluation alone. Names become file names: letters, digits, '_', '-' and '.'."""
    open_ended: dict[SetName, OpenSection] = Field(default_factory=dict)
    """Name -> file of prompts without gold answers, or a section that says who judges the answers, and beside whose."""
    ordinary: RowsSection | None = None
    """Held-out (prompt, answer) rows that people have written, such as `builtin:self_instruct/ordinary`: whether each
    checkpoint still finds such answers as probable as the base does. Nothing is trained on them."""
    evaluation_rows: Positive | None = None
    """Use this many rows of each set, and of `ordinary`; None takes all."""
    prompts_per_round: Positive = 1024
    """Unlabeled prompts of a round."""
    samples_per_prompt: Positive = 1
    """Chains of each prompt in a round."""
    self_written: SelfWrittenSection | None = None
    """Set it (`{}` will do) to have the model write the prompts of later rounds itself. None: all are given."""

    @model_validator(mode="after")
    def _some_source(self) -> DataSection:
        made = [name for name in ("stories", "instructions", "task") if getattr(self, name) is not None]
        if len(made) > 1:
            raise ValueError(f"{made[0]} stands beside {made[1]}; remove one of the two")
        metas = ["meta_skill", "meta_from_solutions", "meta_from_equations"]
        files = ["prompts", *metas, "meta_rows"]
        if made != ["instructions"]:
            files += ["qa", "evaluation", "evaluation_rows"]
        if made and (given := [field for field in files if getattr(self, field)]):
            raise ValueError(f"{made[0]} stands beside {', '.join(given)}; {self._in_place_of(made[0], given)}")
        if not made:
            if self.prompts is None:
                raise ValueError("prompts: missing; name a file of prompts, or set `data.stories`")
            if sum(getattr(self, name) is not None for name in metas) > 1:
                raise ValueError(f"name exactly one of {', '.join(metas[:-1])} and {metas[-1]}")
        if twice := next((name for name in self.evaluation if self.set_names.count(name) > 1), None):
            raise ValueError(f"evaluation.{twice}: `instructions` has a set of this name; give the file's another one")
        if twice := next((name for name in self.open_ended if name in self.set_names), None):
            raise ValueError(f"open_ended.{twice}: another evaluation set has this name; give one of them another one")
        return self

    def _in_place_of(self, task: str, given: Sequence[str]) -> str:
        """What to do with keys of files beside a task that has rows of its own."""
        section = getattr(self, task)
        own = type(section).model_fields if isinstance(section, Section) else {}
        same = [f"data.{task}.{key}" for key in given if key in own]
        others = ", ".join(f"data.{key}" for key in given if key not in own)
        told = [f"set {' and '.join(same)} in place of it"] if same else []
        if others:
            told.append(f"remove {others}, or set data.{task}=null to use your own files")
        return "; ".join(told)

    @property
    def primary(self) -> EvaluationSection:
        """The first evaluation set: gold answers of the prompts, where they have any, are read as its own. Without one
        they are numbers."""
        return next(iter(self.evaluation.values()), EvaluationSection(source=""))

    def to_write(self, round: int) -> int:
        """Prompts that the model writes itself for a round; its other ones are given."""
        section = self.self_written
        if section is None or round < section.from_round:
            return 0
        return self.prompts_per_round - int(section.given_share * self.prompts_per_round + 0.5)

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
        made = (self.meta_from_equations, self.stories, self.instructions, self.task)
        return self.meta_from_file or any(source is not None for source in made)
