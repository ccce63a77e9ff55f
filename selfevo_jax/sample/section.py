"""How a run samples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfevo_jax.sample.params import SamplingParams
from selfevo_jax.section import Count, Positive, Section, Share


class StageSection(Section):
    """How the texts of a stage are drawn."""

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
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

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.8


class FeedbackSection(StageSection):
    """How feedback is drawn."""

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.7


class WriteSection(StageSection):
    """How the texts are drawn in which the model writes prompts."""

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.7


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
    respond: RespondSection = RespondSection()
    feedback: FeedbackSection = FeedbackSection()
    refine: StageSection = StageSection()
    write: WriteSection = WriteSection()
    """Of the texts in which the model writes prompts (`data.self_written`)."""
