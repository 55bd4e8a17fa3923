#!/usr/bin/env bash
# Every test, with what the tests against real programs need. Called by `make test` and CI.
set -euo pipefail
cd "$(dirname "$0")/.."

# Exporters and probes that tests talk to. Without root the tests that need them say SKIPPED.
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    lacking=()
    command -v softflowd >/dev/null || lacking+=(softflowd)
    command -v nfreplay >/dev/null || lacking+=(nfdump)
    command -v tcpreplay >/dev/null || lacking+=(tcpreplay)
    command -v ip >/dev/null || lacking+=(iproute2)
    command -v rsyslogd >/dev/null || lacking+=(rsyslog)
    compgen -G "/usr/lib/*/rsyslog/lmnsd_gtls.so" >/dev/null || lacking+=(rsyslog-gnutls)
    command -v tshark >/dev/null || lacking+=(tshark)
    command -v openssl >/dev/null || lacking+=(openssl)
    command -v systemd-analyze >/dev/null || lacking+=(systemd)
    command -v systemd-nspawn >/dev/null || lacking+=(systemd-container)
    command -v debootstrap >/dev/null || lacking+=(debootstrap)
    command -v dpkg-shlibdeps >/dev/null || lacking+=(dpkg-dev binutils)
    command -v lintian >/dev/null || lacking+=(lintian)
    if [ "${#lacking[@]}" -gt 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${lacking[@]}" >/dev/null
    fi
fi

# Kafka, S3 servers and readers that are not ours. Where they cannot be installed, tests say SKIPPED.
scripts/servers.sh >/dev/null || echo "test: some servers are missing: see above" >&2

cargo fmt --check
cargo clippy --all-targets --locked --quiet -- -D warnings
cargo test --locked "$@"
cargo clippy --locked --no-default-features --quiet -- -D warnings
cargo check --locked --quiet --manifest-path fuzz/Cargo.toml --target-dir target/fuzz
# The package of the binary that was just tested, lived with in a booted Debian: a minute, after a first one that
# fetches that Debian.
[ $# -gt 0 ] || scripts/test-deb.sh "${CARGO_TARGET_DIR:-target}/debug/weir"
