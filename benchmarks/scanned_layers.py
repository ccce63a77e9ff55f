"""The sampler's programs with their layers unrolled and scanned, by the TPU compiler: compiled, not run.

    python benchmarks/scanned_layers.py configs/vicuna_7b_v5e_16.yaml v5e:4x4 --slots 96

Of each program the CPU seconds that it takes to lower, compile and read, what one execution reads and writes in HBM,
its time by the roofline and its temporaries (see `selfevo plan`). `--layers` takes the first layers alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

from selfevo_jax.plan.chips import prepare_compiler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("topology")
    parser.add_argument("--slots", type=int, default=None, help="default: as many as fit")
    parser.add_argument("--layers", type=int, default=None, help="default: all")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of the config")
    args = parser.parse_args()
    prepare_compiler()

    from sampling_common import table

    from selfevo_jax.config import load_config
    from selfevo_jax.plan.compiled import compile_program
    from selfevo_jax.plan.lengths import Lengths
    from selfevo_jax.plan.planner import open_setting
    from selfevo_jax.plan.programs import open_sampler, sampler_programs
    from selfevo_jax.sample import make_engine, sampler_memory
    from selfevo_jax.sample.memory import gib

    slots = [] if args.slots is None else [f"sampling.slots={args.slots}"]
    config = load_config(args.config, [*args.overrides, *slots])
    setting = open_setting(config, args.topology)
    model = setting.model if args.layers is None else setting.model.of_layers(args.layers)
    rates, lengths = setting.topology.rates, Lengths.of(config)
    found = open_sampler(config, model, setting.mesh, rates.hbm)
    memory = sampler_memory(config.sampling, model, setting.mesh)
    rows = []
    for scan in (False, True):
        engine = make_engine(
            memory, None, found.slots.slots, config.seed, stream=lambda _: None, scan_layers=scan, extend_lengths=(256,)
        )
        for program in sampler_programs(dataclasses.replace(found, engine=engine), model, lengths):
            begin = time.process_time()
            made = compile_program(program, rates, setting.topology.slices)
            seconds = time.process_time() - begin
            row = [program.name, "scanned" if engine.scan_layers else "unrolled", f"{seconds:.1f}"]
            if made.totals is not None and made.roofline is not None and made.memory is not None:
                row += [f"{made.totals.hbm_bytes / 1e9:.3f}", f"{1e3 * made.roofline.seconds.low:.2f}"]
                row += [f"{1e3 * made.roofline.seconds.high:.2f}", gib(made.memory.parts["temporaries"])]
            rows.append(row)
    names = [
        "program",
        "layers",
        "CPU seconds of compiling",
        "HBM traffic (GB)",
        "ms, hidden",
        "ms, serial",
        "temporaries",
    ]
    print(f"{model.n_layers} layers, {found.slots.slots} slots, {setting.topology.name}")
    table(names, rows)


if __name__ == "__main__":
    main()
