"""The whole config: the sections of all rooms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from selfevo_jax.checkpoint import ModelSection
from selfevo_jax.config.methods import filled
from selfevo_jax.config.rounds import MethodSection, RoundsSection
from selfevo_jax.data import DataSection
from selfevo_jax.evaluate import EvaluateSection
from selfevo_jax.judges import JudgeSection
from selfevo_jax.sample import SamplingSection
from selfevo_jax.section import Section
from selfevo_jax.sharding import MeshSection
from selfevo_jax.text import FormatSection
from selfevo_jax.trackers.section import Trackers
from selfevo_jax.train import MetaSection, SavingSection, TrainSection


class Config(Section):
    """A whole run. The run directory alone is its state; the same command goes on where it was."""

    run_dir: Annotated[str, Field(pattern=r"\S")]
    """Where the run is kept: a folder, or `gs://BUCKET/NAME`. Its only state."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Of every draw: order of the data, sampling, what a task makes."""
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
    track: Trackers = ()
    """Where the run's figures are shown while it goes on: `tensorboard`, or a list such as
    `[{kind: wandb, project: mine}]`."""

    def seed_of(self, round: int) -> int:
        """Of what a round draws on the host."""
        return self.seed * 1000 + round

    @property
    def trained(self) -> dict[str, TrainSection]:
        """`meta` and `learn`, those of them that something is trained with."""
        found = {"meta": self.meta, "learn": self.learn} if self.rounds.number > 0 else {"meta": self.meta}
        return {name: section for name, section in found.items() if section.steps != 0}

    @model_validator(mode="before")
    @classmethod
    def _as_the_method_is(cls, tree: Any) -> Any:
        return filled(tree)

    @model_validator(mode="after")
    def _rounds_have_prompts_of_one_kind(self) -> Config:
        if self.rounds.prompts == "answered" and self.data.self_written is not None:
            raise ValueError("rounds.prompts: answered stands beside data.self_written; remove one of the two")
        batch = self.judge.batch
        if self.rounds.prompts == "answered" and batch is not None and batch.reads_labels:
            raise ValueError(
                f"rounds.prompts: found answered, but judge.batch {batch.kind} knows the gold answers of given prompts "
                "alone; set it to given"
            )
        if self.rounds.prompts == "answered" and not self.data.has_meta and self.data.qa is None:
            raise ValueError("rounds.prompts: found answered, but there is neither D_meta nor D_QA; set it to given")
        return self

    @model_validator(mode="after")
    def _meta_skills_come_from_somewhere(self) -> Config:
        if self.meta.steps != 0 and not self.data.has_meta and self.data.qa is None:
            raise ValueError(
                "data: name exactly one of meta_skill, meta_from_solutions and meta_from_equations (or qa alone, a "
                "supervised baseline); a model that has its meta-skills already needs none with meta.steps: 0"
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

    @model_validator(mode="after")
    def _smoothing_has_controls(self) -> Config:
        for key, planted in (("meta", 0), ("learn", self.rounds.controls)):
            found = getattr(self, key).objective.settings.get("label_smoothing")
            if found == "controls" and planted == 0:
                where = "only rounds have any" if key == "meta" else "rounds.controls is 0"
                raise ValueError(
                    f"{key}.objective.settings.label_smoothing: found controls, but {where}; give a number below 0.5"
                )
        return self

    @model_validator(mode="after")
    def _ratios_are_those_of_the_model(self) -> Config:
        if self.learn.objective.name != "grpo":
            return self
        drawn, rounds = self.sampling.respond, self.rounds
        wanted = [
            ("rounds.variant", rounds.variant, ("continual_self_only", "continual_mixed")),
            ("rounds.pool", rounds.pool, (None, "last")),
            ("sampling.respond.temperature", drawn.temperature, (1,)),
            ("sampling.respond.top_k", drawn.top_k, (0,)),
            ("sampling.respond.top_p", drawn.top_p, (1,)),
            ("sampling.respond.min_p", drawn.min_p, (0,)),
        ]
        told = [
            f"{key}: found {found}, but learn.objective grpo compares with the probabilities by which the answers were "
            f"drawn, those of the checkpoint before; set it to {allowed[-1]}"
            for key, found, allowed in wanted
            if found not in allowed
        ]
        if told:
            raise ValueError("\n".join(told))
        return self
