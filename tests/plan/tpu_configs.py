"""The configs of real models on the topologies that they name; prints what is planned of them as JSON.

`python tpu_configs.py NAME=TOPOLOGY ...`, in a process of its own. Everything is laid out and the training steps are
lowered; compiled is that of those that are given as NAME=TOPOLOGY=compile (minutes for a large model).
"""

import json
import sys
from pathlib import Path

from selfevo_jax.plan.chips import prepare_compiler

CONFIGS = Path(__file__).parents[2] / "configs"


def planned(name, topology, compiled=""):
    from selfevo_jax.config import load_config
    from selfevo_jax.plan.compiled import compile_program
    from selfevo_jax.plan.lengths import Lengths
    from selfevo_jax.plan.planner import open_setting
    from selfevo_jax.plan.programs import open_sampler, sampler_programs, train_programs

    config = load_config(CONFIGS / f"{name}.yaml")
    setting = open_setting(config, topology)
    rates = setting.topology.rates
    sampler = open_sampler(config, setting.model, setting.mesh, rates.hbm)
    training = train_programs(config, setting.model, setting.mesh)
    sampling = sampler_programs(sampler, setting.model, Lengths.of(config))
    found = {
        "hbm": rates.hbm,
        "slots": sampler.slots.slots,
        "least": {p.name: p.parameters + p.optimizer + p.gradients + p.cache + p.held for p in (*training, *sampling)},
    }
    if compiled:
        step = compile_program(training[-1], rates, setting.topology.slices)
        found["fits"] = step.fits
        if step.totals is not None:
            found |= {"flops": step.totals.flops, "kernel_flops": step.totals.kernel_flops}
            found["program"] = step.memory.total
    return found


if __name__ == "__main__":
    prepare_compiler()
    print(json.dumps({given.split("=")[0]: planned(*given.split("=")) for given in sys.argv[1:]}))
