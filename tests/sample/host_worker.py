"""One of the processes of test_hosts: samples on meshes over the devices of all of them, and prints what came out.

Arguments: the coordinator's port, the number of processes, this process's number, the mesh shapes ("2x2x2").
"""

import json
import os
import sys

from quick_compiles import flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = flags(4)

import jax
from sample_helpers import CONFIG, engine, random_params, told

from selfevo_jax.model import init_params, param_shardings
from selfevo_jax.sharding import TRAIN_RULES, make_mesh, reshard


def main(port, n_processes, process_id, *shapes):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", int(n_processes), int(process_id), initialization_timeout=60)
    results = {"devices": [jax.local_device_count(), jax.device_count()]}
    for shape in shapes:
        mesh = make_mesh(*map(int, shape.split("x")))
        e = engine(slots=8, mesh=mesh)
        trained = reshard(random_params(), param_shardings(CONFIG, mesh, TRAIN_RULES))
        fresh = init_params(CONFIG, jax.random.key(3), mesh, TRAIN_RULES)
        results[shape] = {
            "host": told(e, random_params(), 0.0),  # parameters that each host holds
            "trained": told(e, trained, 1.0),  # parameters laid out for training over all hosts
            "fresh": told(e, fresh, 1.0),
        }
    print(json.dumps(results), flush=True)
    jax.distributed.shutdown()


main(*sys.argv[1:])
