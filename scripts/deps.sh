#!/usr/bin/env bash
# Installs what a build needs and this machine lacks. Does nothing where all is there.
# librdkafka is compiled by cmake with OpenSSL; curl's headers are only read, nothing links curl.
set -euo pipefail

lacking=()
command -v cc >/dev/null || lacking+=(gcc libc6-dev)
command -v c++ >/dev/null || lacking+=(g++)
command -v make >/dev/null || lacking+=(make)
command -v cmake >/dev/null || lacking+=(cmake)
command -v pkg-config >/dev/null || lacking+=(pkg-config)

# Where headers lie differs by architecture, so the preprocessor is asked.
header() {
    cc -E -include "$1" -x c /dev/null >/dev/null 2>&1 || lacking+=("$2")
}
header pcap/pcap.h libpcap-dev
header openssl/ssl.h libssl-dev
header curl/curl.h libcurl4-openssl-dev
header zlib.h zlib1g-dev

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
