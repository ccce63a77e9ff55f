"""A plan as tables for people, and as JSON with keys that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from selfevo_jax.plan.chips import Topology
from selfevo_jax.plan.compiled import Compiled
from selfevo_jax.plan.estimate import ASSUMED, Phases, as_dict
from selfevo_jax.plan.planner import NOTE, Plan
from selfevo_jax.plan.roofline import Span
from selfevo_jax.plan.search import Tried
from selfevo_jax.progress import counted, plain
from selfevo_jax.sample.memory import gib
from selfevo_jax.sharding import sizes_of

_PARTS = ("parameters", "optimizer", "gradients", "cache", "batch", "temporaries", "outputs")


# --- JSON


def plan_dict(plan: Plan) -> dict[str, Any]:
    """Plain JSON values; bytes, FLOPs and seconds are numbers, ranges lists of two (communication hidden, serial)."""
    topology = plan.setting.topology
    slots = None if plan.sampler is None else plan.sampler.slots
    return {
        "note": NOTE,
        "topology": topology_dict(topology),
        "mesh": sizes_of(plan.setting.mesh),
        "model": {"source": plan.setting.config.model.source, **plan.setting.model.to_dict()},
        "fits": plan.fits,
        "faults": list(plan.faults),
        "slots": None if slots is None else {"slots": slots.slots, "fit": slots.fits},
        "programs": {p.program.name: program_dict(p, plan) for p in plan.programs},
        "lengths": asdict(plan.lengths),
        "round": as_dict(plan.round()),
    }


def topology_dict(topology: Topology) -> dict[str, Any]:
    rates = topology.rates
    return {
        "name": topology.name,
        "chips": topology.chips,
        "devices": len(topology.devices),
        "slices": topology.slices,
        "peaks_per_device": {
            "flops_per_second": rates.flops,
            "hbm_bytes": rates.hbm,
            "hbm_bytes_per_second": rates.hbm_bytes,
            "ici_bytes_per_second": rates.ici_bytes,
            "dcn_bytes_per_second": rates.dcn_bytes,
            "source": topology.chip.source,
        },
    }


def program_dict(found: Compiled, plan: Plan) -> dict[str, Any]:
    rates, devices = plan.setting.topology.rates, len(plan.setting.topology.devices)
    out = compiled_dict(found)
    if found.totals is not None:
        out["tokens_per_second"] = _both(found.tokens_per_second())
        out["model_flop_utilisation"] = _both(found.mfu(rates, devices))
    out["remedies"] = plan.remedies.get(found.program.name, [])
    return out


def compiled_dict(found: Compiled) -> dict[str, Any]:
    """What holds of a compiled program wherever it stands."""
    program, memory, totals, roofline = found.program, found.memory, found.totals, found.roofline
    out: dict[str, Any] = {
        "note": NOTE,
        "shape": program.shape,
        "fits": found.fits,
        "refusal": None if found.refusal is None else {**vars(found.refusal), "over": found.refusal.over},
        "compile_seconds": round(found.seconds, 2),
        "tokens": program.tokens,
        "model_flops": program.model_flops,
    }
    if memory is not None:
        out["memory_per_device"] = {
            **memory.parts,
            "total": memory.total,
            "held_beside": memory.held,
            "needed": memory.needed,
            "host": memory.host,
        }
    if totals is not None and roofline is not None:
        out["flops_per_device"] = totals.flops
        out["kernel_flops_per_device"] = totals.kernel_flops
        out["hbm_bytes_per_device"] = totals.hbm_bytes
        out["sent_bytes_per_device"] = {
            "by_kind": totals.sent_by_kind(),
            "by_axes": totals.sent_by_axes(),
            "over_dcn": totals.dcn_bytes,
        }
        out["collective_calls"] = totals.calls_by_kind()
        out["gradient_reduction"] = totals.gradient_reduction()
        out["kernels"] = dict(totals.kernels)
        out["without_cost"] = dict(totals.uncosted)
        out["caveats"] = sorted(totals.caveats)
        out["roofline_seconds"] = {
            "compute": roofline.compute,
            "memory": roofline.memory,
            "ici": roofline.ici,
            "dcn": roofline.dcn,
            "bound": roofline.bound,
        }
        out["seconds"] = _both(roofline.seconds)
    return out


def search_dict(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """The candidates in their order, each with its overrides."""
    return [
        {
            "overrides": t.candidate.overrides(),
            "fits": t.fits,
            "fault": t.fault,
            "train": None if t.compiled is None else compiled_dict(t.compiled),
            "tokens_per_second": None if t.compiled is None else _both(t.compiled.tokens_per_second()),
        }
        for t in tried
    ]


def _both(span: Span | None) -> list[float] | None:
    return None if span is None else [span.low, span.high]


# --- tables


def heading(plan: Plan) -> str:
    """Where and what, one line."""
    s, t = plan.setting, plan.setting.topology
    mesh = ", ".join(f"{name} {size}" for name, size in sizes_of(s.mesh).items())
    devices = f" ({len(t.devices)} devices)" if t.per_chip > 1 else ""
    model = s.config.model.source if s.config.model.preset is None else f"the shape of {s.config.model.preset}"
    return f"{t.name}: {model} on {t.chips} chips{devices}, mesh {mesh}. {NOTE.capitalize()}."


def peaks(topology: Topology) -> str:
    """The rates that seconds rest on."""
    r = topology.rates
    per = "chip" if topology.per_chip == 1 else "device"
    dcn = f", {_si(r.dcn_bytes)}B/s of data-centre network" if topology.slices > 1 else ""
    return (
        f"Peaks of a {per}: {_si(r.flops)}FLOP/s (bf16), {gib(r.hbm)} and {_si(r.hbm_bytes)}B/s of HBM, "
        f"{_si(r.ici_bytes)}B/s of ICI (one torus axis, both directions){dcn}; published figures "
        f"({topology.chip.source})."
    )


def memory_table(plan: Plan) -> Table:
    """Memory of a device by program."""
    table = Table()
    table.add_column("")
    for p in plan.programs:
        table.add_column(p.program.name, justify="right")
    for part in _PARTS:
        if any(p.memory is not None and p.memory.parts[part] for p in plan.programs):
            table.add_row(part, *(_of(p, lambda m, part=part: gib(m.parts[part])) for p in plan.programs))
    table.add_section()
    table.add_row("program", *(_of(p, lambda m: gib(m.total)) for p in plan.programs))
    table.add_row("held beside", *(_of(p, lambda m: gib(m.held)) for p in plan.programs))
    if any(p.memory is not None and p.memory.host for p in plan.programs):
        table.add_row("host memory", *(_of(p, lambda m: gib(m.host)) for p in plan.programs))
    table.add_row("all", *(_all(p) for p in plan.programs))
    return table


def _of(found: Compiled, read: Any) -> str:
    return "-" if found.memory is None else read(found.memory)


def _all(found: Compiled) -> str:
    needed = found.memory.needed if found.memory is not None else found.refusal.needed if found.refusal else None
    text = "?" if needed is None else gib(needed)
    return text if found.fits else f"{text}: too much"


def cost_table(plan: Plan) -> Table:
    """Costs of one execution of each program, and what they imply."""
    t = plan.setting.topology
    shown = [p for p in plan.programs if p.totals is not None]
    table = Table()
    table.add_column("")
    for p in shown:
        table.add_column(p.program.name, justify="right")

    def row(name: str, read: Any) -> None:
        table.add_row(name, *(read(p) for p in shown))

    row("tokens", lambda p: f"{p.program.tokens:,}")
    row("model FLOPs", lambda p: _si(p.program.model_flops))
    row("FLOPs of a device", lambda p: _si(p.totals.flops))
    row("  of these in kernels", lambda p: _si(p.totals.kernel_flops))
    row("HBM traffic", lambda p: f"{_si(p.totals.hbm_bytes)}B")
    for kind in sorted({kind for p in shown if p.totals is not None for kind in p.totals.sent_by_axes()}):
        row(f"sent: {kind}", lambda p, kind=kind: f"{_si(p.totals.sent_by_axes().get(kind, 0))}B")
    table.add_section()
    row("compute", lambda p: _time(p.roofline.compute))
    row("memory", lambda p: _time(p.roofline.memory))
    row("communication", lambda p: _time(p.roofline.communication))
    if t.slices > 1:
        row("  of it between slices (DCN)", lambda p: f"{_time(p.roofline.dcn)}, {_si(p.totals.dcn_bytes)}B")
    table.add_section()
    row("time (hidden - serial)", lambda p: _range(p.time, _time))
    row("tokens/s", lambda p: _range(p.tokens_per_second(), lambda n: f"{n:,.0f}"))
    row("model FLOP utilisation", lambda p: _range(p.mfu(t.rates, len(t.devices)), lambda n: f"{100 * n:.0f} %"))
    return table


def remarks(plan: Plan) -> list[str]:
    """What the tables do not say: what does not fit, what was assumed, what has no known cost."""
    lines = [f"does not fit: {fault}" for fault in plan.faults]
    for p in plan.programs:
        lines.append(f"{p.program.name}: {p.program.shape}")
        if p.refusal is not None:
            over = "" if p.refusal.over is None else f" ({gib(p.refusal.over)} over)"
            needs = "" if p.refusal.needed is None else f": needs {gib(p.refusal.needed)} of "
            lines.append(
                f"  {p.refusal.why}{needs}{gib(p.refusal.available) if needs else ''}{over}. Try, in this order:"
            )
            lines += [f"    {text}" for text in plan.remedies.get(p.program.name, [])]
        if p.memory is not None and p.totals is None:
            lines.append("  jaxlib cannot read back what was compiled: its memory is known, its operations are not")
        if p.totals is not None:
            reduced = p.totals.gradient_reduction()
            if reduced:
                lines.append("  gradients: " + ", ".join(f"{_si(n)}B sent by {kind}" for kind, n in reduced.items()))
            if p.totals.uncosted:
                lines.append("  kernels of unknown cost, no FLOPs counted: " + ", ".join(sorted(p.totals.uncosted)))
            lines += [f"  {text}" for text in sorted(p.totals.caveats)]
    if plan.sampler is not None:
        lines.append(str(plan.sampler.slots))
    return lines


def round_lines(plan: Plan) -> list[str]:
    """The estimate of a round and of the run."""
    phases: Phases | None = plan.round()
    if phases is None:
        epochs = [f"{name}.epochs" for name in ("meta", "learn") if getattr(plan.setting.config, name).epochs]
        said = f"No estimate of a round: the number of steps rests on the data ({', '.join(epochs)})."
        return [said] if epochs else []
    n, l = phases.chips, plan.lengths

    def line(name: str, span: Span) -> str:
        hours = phases.chip_hours(span)
        return f"{name}: {_range(span, _time)} ({_range(hours, lambda h: f'{h:.2g}')} chip-hours of {n} chips)"

    own = "whose prompts the model writes"
    writing = (
        ["  " + line(f"writing, in each of {phases.writes} rounds {own}", phases.writing)] if phases.writes else []
    )
    return [
        f"A round, roughly ({NOTE}):",
        "  " + line("sampling", phases.sampling),
        *(["  " + line("judging (judge.batch)", phases.judging)] if phases.judging.high else []),
        *([f"  questions of judge.batch to its server: {phases.asked} at most"] if phases.asked else []),
        "  " + line("learning", phases.learn),
        "  " + line("round", phases.round),
        *writing,
        "  " + line(f"run ({counted(phases.rounds, 'round')} and the meta stage)", phases.run),
        f"  Assumed: prompts of {l.prompt} tokens, instructions of {l.instruction}; {ASSUMED}.",
    ]


def search_table(tried: Sequence[Tried], topology: Topology) -> Table:
    """Candidates in their order; those that do not fit with the reason."""
    table = Table()
    for name in ("mesh (data, fsdp, tensor)", "rows", "remat", "memory", "time", "tokens/s/chip", "bound by"):
        table.add_column(name, justify="left" if name == "bound by" else "right")
    for t in tried:
        c, found = t.candidate, t.compiled
        cells = [" x ".join(map(str, c.mesh)), str(c.batch_rows), c.remat]
        if found is None:
            table.add_row(*cells, "-", "-", "-", Text(plain(t.fault or "")))
        elif not t.fits:
            assert found.refusal is not None
            over = "" if found.refusal.over is None else f", {gib(found.refusal.over)} over"
            table.add_row(*cells, _all(found).removesuffix(": too much"), "-", "-", f"does not fit{over}")
        else:
            span = found.tokens_per_second()
            assert span is not None
            assert found.roofline is not None
            per_chip = span * (1 / topology.chips)
            table.add_row(
                *cells,
                _all(found),
                _range(found.time, _time),
                _range(per_chip, lambda n: f"{n:,.0f}"),
                found.roofline.bound,
            )
    return table


def _si(n: float) -> str:
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if abs(n) < 1000 or unit == "E":
            return f"{n:.3g} {unit}"
        n /= 1000
    raise AssertionError


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} us"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _range(span: Span | None, show: Any) -> str:
    if span is None:
        return "-"
    low, high = show(span.low), show(span.high)
    return low if low == high else f"{low} - {high}"
