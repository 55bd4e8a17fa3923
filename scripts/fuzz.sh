#!/usr/bin/env bash
# Builds every fuzz target and runs each for the given seconds. Needs cargo-fuzz, installed if it is
# missing; the stable compiler is told to take the sanitizer's flags.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --quiet
export RUSTC_BOOTSTRAP=1
for target in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    echo "fuzz: $name for $seconds s"
    cargo fuzz run "$name" -- -max_total_time="$seconds" -rss_limit_mb=4096 2>&1 | tail -n 3
done
