#!/usr/bin/env bash
# Installs the servers that tests run against, once a machine: Apache Kafka from its Maven artifacts,
# moto (S3 in memory) with readers in Python, and s3s-fs (S3 on files). Prints where they are.
# WEIR_SERVERS names the folder; the default is shared by all checkouts of a user.
# usage: scripts/servers.sh [kafka|python|s3s]...     (default: all)
set -euo pipefail
cd "$(dirname "$0")/.."

servers=${WEIR_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/weir/servers}
manifests=tests/servers
s3s_version=0.14.1
wanted=("$@")
[ "${#wanted[@]}" -gt 0 ] || wanted=(kafka python s3s)

mkdir -p "$servers"
exec 9>"$servers/lock"
flock 9

need() { # PROGRAM PACKAGE...
    command -v "$1" >/dev/null && return
    if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
        echo "servers: $1 is missing; install it with your package manager: ${*:2}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${@:2}" >/dev/null
}

# Whether what stands in $servers/$1 was made from the text on standard input; if not, it is removed.
stands() {
    local text
    text=$(cat)
    [ "$(cat "$servers/$1/made-from" 2>/dev/null)" = "$text" ] && return
    echo "servers: installing $1 into $servers" >&2
    rm -rf "${servers:?}/$1"
    mkdir -p "$servers/$1"
    made_from=$text
    return 1
}
done_with() { printf '%s' "$made_from" >"$servers/$1/made-from"; }

for server in "${wanted[@]}"; do
    case $server in
    kafka)
        if ! stands kafka <$manifests/pom.xml; then
            need java default-jre-headless
            need mvn maven
            mvn -q -B -Dstyle.color=never -f $manifests/pom.xml dependency:copy-dependencies \
                -DoutputDirectory="$servers/kafka/libs" >&2
            done_with kafka
        fi
        ;;
    python)
        if ! stands python <$manifests/requirements.txt; then
            python3 -c 'import ensurepip' 2>/dev/null || need python3-venv python3-venv
            python3 -m venv "$servers/python"
            "$servers/python/bin/pip" install --quiet --disable-pip-version-check \
                --requirement $manifests/requirements.txt >&2
            done_with python
        fi
        ;;
    s3s)
        if ! stands s3s <<<"s3s-fs $s3s_version"; then
            # Half of the time to build: it serves tests.
            env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
                ${CARGO:-cargo} install s3s-fs --version $s3s_version --locked --features binary \
                --root "$servers/s3s" --quiet >&2
            done_with s3s
        fi
        ;;
    *)
        echo "servers: $server is not one of kafka, python, s3s" >&2
        exit 2
        ;;
    esac
done
echo "$servers"
