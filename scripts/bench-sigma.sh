#!/usr/bin/env bash
# Generates rules and flows, and measures what a flow costs beside rsigma-eval.
# usage: scripts/bench-sigma.sh   (GENERATORS: folder of gen.py, gen100k.py, adversarial.py)
set -euo pipefail
cd "$(dirname "$0")/.."

generators=${GENERATORS:-../shared/bench/sigma}
work=${CARGO_TARGET_DIR:-target}/bench-sigma
seed=20261120

for generator in gen.py gen100k.py adversarial.py; do
    if [[ ! -f $generators/$generator ]]; then
        echo "SKIPPED: $generators/$generator is missing; GENERATORS names its folder" >&2
        exit 0
    fi
done

mkdir -p "$work"
[[ -d $work/rules-10000 ]] || python3 "$generators/gen.py" "$work" $seed 100000
[[ -d $work/rules-adv-10000 ]] || python3 "$generators/adversarial.py" "$work" 10000
if [[ ! -d $work/rules-100000 ]]; then
    python3 "$generators/gen100k.py" "$work/scale" $seed 20000
    mv "$work/scale/rules-100000" "$work/rules-100000"
    mv "$work/scale/events.jsonl" "$work/events-100000.jsonl"
fi

runs=benches/runs
mkdir -p $runs/latest
WEIR_BENCH_OUT=$runs/latest/sigma.json ${CARGO:-cargo} bench --locked --bench sigma -- "$(realpath "$work")"
cp $runs/latest/sigma.json "$runs/$(date -u +%F)-sigma.json"
echo "written: $runs/latest/sigma.json and a dated copy" >&2
