"""How prompts are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from selfevo_jax.section import Section


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
