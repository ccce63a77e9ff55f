"""Tiny programs through the real TPU compiler, with no TPU; prints what was counted in them as JSON.

Run in a process of its own: the TPU compiler reads its settings when it starts.
"""

import json

from selfevo_jax.plan.chips import find_topology, prepare_compiler

LAYERS, ROWS, WIDTH = 5, 1024, 512


def account_of(compiled, mesh, slices=1):
    from selfevo_jax.plan.accounting import account
    from selfevo_jax.plan.groups import MeshAxes
    from selfevo_jax.plan.hlo import parse

    found = account(parse(compiled.as_text()), MeshAxes(dict(mesh.shape)).within_slice(slices))
    return {
        "flops": found.flops,
        "hbm_bytes": found.hbm_bytes,
        "sent": found.sent_by_axes(),
        "dcn_bytes": found.dcn_bytes,
        "gradient_reduction": found.gradient_reduction(),
        "caveats": sorted(found.caveats),
    }


def sharded_layers():
    """Value and gradient of matrices in a scan, each sharded over fsdp, and the rows over it too."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from selfevo_jax.sharding import make_mesh

    mesh = make_mesh(1, 4, 1, devices=find_topology("v5e:2x2").devices)

    def loss(w, x):
        return jax.lax.scan(lambda c, one: (jnp.tanh(c @ one), None), x, w)[0].sum()

    def lies(*axes):
        return NamedSharding(mesh, PartitionSpec(*axes))

    w = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.bfloat16, sharding=lies(None, "fsdp"))
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.bfloat16, sharding=lies("fsdp"))
    program = jax.jit(jax.value_and_grad(loss), out_shardings=(lies(), lies(None, "fsdp")))
    return account_of(program.lower(w, x).compile(), mesh)


def one_product():
    """A product too large for VMEM: each of its matrices crosses the border of HBM once at least."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from selfevo_jax.sharding import make_mesh

    mesh = make_mesh(1, 1, 1, devices=find_topology("v5e:1x1").devices)
    big = jax.ShapeDtypeStruct((16384, 16384), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec()))
    return account_of(jax.jit(jnp.matmul).lower(big, big).compile(), mesh)


def two_slices():
    """A sum over two slices goes over the data-centre network."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from selfevo_jax.sharding import make_mesh

    topology = find_topology("v5e:2x2*2")
    mesh = make_mesh(1, 4, 1, devices=topology.devices)
    x = jax.ShapeDtypeStruct(
        (8, 1024, 128), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(("slice", "fsdp")))
    )
    out = NamedSharding(mesh, PartitionSpec())
    found = account_of(jax.jit(lambda x: x.sum(0), out_shardings=out).lower(x).compile(), mesh, topology.slices)
    return found | {"chips": topology.chips, "devices": len(topology.devices)}


def too_large():
    """A program that needs more than a chip has is refused, with the figures."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec
    from plan_helpers import program

    from selfevo_jax.plan.compiled import compile_program
    from selfevo_jax.sharding import make_mesh

    topology = find_topology("v5e:1x1")
    mesh = make_mesh(1, 1, 1, devices=topology.devices)
    x = jax.ShapeDtypeStruct((40000, 40000), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec()))
    huge = program(mesh=mesh, lower=lambda: jax.jit(lambda x, y: (x @ y, x + 1)).lower(x, x))
    found = compile_program(huge, topology.rates)
    return {"fits": found.fits, "needed": found.refusal.needed, "over": found.refusal.over, "why": found.refusal.why}


def faults():
    """Messages of plans that cannot be."""
    from plan_helpers import tiny_config
    from rich.console import Console

    from selfevo_jax.errors import SelfevoError
    from selfevo_jax.plan.command import run

    def message(topology="v5e:2x2", only=(), options=(), **changes):
        try:
            run(tiny_config(**changes), [topology], Console(quiet=True), only, options=options)
        except SelfevoError as error:
            return str(error)
        return "nothing was refused"

    return {
        "shape": message("v5e:3x3"),
        "mesh": message(mesh={"fsdp": 3}),
        "part of the mesh": message(mesh={"data": 1, "fsdp": 2}),
        "kind": message(only=["sample"]),
        "option": message(options=["fast=1"]),
        "model": message(model={"source": "preset:gpt"}),
        "rows": message(learn={"batch_rows": 6}, meta={"batch_rows": 6}),
    }


def sixteen_chips():
    """The training step of the tiny config on more chips than the other tests plan for."""
    from plan_helpers import tiny_config

    from selfevo_jax.plan.planner import open_setting, plan
    from selfevo_jax.plan.report import plan_dict

    options = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}  # products in one piece compile faster
    return plan_dict(plan(open_setting(tiny_config(), "v5e:4x4"), ["train"], options=options))["programs"]["train"]


CASES = (sharded_layers, one_product, two_slices, too_large, faults, sixteen_chips)

if __name__ == "__main__":
    prepare_compiler()
    print(json.dumps({case.__name__: case() for case in CASES}))
