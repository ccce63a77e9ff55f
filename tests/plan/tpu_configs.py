"""The configs of real models on the topologies that they name; prints what is planned of them as JSON.

`python tpu_configs.py NAME=TOPOLOGY ...`, in a process of its own. Everything is laid out and the training steps are
lowered; compiled is that of those that are given as NAME=TOPOLOGY=compile (minutes for a large model).
"""

import json
import sys
from pathlib import Path

from selfevo_jax.plan.chips import prepare_compiler

CONFIGS = Path(__file__).parents[2] / "configs"


def kept(c, settings, devices):
    """Bytes that a device keeps of the forward pass at least, for the backward one."""
    attended = 2 * c.n_heads * c.head_dim + 2 * c.n_kv_heads * c.head_dim
    widths = {"full": c.d_model, "minimal": 2 * c.d_model + attended + 2 * c.d_ff}
    rows = settings.batch_rows // settings.accumulate // devices
    return 2 * c.n_layers * rows * settings.length * widths[settings.remat]


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
    states = kept(setting.model, config.learn, setting.mesh.size)
    sampling = sampler_programs(sampler, setting.model, Lengths.of(config))
    found = {
        "hbm": rates.hbm,
        "slots": sampler.slots.slots,
        "least": {
            p.name: p.parameters + p.optimizer + p.gradients + p.cache + p.held + (states if p in training else 0)
            for p in (*training, *sampling)
        },
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
