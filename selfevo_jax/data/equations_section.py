"""The settings of D_meta that is made of word problems with equations."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from selfevo_jax.section import Positive, RowsSection, Share


class EquationsSection(RowsSection):
    """Word problems with equations: the base answers them, and a program holds its answers against what the equation
    gives."""

    in_words = "a file, or a section such as {source: builtin:svamp/meta, responses: 4}"
    read_by: ClassVar = dict.fromkeys(("right_share", "near_share", "most_characters"), ("D_meta",))

    responses: Positive = 4
    """Of the base to each problem."""
    response_temperature: Annotated[float, Field(ge=0.0)] = 0.7
    """Of these responses."""
    right_share: Share = 0.45
    """Of rows whose response is right. Where the answers give fewer of one sort, fewer are taken of all."""
    near_share: Share = 0.2
    """Of rows whose response is one that a program made nearly right: a step left out, another operation, a slip."""
    most_characters: Positive = 80
    """Longer responses are left out."""
