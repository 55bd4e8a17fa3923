#!/usr/bin/env bash
# Installs what a build needs and this machine lacks. Does nothing where all is there.
set -euo pipefail

lacking=()
command -v cc >/dev/null || lacking+=(gcc libc6-dev)
command -v pkg-config >/dev/null || lacking+=(pkg-config)
[ -e /usr/include/pcap/pcap.h ] || lacking+=(libpcap-dev)

if [ "${#lacking[@]}" -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "deps: install these with your package manager: ${lacking[*]}" >&2
        exit 1
    fi
    sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    echo "deps: installing ${lacking[*]}" >&2
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${lacking[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
    echo "deps: Rust is missing; install it from https://rustup.rs and run this again" >&2
    exit 1
fi
