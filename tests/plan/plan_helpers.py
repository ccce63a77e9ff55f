"""Configs and programs that were never compiled, for tests of what is made of the compiler's figures."""

from types import SimpleNamespace

from selfevo_jax.config import parse_config
from selfevo_jax.plan.accounting import Totals
from selfevo_jax.plan.chips import Rates
from selfevo_jax.plan.compiled import Compiled
from selfevo_jax.plan.programs import Program
from selfevo_jax.plan.roofline import Roofline

RATES = Rates(flops=100e12, hbm=16e9, hbm_bytes=1e12, ici_bytes=100e9, dcn_bytes=5e9)

TINY = {
    "run_dir": "runs/tiny",
    "model": {"source": "preset:tiny"},
    "mesh": {"data": 1, "fsdp": -1},
    "data": {"prompts": "prompts.jsonl", "meta_skill": "meta.jsonl", "prompts_per_round": 64},
    "sampling": {
        "slots": 16,
        "cache_length": 256,
        "dtype": "bfloat16",
        "respond": {"max_new_tokens": 40},
        "feedback": {"max_new_tokens": 30},
        "refine": {"max_new_tokens": 20},
    },
    "meta": {"steps": 30, "batch_rows": 16, "length": 64, "compute_dtype": "bfloat16"},
    "learn": {"steps": 50, "batch_rows": 16, "length": 64, "compute_dtype": "bfloat16"},
    "rounds": {"number": 3, "controls": 0},
}


def tiny_config(**changes):
    return parse_config(TINY | changes)


def program(name="train", kind="train", rows=16, length=64, **changes):
    fields = {
        "shape": "",
        "lower": lambda: None,
        "mesh": SimpleNamespace(shape={"data": 1, "fsdp": 1, "tensor": 1}),
        "parameters": 10,
        "optimizer": 20,
        "cache": 0,
        "gradients": 10,
        "held": 0,
        "model_flops": 1e12,
        "kernel_cost": lambda _: None,
    }
    return Program(name=name, kind=kind, rows=rows, length=length, **fields | changes)


def compiled(seconds=1.0, **changes):
    """A program whose one execution computes for so many seconds."""
    totals = Totals(flops=seconds * RATES.flops)
    return Compiled(program(**changes), 0.0, totals=totals, roofline=Roofline.of(totals, RATES))


def stats(**sizes):
    """What `memory_analysis()` answers."""
    names = [
        f"{host}{part}_size_in_bytes" for host in ("", "host_") for part in ("argument", "output", "alias", "temp")
    ]
    return SimpleNamespace(**dict.fromkeys(names, 0) | {f"{name}_size_in_bytes": n for name, n in sizes.items()})
