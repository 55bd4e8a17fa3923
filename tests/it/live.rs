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

/// Packets and octets, out and in, by five-tuple; frames of the link's own (neighbour discovery)
/// are in no capture and left out.
fn sums(ndjson: &str) -> BTreeMap<String, [u64; 4]> {
    let mut sums: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for line in ndjson.lines() {
        let slice: serde_json::Value = serde_json::from_str(line).expect("a slice");
        let ends = ["src_ip", "src_port", "dest_ip", "dest_port", "protocol"];
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

#[test]
fn live_packets_are_metered_as_those_of_the_capture() {
    let namespaces = Command::new("unshare").args(["-n", "true"]).status();
    if !namespaces.is_ok_and(|status| status.success()) || !has("tcpreplay") || !has("ip") {
        return eprintln!("SKIPPED: needs network namespaces (root), iproute2 and tcpreplay");
    }
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/web.pcap");
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let config = format!(
        "[sensor]\nstate_directory = \"{0}/state\"\n[input.netflow]\nlisten = []\n\
         [input.capture]\ninterface = \"far\"\nsnaplen = 128\n\
         [[output.files]]\ndirectory = \"{0}/flows\"\n",
        dir.display()
    );
    std::fs::write(dir.join("weir.toml"), config).expect("written");
    let ran = Command::new("unshare")
        .args(["-n", "bash", "-c", SCRIPT])
        .env("WEIR", env!("CARGO_BIN_EXE_weir"))
        .env("DIR", dir)
        .env("CAPTURE", &capture)
        .status();
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    assert!(ran.expect("bash").success(), "{log}");
    let mut live = String::new();
    for file in std::fs::read_dir(dir.join("flows")).expect("an output") {
        live += &std::fs::read_to_string(file.expect("a file").path()).expect("text");
    }
    let replayed = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["-q", "replay", "-o", "-"])
        .arg(&capture)
        .output()
        .expect("weir replay");
    let (live, replayed) = (sums(&live), sums(&String::from_utf8_lossy(&replayed.stdout)));
    assert!(replayed.len() > 10, "{} flows", replayed.len());
    assert_eq!(live, replayed, "{log}");
}
