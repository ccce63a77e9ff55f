"""The settings of judges that have some of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue, field_validator, model_validator

from selfevo_jax import plugins
from selfevo_jax.errors import ConfigError
from selfevo_jax.judges.base import BatchJudge, ChainJudge
from selfevo_jax.judges.batch import BATCH_GROUP, KINDS, BatchSection
from selfevo_jax.judges.by_endpoint import EndpointJudge, question_of
from selfevo_jax.judges.by_labels import ScorerJudge
from selfevo_jax.judges.by_pairs import PairwiseJudge
from selfevo_jax.judges.confidence import ConfidenceJudge
from selfevo_jax.judges.ensemble import EnsembleJudge
from selfevo_jax.judges.likelihood import LikelihoodJudge
from selfevo_jax.judges.rating import RatingJudge
from selfevo_jax.judges.server import EndpointSection
from selfevo_jax.judges.settings import EnsembleSection, LikelihoodSection
from selfevo_jax.judges.verdict import VerdictJudge
from selfevo_jax.section import Section, Share
from selfevo_jax.text import FormatSection

GROUP = "selfevo_jax.judges"
BUILT_IN = ("verdict", "rating", "ensemble", "likelihood", "confidence")
Mark = Annotated[float, Field(gt=0.0)]


class JudgeSection(Section):
    """What the loop believes of an answer: feedback of the model's own, as a turn of the chain."""

    kind: str = "verdict"
    """`verdict`, `rating`, `ensemble` (several texts of feedback), `likelihood` (the probability of the good verdict),
    `confidence` (a verdict, and how sure the model was of its feedback), one of an installed package (entry points
    `selfevo_jax.judges`), or `module:name`."""
    good_rating: Mark = RatingJudge.good_rating
    """With `rating`: the least rating that lets a row through."""
    scale: Mark = RatingJudge.scale
    """With `rating`: the top mark."""
    good_score: Share | None = None
    """With `likelihood`, `confidence`, and with an ensemble of verdicts: the least score, from 0 to 1, that lets a row
    through. None: more than half."""
    top_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Let this share of a round's rows through, those with the best scores, in place of all good ones: of the rows
    whose chosen answer has a score, and at least one. Equal scores at the edge are drawn by the seed. Within a chain,
    before all scores are known, `good_rating` or `good_score` still says which answer is refined no further."""
    ensemble: EnsembleSection = EnsembleSection()
    likelihood: LikelihoodSection = LikelihoodSection()
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Of a judge from outside the package."""
    batch: BatchSection | None = None
    """A judge of finished chains, in place of the feedback, for what is kept. None: the feedback decides."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        if kind in KINDS:
            raise ValueError(f"{kind} judges finished chains, in a phase of its own; name it in judge.batch.kind")
        plugins.check_name(GROUP, kind, BUILT_IN)
        return kind

    @model_validator(mode="after")
    def _fits_the_kind(self) -> JudgeSection:
        for name, section in (("ensemble", self.ensemble), ("likelihood", self.likelihood)):
            usual = type(section)()
            others = [key for key, value in section if value != getattr(usual, key)]
            if self.kind != name and others:
                keys = ", ".join(f"judge.{name}.{key}" for key in others)
                raise ValueError(f"{keys}: of {name}, but judge.kind is {self.kind}; set judge.kind: {name}")
        rated = self.reads == "rating" or (self.batch is not None and self.batch.form == "rating")
        marks = {"good_rating": RatingJudge.good_rating, "scale": RatingJudge.scale}
        if not rated and (key := next((key for key, usual in marks.items() if getattr(self, key) != usual), None)):
            raise ValueError(f"judge.{key}: found {getattr(self, key):g}, but {self.kind} gives no marks; leave it out")
        votes = self.kind == "ensemble" and self.ensemble.member == "verdict"
        scored = votes or self.kind in ("likelihood", "confidence")
        if self.good_score is not None and not scored:
            raise ValueError(f"judge.good_score: found {self.good_score:g}, but {self.kind} gives no score from 0 to 1")
        if self.top_share is not None and not self.scores:
            raise ValueError(
                "judge.top_share: a verdict is no score to rank by; use confidence, likelihood, rating or an ensemble"
            )
        return self

    @property
    def reads(self) -> str:
        """What one text of feedback ends in: `verdict` or `rating`; of a judge from outside its name."""
        verdicts = dict.fromkeys(("likelihood", "confidence"), "verdict")
        return {"ensemble": self.ensemble.member, **verdicts}.get(self.kind, self.kind)

    @property
    def scores(self) -> bool:
        """Whether it gives scores that rows can be ranked by, as far as the config tells."""
        return self.kind != "verdict" if self.batch is None else self.batch.scores

    @property
    def pairwise(self) -> bool:
        """Whether a refinement is held against its own response, so that nothing is said of a response by itself."""
        return self.batch is not None and self.batch.kind == "pairwise"

    @property
    def server(self) -> EndpointSection | None:
        """The server that is asked about finished chains."""
        return None if self.batch is None else self.batch.endpoint

    @property
    def weighed(self) -> int:
        """Words whose probability is asked for behind each text of feedback, of our kinds."""
        return 2 if self.kind == "likelihood" else 0

    @property
    def texts(self) -> int:
        """Texts of feedback on one answer, of our kinds."""
        return len(self.ensemble.texts) if self.kind == "ensemble" else 1


def open_judge(section: JudgeSection) -> ChainJudge:
    """Raises ConfigError for settings that cannot be."""
    if section.kind in BUILT_IN and section.settings:
        raise ConfigError(f"judge.settings: {section.kind} has none here; its keys are those of judge itself")
    if section.kind == "likelihood":
        of = section.likelihood
        return LikelihoodJudge(of.lead, of.good, of.bad, section.good_score, of.least_mass)
    if section.kind == "confidence":
        return ConfidenceJudge(least=section.good_score)
    if section.kind in BUILT_IN:
        rated = section.reads == "rating"
        member = _reader(section, rated)
        return member if section.kind == section.reads else _ensemble(section, member, rated)
    judge: ChainJudge = plugins.made(GROUP, section.kind, "judge.kind", BUILT_IN, ChainJudge, **section.settings)
    return judge


def format_for(judge: ChainJudge, format: FormatSection) -> FormatSection:
    """The format with all its texts: in a chat without a text of its own the judge says what asks for feedback."""
    own = format.kind == "chat" and format.judge is None
    return (format.model_copy(update={"judge": judge.instruction}) if own else format).filled()


def _reader(section: JudgeSection, rated: bool) -> ChainJudge:
    return RatingJudge(section.good_rating, section.scale) if rated else VerdictJudge()


def _ensemble(section: JudgeSection, member: ChainJudge, rated: bool) -> ChainJudge:
    of = section.ensemble
    least = section.good_rating if rated else section.good_score
    least_read = of.least_read or len(of.texts) // 2 + 1
    return EnsembleJudge(member, of.texts, of.join, of.weight, least, least_read)


def open_batch(section: JudgeSection) -> BatchJudge | None:
    """The judge of finished chains; None where their own feedback decides. Raises ConfigError for settings that cannot
    be."""
    of = section.batch
    if of is None:
        return None
    if of.kind == "endpoint" and of.endpoint is not None:
        reader = _reader(section, of.form == "rating")
        return EndpointJudge(of.endpoint, reader, question_of(of.instruction, of.form, section.scale))
    if of.kind == "pairwise":
        return PairwiseJudge(of.endpoint, of.ties == "keep", of.brief)
    if of.kind == "scorer":
        return ScorerJudge()
    key = "judge.batch.kind"
    judge: BatchJudge = plugins.made(BATCH_GROUP, of.kind, key, tuple(KINDS), BatchJudge, **of.settings)
    return judge
