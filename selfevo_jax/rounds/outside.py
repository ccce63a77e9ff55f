"""Code from outside the package that a run is made by: what it was when the run last went on.

Scorers of evaluation sets are held to what they were, as the data are. Other parts may be mended while a run stands
still, so that a change of them is told and not refused; it is in no fingerprint.
"""

from __future__ import annotations

import shlex

from selfevo_jax import hosts, plugins
from selfevo_jax.config import Config
from selfevo_jax.judges.batch import BATCH_GROUP, KINDS
from selfevo_jax.judges.section import BUILT_IN as JUDGES
from selfevo_jax.judges.section import GROUP as JUDGE_GROUP
from selfevo_jax.methods import registry as methods
from selfevo_jax.progress import Reporter
from selfevo_jax.run.run_dir import RunDir
from selfevo_jax.tasks import registry as tasks
from selfevo_jax.train.objectives import section as objectives


def outside_code(config: Config) -> dict[str, str]:
    """Key -> checksum of the file of the module that it names, where that is none of ours. Raises ConfigError for one
    that cannot be imported."""
    batch = config.judge.batch
    named = {
        "method.name": (methods.GROUP, config.method.name, methods.BUILT_IN),
        "judge.kind": (JUDGE_GROUP, config.judge.kind, JUDGES),
        "judge.batch.kind": (BATCH_GROUP, None if batch is None else batch.kind, KINDS),
        "data.task": (tasks.GROUP, config.data.task, ()),
        **{
            f"{name}.objective.name": (objectives.GROUP, section.objective.name, objectives.BUILT_IN)
            for name, section in config.trained.items()
        },
    }
    return {
        key: plugins.checksum(plugins.path_of(group, name), key)
        for key, (group, name, ours) in named.items()
        if name is not None and name not in ours
    }


def tell_code(dir: RunDir, config: Config, reporter: Reporter) -> None:
    """Warns of each key whose code is not what it was when an open run last went on, and notes what it is now."""
    found = hosts.agree("reading code from outside", lambda: outside_code(config))
    known: dict[str, str] = dir.load(dir.code_file) or {}
    for key in found:
        if found[key] != known.get(key, found[key]):
            reporter.warn(
                f"{key}: the file of its code is not what it was when this run last went on; what is made now is made "
                "by it, and stands beside what was made before. For a run of one code fork from an earlier point: "
                f"selfevo fork {shlex.quote(str(dir.root))} NEW --from POINT"
            )
    if found != known:
        dir.write_json(dir.code_file, found)
