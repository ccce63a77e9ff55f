"""Compiles the engine's programs for TPU topologies, with no TPU, and prints what the compiler made of them as JSON.

Run as `python tpu_compile.py v5e:2x2=1x2x2=128 ...` (topology, mesh, head_dim), in a process of its own: the TPU
compiler reads its settings when it starts. A mesh `1x64x1/2` is that of a training whose sampling has a `tensor` of 2.
"""

import json
import re
import sys

from selfevo_jax.plan.chips import find_topology, prepare_compiler

ITEM_BYTES = {"bf16": 2, "f32": 4, "s32": 4, "u32": 4, "pred": 1}
ARRAY = re.compile(r"= \(?(\w+)\[([\d,]*)\]\S* ([\w-]+)\(")


def loop_bodies(hlo):
    """The lines of every computation that is the body of a while loop."""
    names = set(re.findall(r"body=(%[\w.-]+)", hlo))
    inside = False
    for line in hlo.splitlines():
        if line and not line.startswith(" "):
            inside = line.split(" ", 1)[0] in names
        elif inside:
            yield line


def largest(lines, *kinds):
    """Bytes of the largest result of these operations."""
    sizes = [0]
    for line in lines:
        found = ARRAY.search(line)
        if found and found[3].removesuffix("-done") in kinds:
            size = ITEM_BYTES.get(found[1], 8)
            for n in filter(None, found[2].split(",")):
                size *= int(n)
            sizes.append(size)
    return max(sizes)


def facts(compiled):
    hlo = compiled.as_text()
    body = list(loop_bodies(hlo))
    return {
        "kernels": re.findall(r"%([a-z_]+)[\w.]* = [^\n]*custom_call_target=\"tpu_custom_call\"", hlo),
        "temporaries": compiled.memory_analysis().temp_size_in_bytes,
        "copied_in_loop": largest(body, "copy", "transpose"),
        "gathered_in_loop": largest(body, "all-gather"),
    }


def main(topology, mesh_shape, head_dim):
    import jax
    import jax.numpy as jnp
    import numpy as np

    from selfevo_jax.model import ModelConfig
    from selfevo_jax.sample import Engine
    from selfevo_jax.sample.decode import empty_rows
    from selfevo_jax.sharding import laid_out, make_mesh, regroup

    devices = find_topology(topology).devices
    of_training, _, tensor = mesh_shape.partition("/")
    shape = tuple(map(int, of_training.split("x")))
    mesh = make_mesh(*shape, devices=devices[: int(np.prod(shape))], groups=int(tensor or 1))
    mesh = regroup(mesh, int(tensor)) if tensor else mesh
    config = ModelConfig(128, 128, 2, 4, 2, int(head_dim), 256, max_position=8192)
    how = {"mesh": mesh, "dtype": jnp.bfloat16, "stream": lambda _: None, "scan_layers": True}
    engine = Engine(config, None, slots=64, cache_length=4000, **how)

    made = engine._make_state.lower().compile()
    state = laid_out(jax.eval_shape(engine.new_state), made.output_shardings)
    params = engine.weights.shapes
    each = engine.rows_of(8)[-1]
    n_rows = engine.shards * each
    slots = None if engine.is_whole(each, 8) else np.zeros(n_rows, np.int32)
    rows, n = empty_rows(n_rows, 4), np.int32(0)
    window = engine.decode_windows[-1]
    programs = {
        "decode": engine.programs.compiled(
            "decode_many", 0, (params, state, rows, n, n), window=window, capacity=engine.decode_steps
        ),
        "extend": engine.programs.compiled(
            "extend",
            0,
            (params, state, slots, rows, np.zeros((n_rows, 8), np.int32), *[np.zeros(n_rows, np.int32)] * 2),
            window=window,
            at_once=engine.at_once(each, 8),
        ),
    }
    programs["fork"] = engine.programs.compiled("fork", 0, (state, *[np.zeros(n_rows, np.int32)] * 2))
    leaf = state.cache.k[0]
    shard = int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
    matrix = min(np.prod(x.shape[1:]) * 2 for x in jax.tree.leaves(params["layers"]) if len(x.shape) > 2)
    return {
        "device": devices[0].device_kind,
        "windows": engine.decode_windows,
        "cache_layer": shard,
        "scanned": engine.scan_layers,
        "smallest_matrix": int(matrix),
        **{name: facts(program) for name, program in programs.items()},
    }


if __name__ == "__main__":
    prepare_compiler()
    print(json.dumps({given: main(*given.split("=")) for given in sys.argv[1:]}))
