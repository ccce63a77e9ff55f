"""Which task a config names."""

from __future__ import annotations

from selfevo_jax import plugins
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.tasks.base import Cut, Task
from selfevo_jax.tasks.files import Files
from selfevo_jax.tasks.instructions.task import Instructions
from selfevo_jax.tasks.stories.task import Stories

GROUP, KEY = "selfevo_jax.tasks", "data.task"


def open_task(config: Config) -> Task:
    """Reads and checks every row of the config. Raises DataError naming file, line and field of a bad one, ConfigError
    where there is no such task."""
    name = config.data.task
    if name is None:
        if config.data.settings:
            raise ConfigError("data.settings: those of a task from outside the package, but data.task names none")
        return _built_in(config)(config)
    task: Task = plugins.made(GROUP, name, KEY, (), Task, config)
    return task


def cut_of(config: Config) -> Cut | None:
    """See `Task.cut_for`."""
    if config.data.task is not None:
        cut: Cut | None = plugins.load(GROUP, config.data.task, KEY).cut_for(config)
        return cut
    return _built_in(config).cut_for(config)


def _built_in(config: Config) -> type[Stories] | type[Instructions] | type[Files]:
    if config.data.stories is not None:
        return Stories
    return Instructions if config.data.instructions is not None else Files
