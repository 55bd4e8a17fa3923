#!/usr/bin/env python3
"""Counts the instructions of each stage of the path, and holds them to what they were.

    benches/instructions.py [--bless] [--path FILE] [STAGE...]

Runs `cargo bench --bench path` under callgrind, which counts the instructions of the measured part alone: the same
on every run, on a busy machine, too. A stage may cost 3 % more than stands in `benches/instructions.json`; beyond, it
is named and the exit code is 1. `--bless` writes that file anew: a change that costs more says so in its commit.
Caches and waits are not instructions: times are what `cargo bench --bench path` prints without callgrind.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BOUNDS = HERE / "instructions.json"
STAGES = ["decode", "decode-v5", "open", "update", "update-v5", "reopen", "packets", "cut", "ndjson", "parquet"]
RECORDS = 24_000
MORE = 1.03


def bench() -> str:
    """The benchmark's binary, built if it is not there."""
    cargo = os.environ.get("CARGO", "cargo")
    built = subprocess.run(
        [cargo, "bench", "--locked", "--no-run", "--bench", "path", "--message-format", "json"],
        cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "path":
            return message["executable"]
    sys.exit("cargo built no benchmark `path`")


def instructions(binary: str, stage: str) -> float:
    """Instructions that `stage` takes a record."""
    run = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no",
         "--toggle-collect=*path*measured_*", binary, stage, str(RECORDS)],
        capture_output=True, text=True, timeout=1_200)
    counted = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode != 0 or not counted or counted[1] == "0":
        sys.exit(f"{stage}: valgrind ended with {run.returncode}:\n{run.stderr[-2_000:]}")
    return int(counted[1]) / RECORDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bless", action="store_true", help="take what is counted now as the bound")
    parser.add_argument("--path", help="the benchmark's binary, if it is built already")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; else all")
    asked = parser.parse_args()
    for stage in asked.stages:
        if stage not in STAGES:
            parser.error(f"no stage {stage}: one of {', '.join(STAGES)}")
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed: apt install valgrind")
    binary = asked.path or bench()
    known = json.loads(BOUNDS.read_text()) if BOUNDS.exists() else {}
    over = []
    print(f"{'stage':<10} {'instructions a record':>22} {'before':>10}")
    for stage in asked.stages or STAGES:
        now, before = instructions(binary, stage), known.get(stage)
        print(f"{stage:<10} {now:>22.1f} {before if before is not None else '-':>10}", flush=True)
        if asked.bless or before is None:
            known[stage] = round(now, 1)
        elif now > before * MORE:
            over.append(f"{stage}: {now:.1f}, {now / before - 1:.1%} over {before}")
    if asked.bless or not BOUNDS.exists():
        BOUNDS.write_text(json.dumps(known, indent=2) + "\n")
    if over:
        sys.exit("\n".join(over))


if __name__ == "__main__":
    main()
