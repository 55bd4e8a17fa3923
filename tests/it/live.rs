//! Live capture on a veth pair in a network namespace of its own: what is sent is metered.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Builds the link, runs the sensor on its far end, replays a capture into the near end.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip link add near type veth peer name far
ip link set near up
ip link set far up
"$WEIR" run -c "$DIR/weir.toml" 2>"$DIR/log" &
sensor=$!
for _ in $(seq 100); do
    grep -q running "$DIR/log" && break
    sleep 0.1
done
tcpreplay -q -i near --pps 2000 "$CAPTURE" >/dev/null 2>&1
sleep 0.5
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

/// What `weir run` meters of `capture`, sent into a link whose far end it listens on.
fn metered(capture: &Path, settings: &str) -> BTreeMap<String, [u64; 4]> {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let config = format!(
        "[sensor]\nworkers = 2\nstate_directory = \"{0}/state\"\n[input.netflow]\nlisten = []\n\
         [input.capture]\ninterface = \"far\"\nsnaplen = 128\n{settings}\n\
         [[output.files]]\ndirectory = \"{0}/flows\"\n",
        dir.display()
    );
    std::fs::write(dir.join("weir.toml"), config).expect("written");
    let ran = Command::new("unshare")
        .args(["-n", "bash", "-c", SCRIPT])
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("DIR", dir)
        .env("CAPTURE", capture)
        .status();
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

#[test]
fn live_packets_are_metered_as_those_of_the_capture() {
    let namespaces = Command::new("unshare").args(["-n", "true"]).status();
    if !namespaces.is_ok_and(|status| status.success()) || !has("tcpreplay") || !has("ip") {
        return eprintln!("SKIPPED: needs network namespaces (root), iproute2 and tcpreplay");
    }
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/web.pcap");
    let folder = tempfile::tempdir().expect("a folder");
    let vlan = folder.path().join("vlan.pcap");
    std::fs::write(&vlan, tagged(&std::fs::read(&web).expect("readable"))).expect("written");
    for (capture, settings) in [
        (&web, "backend = \"libpcap\""),
        (&web, "backend = \"af_packet\""),
        (&web, "readers = 3"),
        // The kernel takes tags off; they are put back, and a filter may ask for them.
        (&vlan, "readers = 2"),
        (&vlan, "filter = \"vlan 7\""),
    ] {
        let want = replayed(capture);
        assert!(want.len() > 10, "{} flows", want.len());
        assert!(want.keys().all(|key| key.ends_with(" 7") == (capture == &vlan)), "{want:?}");
        assert_eq!(metered(capture, settings), want, "{} {settings}", capture.display());
    }
}
