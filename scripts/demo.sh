#!/usr/bin/env bash
# The main job on recorded captures: packets, then exports of the same traffic. Nothing else runs.
set -euo pipefail
cd "$(dirname "$0")/.."
weir=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. Packets to tagged flows, alerts of rules and of the model with their evidence: weir replay pcaps/mixed.pcap.zst --rules config/rules"
"$weir" --quiet replay pcaps/mixed.pcap.zst --rules config/rules

say "2. The same traffic as routers export it: weir replay pcaps/exports-ipfix.pcap --netflow"
"$weir" --quiet replay pcaps/exports-ipfix.pcap --netflow --rules config/rules

say "3. One tagged slice as it is shipped: weir replay ... --select tagged --sorted -o FILE"
"$weir" --quiet replay pcaps/mixed.pcap.zst --rules config/rules --select tagged --sorted \
    -o "$out/tagged.ndjson" --summary "$out/summary.json"
head -n 1 "$out/tagged.ndjson"

say "4. What an exporter really sends: weir decode pcaps/exports-v9.pcap (first lines)"
"$weir" --quiet decode pcaps/exports-v9.pcap | head -n 3 | cut -c 1-240
