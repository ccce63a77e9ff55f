"""The configs of real models on the topologies that they name; prints what is planned of them as JSON.

`python tpu_configs.py NAME=TOPOLOGY ... small=TOPOLOGY`, in a process of its own. All is laid out and the training
steps are lowered; that of a small model with the first config's settings is compiled (a large one takes minutes).
"""

import json
import sys
from pathlib import Path

from selfevo_jax.plan.chips import prepare_compiler

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {
    "vocab_size": 1024,
    "d_model": 256,
    "n_layers": 4,
    "n_heads": 2,
    "n_kv_heads": 2,
    "head_dim": 128,
    "d_ff": 768,
}
ROWS, LENGTH = 8, 512


def kept(c, settings, devices):
    """Bytes that a device keeps of the forward pass at least, for the backward one."""
    attended = 2 * c.n_heads * c.head_dim + 2 * c.n_kv_heads * c.head_dim
    widths = {"full": c.d_model, "minimal": 2 * c.d_model + attended + 2 * c.d_ff}
    rows = settings.batch_rows // settings.accumulate // devices
    return 2 * c.n_layers * rows * settings.length * widths[settings.remat]


def planned(name, topology):
    from selfevo_jax.config import load_config
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
    return found


def compiled(topology):
    from selfevo_jax.config import load_config
    from selfevo_jax.model import ModelConfig
    from selfevo_jax.plan.compiled import compile_program
    from selfevo_jax.plan.planner import open_setting
    from selfevo_jax.plan.programs import train_programs

    config = load_config(CONFIGS / "vicuna_7b_v5e_16.yaml", [f"learn.batch_rows={ROWS}", f"learn.length={LENGTH}"])
    setting = open_setting(config, topology)
    program = train_programs(config, ModelConfig(**SMALL, max_position=LENGTH), setting.mesh)[-1]
    step = compile_program(program, setting.topology.rates, setting.topology.slices)
    totals = {} if step.totals is None else {"flops": step.totals.flops, "kernel_flops": step.totals.kernel_flops}
    return {"fits": step.fits, **totals}


if __name__ == "__main__":
    prepare_compiler()
    given = [argument.split("=") for argument in sys.argv[1:]]
    print(json.dumps({name: compiled(where) if name == "small" else planned(name, where) for name, where in given}))
