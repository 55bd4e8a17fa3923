#!/usr/bin/env bash
# Builds the image of the Containerfile over a binary that is built already, and runs it: healthy, not root, NetFlow in,
# slices out at the stop.
#   test-container.sh WEIR
# Needs root, podman, buildah, runc and debootstrap; says SKIPPED without them. No registry is asked: the Debian below
# is debootstrap's, and what the build stage makes is put in its place. `podman build .` runs that stage, too.
set -euo pipefail
cd "$(dirname "$0")/.."

weir=$(realpath "$1")
below=docker.io/library/debian:bookworm-slim

say() { echo "test-container: $*" >&2; }
skip() {
    say "SKIPPED: $*"
    exit 0
}
[ "$(id -u)" -eq 0 ] || skip "not root"
for program in podman buildah runc debootstrap; do
    command -v "$program" >/dev/null || skip "no $program on this machine"
done

work=$(mktemp -d)
name=weir-test-$$
# Without systemd on the host podman has nobody to call the health check: it is called below.
podman=(podman --runtime runc --cgroup-manager cgroupfs --log-level fatal)
cleanup() {
    "${podman[@]}" rm --force --volumes $name >/dev/null 2>&1 || true
    buildah rmi localhost/$name >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
fail() {
    say "FAILED: $*"
    "${podman[@]}" logs $name >&2 || true
    exit 1
}

if ! buildah inspect --type image $below >/dev/null 2>&1; then
    say "making $below (once)"
    debootstrap --variant=minbase bookworm "$work/debian" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >/dev/null
    scratch=$(buildah from scratch)
    buildah add --quiet "$scratch" "$work/debian" / >/dev/null
    buildah commit --quiet "$scratch" $below >/dev/null
    buildah rm "$scratch" >/dev/null
fi
scripts/install.sh "$weir" "$work/build/image" /usr /etc /usr/lib/systemd >/dev/null
strip "$work/build/image/usr/bin/weir"
buildah bud --quiet --format docker --isolation chroot --network host --build-context "build=$work/build" \
    --tag $name . >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "build"; }

"${podman[@]}" run --detach --name $name --network none --health-interval disable \
    --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 localhost/$name >/dev/null 2>&1 || fail "run"
healthy() { "${podman[@]}" healthcheck run $name >/dev/null 2>&1; }
for _ in $(seq 150); do
    ! healthy || break
    sleep 0.2
done
healthy || fail "not healthy within half a minute"
process=$("${podman[@]}" inspect --format '{{.State.Pid}}' $name)
user=$(awk '/^Uid:/ { print $2 }' "/proc/$process/status")
[ "$user" = 999 ] || fail "runs as user $user"
[ "$(awk '/^CapEff:/ { print $2 }' "/proc/$process/status")" = 0000000000000000 ] || fail "has capabilities"
say "runs as user $user without capabilities, and is healthy"

nsenter --target "$process" --net -- python3 pcaps/tools/send.py pcaps/exports-v5.pcap 127.0.0.1:2055 >/dev/null
"${podman[@]}" stop --time 60 $name >/dev/null 2>&1 || fail "stop"
[ "$("${podman[@]}" inspect --format '{{.State.ExitCode}}' $name)" = 0 ] || fail "ended with an error"
"${podman[@]}" cp $name:/var/lib/weir/flows "$work/flows" || fail "no slices in the volume"
packets() { cat "$@" | grep -oE '"(fwd|bwd)_pkts":[0-9]+' | awk -F: '{ sum += $2 } END { print sum + 0 }'; }
"$weir" --quiet replay pcaps/exports-v5.pcap --netflow -o "$work/expected.ndjson"
expected=$(packets "$work/expected.ndjson") found=$(packets "$work"/flows/*.ndjson)
[ "$found" = "$expected" ] || fail "$found packets in slices, $expected in the exports"
say "stopped by itself: $found packets in the slices of its volume"
