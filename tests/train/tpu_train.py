"""Compiles training steps for TPU topologies, with no TPU, and prints what the compiler made of them as JSON.

Run as `python tpu_train.py v5e:2x2=full ...`, in a process of its own: the TPU compiler reads its settings when it
starts.
"""

import collections
import json
import re
import sys

from selfevo_jax.plan.chips import find_topology, prepare_compiler


def main(topology, remat):
    import jax

    from selfevo_jax.model import ModelConfig
    from selfevo_jax.sharding import make_mesh
    from selfevo_jax.train import TrainConfig, lower_train_step

    devices = find_topology(topology).devices
    mesh = make_mesh(1, -1, 1, devices=devices)
    config = ModelConfig(256, 128, 2, 2, 1, 128, 256, max_position=2048)
    settings = TrainConfig(batch_rows=8, length=512, compute_dtype="bfloat16", remat=remat)
    lowered, state = lower_train_step(config, settings, mesh)
    compiled = lowered.compile()
    hlo = compiled.as_text()
    shards = [x.sharding.shard_shape(x.shape) for x in jax.tree.leaves(state.params["layers"])]
    forward = "".join(line for line in hlo.splitlines() if " while(" in line and "jvp(forward)/while" in line)
    kinds = r" (all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
    return {
        "device": devices[0].device_kind,
        "kernels": sorted(set(re.findall(r'custom_call_target="tpu_custom_call".*?kernel_name="?(\w+)', hlo)))
        or sorted(set(re.findall(r"%(splash_\w+?)(?:\.\d+)? = ", hlo))),
        "collectives": collections.Counter(re.findall(kinds, hlo)),
        "copies": sum(f"bf16[{','.join(map(str, shape))}]" in forward for shape in shards if len(shape) > 2),
        "on_host": "S(5)" in hlo,
        "temporaries": compiled.memory_analysis().temp_size_in_bytes,
    }


if __name__ == "__main__":
    prepare_compiler()
    print(json.dumps({given: main(*given.split("=")) for given in sys.argv[1:]}))
