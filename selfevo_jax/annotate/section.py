"""The settings of an annotation: flags of the command, or a YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from selfevo_jax.annotate.aspects import ASPECTS, SCALE
from selfevo_jax.annotate.cost import Price
from selfevo_jax.config.forms import in_words, section_at
from selfevo_jax.config.secrets import refuse_secrets
from selfevo_jax.errors import ConfigError, shown
from selfevo_jax.judges import ChainJudge, EndpointSection, RatingJudge, VerdictJudge
from selfevo_jax.section import Positive, Section
from selfevo_jax.text import VerdictRule

Amount = Annotated[float, Field(ge=0.0)]


class PriceSection(Section):
    """What a million tokens cost, in any currency."""

    read: Amount
    """Tokens of prompts."""
    written: Amount
    """Tokens of answers."""

    def price(self) -> Price:
        return Price(self.read, self.written)


class ResponsesSection(Section):
    """Who gives the responses that feedback is written about. Nothing set: the rows have them."""

    base: str | None = None
    """A model that is sampled here: what `selfevo generate` takes (a model source, RUN, RUN@ROUND, or a config, which
    says by its format and `sampling` how it is asked)."""
    model: str | None = None
    """The name of a model that is asked at a server."""
    url: str | None = None
    """That server; None: the annotator's."""
    number: Positive = 1
    """Responses to each prompt."""
    temperature: Amount | None = None
    """None: that of the base's `sampling.respond`; at a server 0.8."""
    max_tokens: Positive | None = None
    """None: that of the base's `sampling.respond`; at a server 512."""
    price: PriceSection | None = None
    """Of the model at a server."""

    @property
    def given(self) -> bool:
        return self.base is None and self.model is None

    @model_validator(mode="after")
    def _from_one_place(self) -> ResponsesSection:
        if self.base is not None and self.model is not None:
            raise ValueError("responses by a base and by a model at a server; name one of the two")
        if self.url is not None and self.model is None:
            raise ValueError("responses.url: a server without a model; name it in responses.model")
        if self.given and (self.number > 1 or self.temperature is not None or self.max_tokens is not None):
            raise ValueError(
                "responses: the rows have them, so number, temperature and max_tokens say nothing; name who answers in "
                "responses.base or responses.model"
            )
        return self


class TemplatesSection(Section):
    """Questions in your own words; None takes the default. Each holds its parts once."""

    system: str | None = None
    """Of the questions for feedback and for a refinement."""
    feedback: str | None = None
    """Around {prompt}, {response} and, with `reference`, {reference}. It asks for feedback in the form that `steps`,
    `form` and `aspects` read."""
    refine: str | None = None
    """Around {prompt}, {response}, {feedback} and, with `reference`, {reference}."""
    answer: str | None = None
    """Around {prompt}: what asks for an answer, of D_QA and of a model at a server."""


