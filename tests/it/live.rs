//! Live capture on a veth pair in a network namespace of its own: what is sent is metered.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Builds a link with two receive queues, and above its far end an interface whose driver runs no XDP program.
const LINK: &str = r#"
set -e
ip link set lo up
ip link add near numtxqueues 2 numrxqueues 2 type veth peer name far numtxqueues 2 numrxqueues 2
ip link set near up
ip link set far up
if [ "$INTERFACE" = above ]; then
    ip link add link far name above type macvlan mode passthru
    ip link set above up
fi
"#;

/// Runs the sensor on the far end, replays a capture into the near end.
const SCRIPT: &str = r#"
"$WEIR" run -c "$DIR/weir.toml" 2>"$DIR/log" &
sensor=$!
for _ in $(seq 100); do
    grep -q running "$DIR/log" && break
    kill -0 $sensor
    sleep 0.1
done
tcpreplay -q -i near --pps 2000 "$CAPTURE" >/dev/null 2>&1
sleep 0.5
kill -TERM $sensor
wait $sensor
"#;

/// Helpers of the scripts below: a sensor in the background, and patience until its log says something
/// so many times.
const SENSOR: &str = r#"
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
says() {
    for _ in $(seq 600); do
        [ "$(grep -c "$1" "$DIR/log")" -ge "$2" ] && return 0
        kill -0 $sensor
        sleep 0.1
    done
    return 1
}
send() {
    tcpreplay -i near --pps 20000 --loop "$1" "$CAPTURE" 2>&1 |
        sed -n 's/^Actual: \([0-9]*\) packets.*/\1/p' >> "$DIR/sent"
}
"$WEIR" run -c "$DIR/weir.toml" 2>"$DIR/log" &
sensor=$!
trap 'kill -KILL $sensor 2>/dev/null || true' EXIT
says "running config=" 1
"#;

/// The sensor stands still while packets come and it is told to stop.
const STOPPED: &str = r#"
kill -STOP $sensor
send 5
kill -TERM $sensor
kill -CONT $sensor
wait $sensor
"#;

/// The interface goes down and up, away and back.
const DOWN: &str = r#"
send 1
"$WEIR" health --ready --admin 127.0.0.1:9477
ip link set far down
says "waiting for the interface" 1
! "$WEIR" health --ready --admin 127.0.0.1:9477 > "$DIR/unready"
ip link set far up
says "the interface is up" 1
send 1
ip link del far
says "waiting for the interface" 2
ip link add near numtxqueues 2 numrxqueues 2 type veth peer name far numtxqueues 2 numrxqueues 2
ip link set near up
ip link set far up
says "the interface is up" 2
send 1
"$WEIR" health --ready --admin 127.0.0.1:9477
kill -TERM $sensor
wait $sensor
"#;

/// The interface is down when the sensor starts.
const UP: &str = r#"
says "waiting for the interface" 1
ip link set far up
says "the interface is up" 1
send 1
kill -TERM $sensor
wait $sensor
"#;

fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|out| out.status.success())
}

/// Packets and octets, out and in, by five-tuple and VLAN; frames of the link's own (neighbour discovery)
/// are in no capture and left out.
fn sums(ndjson: &str) -> BTreeMap<String, [u64; 4]> {
    let mut sums: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for line in ndjson.lines() {
        let slice: serde_json::Value = serde_json::from_str(line).expect("a slice");
        let ends = ["src_ip", "src_port", "dest_ip", "dest_port", "protocol", "vlan"];
        let key: Vec<String> = ends.iter().map(|end| slice[end].to_string()).collect();
        let counters = ["fwd_pkts", "bwd_pkts", "fwd_bytes", "bwd_bytes"];
        let sum = sums.entry(key.join(" ")).or_default();
        for (sum, name) in sum.iter_mut().zip(counters) {
            *sum += slice[name].as_u64().expect("a counter");
        }
    }
    sums.retain(|key, _| !key.contains("fe80:") && !key.contains("ff02:"));
    sums
}

/// A configuration that captures on `interface`.
fn configured(dir: &Path, interface: &str, settings: &str) {
    let config = format!(
        "[sensor]\nworkers = 2\nstate_directory = \"{0}/state\"\n[input.netflow]\nlisten = []\n\
         [input.capture]\ninterface = \"{interface}\"\nsnaplen = 128\n{settings}\n\
         [[output.files]]\ndirectory = \"{0}/flows\"\n",
        dir.display()
    );
    std::fs::write(dir.join("weir.toml"), config).expect("written");
}

