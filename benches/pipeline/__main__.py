#!/usr/bin/env python3
"""Measures the whole path of Weir beside its peers, in turn, in one sitting.

    make bench                        every row, medians of several runs
    make bench ROWS="ipfix v5"        some rows
    make bench-quick                  short runs of every row, for development; nothing is kept

Writes benches/runs/latest/pipeline.json and a dated table beside it. WEIR_BENCH names the folder of the senders and
generators (default ../shared/bench), WEIR_VECTORS that of the captures (default ../shared/data). What this machine
lacks is said and left out. Peers do different work: nfcapd stores records as they come, nfacctd adds up 5-tuples.
"""
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import host  # noqa: E402
import rows  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"


def one(bench, name):
    try:
        return rows.ROWS[name](bench)
    except host.Absent as lack:
        return {"work": name, "skipped": f"needs {lack}"}
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        return {"work": name, "skipped": f"failed: {error}"}


def met(row):
    if row.get("goal") is None:
        return ""
    good = row["weir"] <= row["goal"] if row["better"] == "lower" else row["weir"] >= row["goal"]
    return "yes" if good else "no"


def line(row):
    if "skipped" in row:
        return f"| {row['work']} | not run: {row['skipped']} | | | |"
    peers = ", ".join(f"{name} {value:g}" for name, value in row["peers"].items()) or "-"
    goal = "-" if row["goal"] is None else f"{'<=' if row['better'] == 'lower' else '>='} {row['goal']:g}"
    beside = {key: value for key, value in row.items()
              if key not in ("work", "unit", "weir", "peers", "goal", "better", "runs")}
    notes = "; ".join(f"{key} {json.dumps(value)}" for key, value in beside.items())
    return f"| {row['work']} ({row['unit']}) | **{row['weir']:g}** | {peers} | {goal} | {met(row)} | {notes} |"


HEAD = "| work | weir | peers | goal | met | beside |\n|---|--:|---|--:|---|---|"


def keep(out, found, described, name):
    """Writes the table and the JSON; rows that were not asked for stay as they were."""
    latest = out / "latest" / "pipeline.json"
    latest.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if latest.exists():
        known = {row["row"]: row for row in json.loads(latest.read_text())["rows"] if "row" in row}
    for row in found:
        if "skipped" not in row or row["row"] not in known:
            known[row["row"]] = row
    ordered = [known[row] for row in rows.ROWS if row in known]
    today = datetime.date.today().isoformat()
    document = {"date": today, "machine": described, "command": "make bench", "rows": ordered}
    latest.write_text(json.dumps(document, indent=1) + "\n")
    text = [f"# The whole path beside its peers, {today}", "", f"{described}, shared and noisy: compare within a row.",
            "Remake: `make bench`. Each row says at which commit it was measured.", "", HEAD, *map(line, ordered), ""]
    table = out / f"{today}-pipeline-{name}.md"
    table.write_text("\n".join(text))
    print(f"written: {latest} and {table}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(rows.ROWS)}; none: all")
    parser.add_argument("--weir", default=f"{target}/release/weir")
    parser.add_argument("--sources", default=os.environ.get("WEIR_BENCH", str(ROOT.parent / "shared/bench")))
    parser.add_argument("--vectors", default=os.environ.get("WEIR_VECTORS", str(ROOT.parent / "shared/data")))
    parser.add_argument("--work", default=f"{target}/bench-pipeline", help="where tools and captures are made and kept")
    parser.add_argument("--out", default=str(ROOT / "benches/runs"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="of a run of the row `lossless`")
    parser.add_argument("--quick", action="store_true", help="short runs; nothing is written")
    options = parser.parse_args()
    unknown = set(options.rows) - set(rows.ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if options.quick:
        options.runs = 1
    try:
        bench = host.Bench(options)
    except host.Absent as lack:
        sys.exit(f"SKIPPED: needs {lack}")
    host.install_peers()
    described, name = host.machine()
    print(HEAD, flush=True)
    found = []
    for asked in options.rows or rows.ROWS:
        row = {"row": asked, **one(bench, asked), "commit": commit()}
        found.append(row)
        print(line(row), flush=True)
    if not options.quick:
        keep(pathlib.Path(options.out), found, described, name)


if __name__ == "__main__":
    main()
