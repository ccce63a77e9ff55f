"""How a run samples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from selfevo_jax.sample.params import SamplingParams
from selfevo_jax.section import Count, Positive, Section, Share

MOST_DRAFTS = 16
"""Of a slot in one step."""


class StageSection(Section):
    """How the texts of a stage are drawn."""

    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0 is greedy."""
    top_k: Count = SamplingParams.top_k
    """0 is off."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = SamplingParams.top_p
    """Draw from the fewest tokens that have this probability together; 1 is off."""
    min_p: Share = SamplingParams.min_p
    """Leave out tokens less probable than this share of the most probable one; 0 is off."""
    max_new_tokens: Positive = SamplingParams.max_new_tokens
    """Longer texts are cut, and counted as clipped."""


class RespondSection(StageSection):
    """How responses are drawn."""

    temperature: Annotated[float, Field(ge=0.0)] = 0.8


class FeedbackSection(StageSection):
    """How feedback is drawn."""

    temperature: Annotated[float, Field(ge=0.0)] = 0.7


class WriteSection(StageSection):
    """How the texts are drawn in which the model writes prompts."""

    temperature: Annotated[float, Field(ge=0.0)] = 0.7


class SamplingSection(Section):
    """How texts are sampled: side by side, how long, and in which precision."""

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
    speculate: Literal["auto", "off"] | Annotated[int, Field(ge=1, le=MOST_DRAFTS)] = "auto"
    """Drafts of the next tokens that a decode step checks for each slot, looked up in the slot's own text: a refinement
    copies most of the response. In float32 texts are the same with and without. auto: a few, where they save time, by
    how many are accepted and in float32 by the measured time of steps; none on a CPU, whose steps are bound by
    arithmetic."""
    respond: RespondSection = RespondSection()
    feedback: FeedbackSection = FeedbackSection()
    refine: StageSection = StageSection()
    write: WriteSection = WriteSection()
    """Of the texts in which the model writes prompts (`data.self_written`)."""

    @field_validator("speculate", mode="before")
    @classmethod
    def _one_of(cls, value: Any) -> Any:
        """One fault for all of its kinds; what YAML 1.1 takes for no is the word."""
        value = "off" if value is False else value
        if value in ("auto", "off") or (type(value) is int and 1 <= value <= MOST_DRAFTS):
            return value
        raise PydanticCustomError("kind", "another kind of value")
