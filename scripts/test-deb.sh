#!/usr/bin/env bash
# Packages a binary and lives with it in a booted Debian: install, start, NetFlow v5 in, slices out, reload,
# upgrade under traffic, remove, install again, purge.
#   test-deb.sh WEIR
# Needs root, debootstrap and systemd-nspawn; says SKIPPED without them. The Debian below (200 MB, some two
# minutes, once) stays in DEB_CACHE, which is deb-test in the target folder by default.
set -euo pipefail
cd "$(dirname "$0")/.."

weir=$(realpath "$1")
cache=${DEB_CACHE:-${CARGO_TARGET_DIR:-target}/deb-test}
exports=pcaps/exports-v5.pcap

skip() {
    echo "test-deb: SKIPPED: $*" >&2
    exit 0
}
[ "$(id -u)" -eq 0 ] || skip "not root"
for program in debootstrap systemd-nspawn nsenter dpkg-shlibdeps; do
    command -v "$program" >/dev/null || skip "no $program on this machine"
done

say() { echo "test-deb: $*" >&2; }
fail() {
    say "FAILED: $*"
    [ -z "${init:-}" ] || inside journalctl --no-pager -n 60 >&2 || true
    exit 1
}

work=$(mktemp -d)
nspawn='' init=''
cleanup() {
    [ -z "$init" ] || inside systemctl poweroff >/dev/null 2>&1 || true
    # Gone by itself after that; within ten seconds, or it is told.
    for _ in $(seq 50); do
        [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null || break
        sleep 0.2
    done
    [ -z "$nspawn" ] || kill "$nspawn" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

# --- The packages: the one that is installed, and a later one of the same content -------------------------

version=$(sed -nE '/^\[package\]/,/^\[/s/^version = "(.*)"/\1/p' Cargo.toml)
architecture=$(dpkg --print-architecture)
for made in first again later; do
    number=$version
    [ $made != later ] || number=$version+later
    WEIR_DEB_VERSION=$number WEIR_DEB_COMPRESSION=gzip scripts/deb.sh "$weir" "$work/$made" >"$work/deb.log" 2>&1 ||
        { cat "$work/deb.log" >&2; fail "scripts/deb.sh"; }
done
first=$work/first/weir_${version}_$architecture.deb
later=$work/later/weir_${version}+later_$architecture.deb
cmp "$first" "$work/again/$(basename "$first")" || fail "two runs made different packages"
say "packages are the same octets each time: $(du -k "$first" | cut -f1) KiB"
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$first" >&2 || fail "lintian"
    say "lintian has no error and no warning"
fi

# --- A Debian with what the package depends on and nothing else, booted ----------------------------------

depends=$(dpkg-deb -f "$first" Depends | sed -E 's/ *\([^)]*\)//g; s/ *\|[^,]*//g; s/, */,/g')
base=$cache/bookworm-$(echo "$depends" | sha256sum | cut -c1-8)
if [ ! -d "$base" ]; then
    say "making $base (once)"
    rm -rf "$base.part"
    mkdir -p "$cache"
    debootstrap --variant=minbase --include="systemd-sysv,$depends" bookworm "$base.part" \
        ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$work/debootstrap.log" 2>&1 ||
        { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap"; }
    mv "$base.part" "$base"
fi
spawn=(systemd-nspawn --quiet --directory "$base" --machine "weir-deb-$$" --volatile=overlay
    --register=no --keep-unit --private-network --bind-ro "$work:/packages")
"${spawn[@]}" true </dev/null >"$work/boot.log" 2>&1 || skip "systemd-nspawn does not run here: $(cat "$work/boot.log")"
timeout 600 "${spawn[@]}" --boot </dev/null >"$work/boot.log" 2>&1 &
nspawn=$!

# The first process in there: grandchild of `timeout`.
child() { cut -d' ' -f1 <"/proc/$1/task/$1/children" 2>/dev/null; }
inside() { nsenter --target "$init" --all -- env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@" </dev/null; }
# until WHAT COMMAND...: waits for up to a minute.
until_true() {
    local what=$1
    shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    fail "$what: not within a minute"
}
booted() {
    init=$(child "$(child "$nspawn")") && [ -n "$init" ] && inside systemctl is-system-running
}
until_true "boot ($(cat "$work/boot.log"))" booted
say "booted: $(inside sed -n 's/^PRETTY_NAME=//p' /etc/os-release)"

# --- What is asked of it ----------------------------------------------------------------------------------

same() { [ "$2" = "$3" ] || fail "$1: expected '$3', found '$2'"; }
state() { same "$1 is" "$(inside systemctl is-active "$1" || true)" "$2"; }
enabled() { same "$1 is" "$(inside systemctl is-enabled "$1" 2>/dev/null || true)" "$2"; }
present() { inside test -e "$1" || fail "$1 is missing"; }
absent() { ! inside test -e "$1" && ! inside test -L "$1" || fail "$1 is still there"; }
admin() {
    inside bash -c "exec 3<>/dev/tcp/127.0.0.1/9477; printf 'GET $1 HTTP/1.0\r\n\r\n' >&3; cat <&3"
}
# The sum of a metric over its labels.
metric() { admin /metrics | awk -v name="$1" '$1 ~ "^"name"({|$)" { sum += $2 } END { print sum + 0 }'; }
metric_is() { [ "$(metric "$1")" = "$2" ]; }
rules() { admin /metrics | awk '/^weir_detect_rules[{].*"loaded"/ { print $2 }'; }
send() { nsenter --target "$init" --net -- python3 pcaps/tools/send.py "$exports" 127.0.0.1:2055 "$@"; }
# What the slices that are written say: packets in both directions.
packets() { cat "$@" | grep -oE '"(fwd|bwd)_pkts":[0-9]+' | awk -F: '{ sum += $2 } END { print sum + 0 }'; }
written() { packets "/proc/$init/root/var/lib/weir/flows/"*.ndjson; }
pid() { inside systemctl show -P MainPID weir.service; }

"$weir" --quiet replay "$exports" --netflow -o "$work/expected.ndjson" --summary "$work/summary.json"
expected=$(packets "$work/expected.ndjson")
records=$(tr -d ' \n' <"$work/summary.json" | grep -o '"merged":[0-9]*' | tail -n 1 | cut -d: -f2)

# --- Install: nothing runs ------------------------------------------------------------------------------

inside dpkg -i /packages/first/"$(basename "$first")" >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg -i"; }
same "the user's shell" "$(inside getent passwd weir | cut -d: -f6,7)" /var/lib/weir:/usr/sbin/nologin
for unit in weir.service weir.socket; do
    enabled $unit disabled
    state $unit inactive
done
for file in /usr/bin/weir /usr/share/man/man8/weir.8.gz /usr/share/weir/model/weir.onnx /etc/weir/rules/shipped/policy.yml \
    /usr/share/doc/weir/{copyright,sbom.cdx.json,licences.txt.gz} /usr/share/bash-completion/completions/weir; do
    present $file
done
same "check says" "$(inside weir check -c /etc/weir/weir.toml >/dev/null 2>&1; echo $?)" 0
say "installed: nothing is enabled, nothing runs"

# --- Start, send, reload ----------------------------------------------------------------------------------

inside systemctl enable --now weir.socket weir.service >/dev/null 2>&1 || fail "systemctl enable --now"
state weir.service active
exposure=$(inside systemd-analyze security --no-pager weir.service | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
awk "BEGIN { exit !($exposure <= 1.5) }" || fail "exposure $exposure, above 1.5"
send >/dev/null
until_true "records merged" metric_is weir_flow_records_merged_total "$records"
say "started (exposure $exposure): $records records of NetFlow v5 merged"

before=$(pid) had=$(rules)
cat >"$work/mine.yml" <<'RULE'
title: Any TCP flow
id: 6f0c6f0e-5a54-4d0a-9a30-5f4a5f0c1c11
status: test
logsource: { category: network_connection }
detection: { tcp: { proto: tcp }, condition: tcp }
level: low
RULE
inside cp /packages/mine.yml /etc/weir/rules/
inside systemctl reload weir.service || fail "systemctl reload"
more() { [ "$(rules)" = $((had + 1)) ]; }
until_true "a rule more than $had" more
same "the process after a reload" "$(pid)" "$before"
echo 'title: [' >"$work/broken.yml"
inside cp /packages/broken.yml /etc/weir/rules/
inside systemctl reload weir.service || fail "a new file that is no rule held a reload back"
state weir.service active
same "rules beside a broken file" "$(rules)" $((had + 1))
inside rm /etc/weir/rules/broken.yml
say "reloaded in place: $had rules and one; a broken file took nothing away"

# --- Upgrade, while an exporter goes on sending -----------------------------------------------------------

inside sed -i 's/^name = "weir" /name = "edge" /' /etc/weir/weir.toml
send --rate 50 >"$work/sent" &
sender=$!
sleep 0.3
inside dpkg -i /packages/later/"$(basename "$later")" >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "upgrade"; }
kill -0 $sender 2>/dev/null || say "note: the exporter was done before the upgrade was"
wait $sender
state weir.service active
[ "$(pid)" != "$before" ] || fail "the upgrade did not restart the sensor"
inside grep -q '^name = "edge"' /etc/weir/weir.toml || fail "the upgrade overwrote the configuration"
inside systemctl stop weir.service 2>/dev/null || fail "stop"
same "packets in slices, over an upgrade" "$(written)" $((2 * expected))
grep -q '"sensor":"edge"' "/proc/$init/root/var/lib/weir/flows/"*.ndjson || fail "no slice of the sensor's new name"
grep -q '"id":"6f0c6f0e' "/proc/$init/root/var/lib/weir/alerts/"*.ndjson || fail "no alert of the rule that was added"
same "errors in the journal" "$(inside journalctl -q -u weir.service -p err | grep -vc 'broken.yml\|Reload failed' || true)" 0
say "upgraded while $(cat "$work/sent") datagrams came: none lost, $((2 * expected)) packets in slices"

# --- Remove, install again, purge -------------------------------------------------------------------------

inside systemctl start weir.service || fail "start after the upgrade"
inside dpkg -r weir >/dev/null 2>&1 || fail "dpkg -r"
state weir.service inactive
state weir.socket inactive
absent /usr/bin/weir
absent /usr/share/weir
for file in /etc/weir/weir.toml /etc/weir/rules/mine.yml /var/lib/weir/flows; do present $file; done
same "slices after the removal" "$(written)" $((2 * expected))
say "removed: configuration and slices stay"

inside rm /etc/weir/rules/shipped
inside dpkg -i /packages/later/"$(basename "$later")" >/dev/null 2>&1 || fail "install after a removal"
enabled weir.service enabled
absent /etc/weir/rules/shipped
inside rm /etc/weir/rules/mine.yml
inside dpkg -P weir >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg -P"; }
for path in /etc/weir /var/lib/weir /etc/systemd/system/{multi-user,sockets}.target.wants/weir.{service,socket}; do
    absent $path
done
same "units that systemd knows" "$(inside systemctl list-unit-files 'weir*' --no-legend | wc -l)" 0
same "failed units" "$(inside systemctl --failed --no-legend | wc -l)" 0
say "purged: nothing is left but the user"