/// `script` on a new link in a network namespace of its own.
fn on_a_link(script: &str, interface: &str, dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["-n", "bash", "-c", &format!("{LINK}{script}")])
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("INTERFACE", interface)
        .env("DIR", dir);
    command
}

/// What `weir run` meters of `capture`, sent into a link at whose far end it listens on `interface`.
fn metered(capture: &Path, interface: &str, settings: &str) -> BTreeMap<String, [u64; 4]> {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    configured(dir, interface, settings);
    let ran = on_a_link(SCRIPT, interface, dir).env("CAPTURE", capture).status();
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    assert!(ran.expect("bash").success(), "{log}");
    let mut live = String::new();
    for file in std::fs::read_dir(dir.join("flows")).expect("an output") {
        live += &std::fs::read_to_string(file.expect("a file").path()).expect("text");
    }
    sums(&live)
}

/// The same with `weir replay`.
fn replayed(capture: &Path) -> BTreeMap<String, [u64; 4]> {
    let replayed = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["-q", "replay", "-o", "-"])
        .arg(capture)
        .output()
        .expect("weir replay");
    sums(&String::from_utf8_lossy(&replayed.stdout))
}

/// `capture`, a classic little-endian file, with every frame in VLAN 7.
fn tagged(capture: &[u8]) -> Vec<u8> {
    let (head, mut rest) = capture.split_at(24);
    let mut tagged = head.to_vec();
    while !rest.is_empty() {
        let word =
            |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four octets"));
        let (length, wire) = (word(8), word(12));
        tagged.extend(&rest[..8]);
        tagged.extend((length + 4).to_le_bytes());
        tagged.extend((wire + 4).to_le_bytes());
        tagged.extend(&rest[16..28]);
        tagged.extend([0x81, 0, 0, 7]);
        let end = 16 + length as usize;
        tagged.extend(&rest[28..end]);
        rest = &rest[end..];
    }
    tagged
}

/// Whether links can be made and replayed into.
fn can_link() -> bool {
    let namespaces = Command::new("unshare").args(["-n", "true"]).status();
    let can = namespaces.is_ok_and(|status| status.success()) && has("tcpreplay") && has("ip");
    if !can {
        eprintln!("SKIPPED: needs network namespaces (root), iproute2 and tcpreplay");
    }
    can
}

/// Whether the kernel has AF_XDP sockets.
fn has_xdp() -> bool {
    let config = weir::config::Capture {
        interface: "lo".into(),
        backend: weir::config::Backend::AfXdp,
        ..Default::default()
    };
    let error = weir::input::capture::Live::open(&config, &[]).expect_err("not Ethernet");
    let can = !error.to_string().contains("no AF_XDP");
    if !can {
        eprintln!("SKIPPED: {error}");
    }
    can
}

#[test]
fn live_packets_are_metered_as_those_of_the_capture() {
    if !can_link() {
        return;
    }
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/web.pcap");
    let folder = tempfile::tempdir().expect("a folder");
    let vlan = folder.path().join("vlan.pcap");
    std::fs::write(&vlan, tagged(&std::fs::read(&web).expect("readable"))).expect("written");
    let mut cases = vec![
        (&web, "far", "backend = \"libpcap\""),
        (&web, "far", "backend = \"af_packet\""),
        (&web, "far", "readers = 3"),
        // The kernel takes tags off; they are put back, and a filter may ask for them.
        (&vlan, "far", "readers = 2"),
        (&vlan, "far", "filter = \"vlan 7\""),
    ];
    if has_xdp() {
        cases.extend([
            (&web, "far", "backend = \"af_xdp\""),
            (&web, "far", "backend = \"af_xdp\"\nreaders = 2"),
            (&web, "above", "backend = \"af_xdp\""),
            (&vlan, "far", "backend = \"af_xdp\"\nfilter = \"vlan 7\""),
        ]);
    }
    for (capture, interface, settings) in cases {
        let want = replayed(capture);
        assert!(want.len() > 10, "{} flows", want.len());
        assert!(want.keys().all(|key| key.ends_with(" 7") == (capture == &vlan)), "{want:?}");
        let got = metered(capture, interface, settings);
        assert_eq!(got, want, "{} {interface} {settings}", capture.display());
    }
}

