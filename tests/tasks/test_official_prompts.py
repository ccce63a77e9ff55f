"""IFEval's prompts are a test set: none of their words is what the task `instructions` trains on."""

import re

from selfevo_jax.data import read_prompts
from selfevo_jax.tasks.instructions.wordings import BRIEF, WORDINGS


def _pattern(wording: str) -> str:
    """A wording with anything in its slots, and whatever stands behind it."""
    parts = [re.escape(part.lower()) for part in re.split(r"\{[^}]*\}", wording.strip().rstrip("."))]
    return ".{1,60}?".join(parts)


def test_no_wording_of_an_instruction_is_one_of_ifevals() -> None:
    official = "\n".join(row.prompt.lower() for row in read_prompts("builtin:ifeval/prompts"))
    assert re.search(_pattern("Do not use any commas."), official)
    assert re.search(_pattern('Finish your response with the exact phrase of "{phrase}".'), official)
    ours = [wording for kind in (*WORDINGS.values(), BRIEF) for wording in kind]
    assert [wording for wording in ours if re.search(_pattern(wording), official)] == []
