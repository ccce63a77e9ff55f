"""Studies: named variants of one config, over seeds, as runs that share their phases, and one table."""

from selfevo_jax.study.conduct import conduct
from selfevo_jax.study.spec import Study, StudyRun, read_study

__all__ = ["Study", "StudyRun", "conduct", "read_study"]
