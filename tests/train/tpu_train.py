"""Compiles a training step for a TPU topology, with no TPU, and prints what the compiler made of it as JSON.

Run as `python tpu_train.py v5e:2x2`, in a process of its own: the TPU compiler reads its settings when it starts.
"""

import collections
import json
import os
import re
import sys

SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def main(topology):
    from jax.experimental import topologies

    from selfevo_jax.model import ModelConfig
    from selfevo_jax.sharding import make_mesh
    from selfevo_jax.train import TrainConfig, lower_train_step

    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(1, -1, 1, devices=devices)
    config = ModelConfig(512, 256, 2, 4, 2, 128, 512, max_position=2048)
    settings = TrainConfig(batch_rows=4, length=1024, compute_dtype="bfloat16", remat=sys.argv[2])
    lowered, _ = lower_train_step(config, settings, mesh)
    compiled = lowered.compile()
    hlo = compiled.as_text()
    kinds = r" (all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
    return {
        "device": devices[0].device_kind,
        "kernels": sorted(set(re.findall(r'custom_call_target="tpu_custom_call".*?kernel_name="?(\w+)', hlo)))
        or sorted(set(re.findall(r"%(splash_\w+?)(?:\.\d+)? = ", hlo))),
        "collectives": collections.Counter(re.findall(kinds, hlo)),
        "on_host": "S(5)" in hlo,
        "temporaries": compiled.memory_analysis().temp_size_in_bytes,
    }


if __name__ == "__main__":
    os.environ.update(SETTINGS)
    print(json.dumps(main(sys.argv[1])))