class AnnotateSection(Section):
    """A whole annotation."""

    endpoint: EndpointSection
    """The annotator."""
    kind: Literal["meta", "qa"] = "meta"
    """`meta`: rows of D_meta. `qa`: rows of D_QA, the annotator's own answers."""
    form: Literal["verdict", "rating"] | None = None
    """What feedback ends in. None: a verdict, and with `aspects` a rating."""
    aspects: tuple[str, ...] = ()
    """A mark for each of these aspects of UltraFeedback; the rating is their mean, up to 5."""
    steps: bool | None = None
    """Feedback goes through the response's own steps, a line for each. None: with a verdict."""
    good_rating: Annotated[float, Field(gt=0.0)] | None = None
    """With a rating: the least one that is good, as `judge.good_rating` of the runs. None: the top mark."""
    reference: bool = False
    """Show the annotator the rows' `answer`, as one that the student does not know."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name of a column -> the file's: `{prompt: problem, response: output, answer: target}`."""
    limit: Positive | None = None
    """Rows at most."""
    price: PriceSection | None = None
    """Of the annotator. None: what it costs is not known."""
    max_cost: Annotated[float, Field(gt=0.0)] | None = None
    """Nothing is asked that could take the cost of the whole annotation past it."""
    responses: ResponsesSection = ResponsesSection()
    templates: TemplatesSection = TemplatesSection()

    @field_validator("aspects", mode="before")
    @classmethod
    def _are_known(cls, value: Any) -> Any:
        """`all`, a text with commas, or a list."""
        names = list(ASPECTS) if value == "all" else value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple):
            raise ValueError(f"found {shown(value)}, expected all, or some of {', '.join(ASPECTS)}")
        names = [name.strip() if isinstance(name, str) else name for name in names]
        if unknown := [name for name in names if name not in ASPECTS]:
            raise ValueError(f"found {shown(unknown[0])}, expected all, or some of {', '.join(ASPECTS)}")
        if len(set(names)) < len(names):
            raise ValueError("an aspect is named twice; name each once")
        return names

    @model_validator(mode="after")
    def _fit_each_other(self) -> AnnotateSection:
        if self.aspects and self.form == "verdict":
            raise ValueError("form: verdict beside aspects, which give a rating; leave one of the two out")
        if self.aspects and self.steps:
            raise ValueError("steps beside aspects: feedback goes by the one or by the other; leave one of the two out")
        if self.good_rating is not None and not self.rated:
            raise ValueError("good_rating: a verdict is no rating; set form: rating, or leave it out")
        if self.good_rating is not None and self.good_rating > self.scale:
            raise ValueError(f"good_rating: found {self.good_rating:g}, expected {self.scale:g} at most")
        if self.max_cost is not None and self.price is None:
            raise ValueError("max_cost: what tokens cost is not known; give the price of a million read and written")
        if self.max_cost is not None and self.responses.model is not None and self.responses.price is None:
            raise ValueError(f"max_cost: what {self.responses.model} costs is not known; give responses.price")
        if self.kind == "qa":
            of_meta = ("form", "aspects", "steps", "good_rating", "reference")
            usual = type(self).model_fields
            if set_ := [key for key in of_meta if getattr(self, key) != usual[key].default]:
                raise ValueError(f"{set_[0]}: of D_meta, but kind is qa; leave it out")
            if self.responses != ResponsesSection():
                raise ValueError("responses: of D_meta, but kind is qa, whose answers are the annotator's")
        return self

    def unread(self) -> Iterator[str]:
        """A line for each key that is set and that nothing reads."""
        asks = self.templates
        given = {"templates.system": asks.system, "templates.feedback": asks.feedback, "templates.refine": asks.refine}
        reasons = {key: "kind is qa" for key, text in given.items() if self.kind == "qa" and text is not None}
        if self.kind == "meta" and self.responses.model is None:
            others = {"templates.answer": asks.answer, "responses.price": self.responses.price}
            reasons |= {key: "no model at a server gives the responses" for key, of in others.items() if of is not None}
        for key, why in reasons.items():
            yield f"{key}: is set, but {why}, so that nothing reads it; leave it out"

    @property
    def rated(self) -> bool:
        return self.form == "rating" or bool(self.aspects)

    @property
    def stepwise(self) -> bool:
        return not self.rated if self.steps is None else self.steps

    @property
    def scale(self) -> float:
        """The top mark."""
        return SCALE if self.aspects else VerdictRule.scale

    @property
    def judge(self) -> ChainJudge:
        """Reads the feedback, as a run will."""
        return RatingJudge(self.good_rating or self.scale, self.scale) if self.rated else VerdictJudge()


def annotation(tree: Mapping[str, Any], origin: str) -> AnnotateSection:
    """The settings, checked. Raises ConfigError naming `origin` and every faulty key."""
    try:
        refuse_secrets(dict(tree))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    try:
        return AnnotateSection.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(f"{origin}: {_said(fault, tree)}" for fault in error.errors(include_url=False))
        ) from error


def _said(fault: Any, tree: Any) -> str:
    location = fault["loc"]
    key = ".".join(map(str, location))
    where = f"{key}: " if key else ""
    if fault["type"] == "value_error":
        return f"{where}{fault['ctx']['error']}"
    if fault["type"] == "missing":
        return f"{where}missing"
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'; `selfevo keys annotate` lists all"
    return f"{where}found {shown(fault['input'])}, expected {_expected(location, tree)}"


def _expected(location: Sequence[str | int], tree: Any) -> str:
    """The form of the key that a fault lies in."""
    for size in range(len(location), 0, -1):
        section = section_at(tuple(location[: size - 1]), tree, AnnotateSection)
        field = None if section is None else section.model_fields.get(str(location[size - 1]))
        if field is not None:
            return in_words(field)
    return "settings such as endpoint: {url: ..., model: NAME}"
