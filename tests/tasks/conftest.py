"""Base instructions, and what prompts of every kind are made of."""

import pytest
from instruction_helpers import EVERY

from selfevo_jax.data import read_prompts
from selfevo_jax.data.instructions_section import InstructionsSection
from selfevo_jax.tasks.instructions import split


@pytest.fixture(scope="module")
def base():
    return read_prompts("builtin:instructions/base")


@pytest.fixture(scope="module")
def part(base):
    return split(base, InstructionsSection(kinds=EVERY)).prompts