/// Backends that this host has.
fn backends() -> impl Iterator<Item = &'static str> {
    let xdp = has_xdp().then_some("backend = \"af_xdp\"");
    ["backend = \"af_packet\"", "readers = 2", "backend = \"libpcap\""].into_iter().chain(xdp)
}

/// What the final ledger says of packets read and dropped after `script`, and how many were sent.
fn ledger(script: &str, settings: &str) -> ([u64; 2], u64, String) {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/web.pcap");
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    configured(dir, "far", settings);
    let ran = on_a_link(script, "far", dir).env("CAPTURE", web).output().expect("bash");
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    let log = read("log") + &read("unready");
    assert!(ran.status.success(), "{settings}: {log}{}", String::from_utf8_lossy(&ran.stderr));
    let sent = read("sent").lines().map(|line| line.parse::<u64>().expect("a number")).sum();
    let ledgers = log.lines().find_map(|line| line.split_once("stopped ledgers=")).expect("ended");
    let ledgers: String = serde_json::from_str(ledgers.1).expect("a string");
    let ledgers: serde_json::Value = serde_json::from_str(&ledgers).expect("ledgers");
    let count = |name: &str| ledgers["packets"][name].as_u64().expect("a counter");
    ([count("read"), count("kernel_drops")], sent, log)
}

/// What came before the end is metered, and what did not fit is told: nothing vanishes.
#[test]
fn packets_before_a_stop_are_read_or_counted_as_dropped() {
    if !can_link() {
        return;
    }
    let script = format!("{SENSOR}{STOPPED}");
    for settings in backends() {
        let ([read, dropped], sent, log) = ledger(&script, settings);
        assert!(sent > 5_000, "{sent} sent");
        assert_eq!((read, dropped), (sent, 0), "{settings}: {log}");
        let small = format!("{settings}\nbuffer_bytes = 1048576");
        let ([read, dropped], sent, log) = ledger(&script, &small);
        assert_eq!(read + dropped, sent, "{small}: {log}");
        assert!(read > 0 && dropped > 0, "{small}: {read} read, {dropped} dropped");
        assert!(log.contains("the kernel dropped packets"), "{log}");
    }
}

#[test]
fn an_interface_that_is_down_or_away_is_waited_for() {
    if !can_link() {
        return;
    }
    for settings in backends() {
        let ([read, dropped], sent, log) = ledger(&format!("{SENSOR}{DOWN}"), settings);
        assert_eq!((read, dropped), (sent, 0), "{settings}: {log}");
        assert!(log.contains("interface far: it is down"), "{settings}: {log}");
        let script = format!("ip link set far down\n{SENSOR}{UP}");
        let ([read, dropped], sent, log) = ledger(&script, settings);
        assert_eq!((read, dropped), (sent, 0), "{settings}: {log}");
    }
}

/// AF_XDP takes every packet from the host, so it takes no interface that the host needs.
#[test]
fn af_xdp_refuses_what_it_must_not_take() {
    if !can_link() || !has_xdp() {
        return;
    }
    let xdp = "backend = \"af_xdp\"";
    let three = format!("{xdp}\nreaders = 3");
    for (before, settings, want) in [
        (
            "ip address add 192.0.2.1/24 dev far; ip route add default via 192.0.2.9",
            xdp,
            "it carries the default route",
        ),
        ("ip -6 route add default dev far", xdp, "it carries the default route"),
        ("ip address add 127.0.0.1/32 dev far", xdp, "it has the address 127.0.0.1"),
        ("ip link set far mtu 9000", xdp, "its MTU is 9000, and af_xdp takes 3818 at most"),
        ("true", three.as_str(), "it has 2 receive queues, and 3 readers cannot share them"),
        ("true", "backend = \"af_xdp\"\nfilter = \"udp porrt 1\"", "does not compile"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        configured(folder.path(), "far", settings);
        let script = format!("{before}\nexec timeout 20 \"$WEIR\" run -c \"$DIR/weir.toml\"");
        let ran = on_a_link(&script, "far", folder.path()).output().expect("bash");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(3), "{before}: {said}");
        assert!(said.contains(want), "{before}: {said}");
    }
}
