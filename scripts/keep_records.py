"""Keeps what the tables of a study's runs are made of, without weights and texts: grades by row, figures, costs.

    python scripts/keep_records.py runs/smollm2_instructions_study benchmarks/records/smollm2_instructions
    python scripts/keep_records.py --unpack benchmarks/records/smollm2_instructions runs/kept
    selfevo compare runs/kept/*/*

One archive a finished run, a few ten kilobytes; the same run gives the same bytes. Runs that are not at their end are
left out, and said.
"""

from __future__ import annotations

import argparse
import io
import lzma
import tarfile
from pathlib import Path

from selfevo_jax.report import summarize
from selfevo_jax.run import RunDir

KEPT = (
    *("run.json", "config.yaml", "costs.jsonl", "fingerprints.json", "ordinary/*.json", "evaluations/*.json"),
    *("meta/counts.json", "meta/COMMITTED", "rounds/*/COMMITTED", "rounds/*/metrics.json"),
)


def archive(run: Path, study: Path) -> bytes:
    """The kept files under VARIANT/seed-N, in order and without times; the study's folder goes by its last part."""
    files = sorted({file for pattern in KEPT for file in run.glob(pattern)})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            content = file.read_bytes().replace(str(study).encode(), f"runs/{study.name}".encode())
            member = tarfile.TarInfo(str(file.relative_to(study)))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return lzma.compress(packed.getvalue(), preset=9)


def pack(study: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for config in sorted(study.glob("*/seed-*/config.yaml")):
        run = config.parent
        if not summarize(RunDir(run)).complete:
            print(f"{run}: not at its end; left out")
            continue
        file = out / f"{run.parent.name}-{run.name}.tar.xz"
        file.write_bytes(archive(run, study))
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def unpack(records: Path, out: Path) -> None:
    for file in sorted(records.glob("*.tar.xz")):
        with tarfile.open(file) as tar:
            tar.extractall(out, filter="data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unpack", action="store_true", help="from archives to runs, which selfevo compare reads")
    parser.add_argument("source", type=Path, help="folder of a study (VARIANT/seed-N), or of its archives")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    (unpack if args.unpack else pack)(args.source, args.out)


if __name__ == "__main__":
    main()
