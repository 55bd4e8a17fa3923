//! Live packets, where the tests may capture.

use std::net::UdpSocket;

use super::HTTPS;
use crate::system::{Bench, Sensor, free_ports, json_lines, wait_for, weir};

/// NetFlow beside packets of the loopback interface to one port.
const LIVE: &str = "[input.capture]\ninterface = \"{I}\"\nfilter = \"udp and port {P}\"\n\
                    [[output.files]]\nname = \"flows\"\ndirectory = \"flows\"\n";

fn start(bench: &Bench, interface: &str, port: u16) -> Sensor {
    bench.write("rules/https.yml", HTTPS);
    let ports = free_ports();
    let live = LIVE.replace("{I}", interface).replace("{P}", &port.to_string());
    Sensor::configure(bench, &live, ports);
    Sensor::spawn(weir(), bench, ports)
}

#[test]
fn packets_of_an_interface_are_metered() {
    let bench = Bench::new();
    let [client, server] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let to = server.local_addr().expect("bound");
    let mut sensor = start(&bench, "lo", to.port());
    let began = wait_for("a sensor that runs, or may not", || {
        let ended = sensor.process.try_wait().expect("a child").is_some();
        (ended || sensor.log().contains("running config=")).then_some(!ended)
    });
    if !began {
        let log = sensor.ended();
        assert!(log.contains("weir: ") && log.contains("lo"), "{log}");
        eprintln!("SKIPPED: may not capture: {log}");
        return;
    }
    for size in [10, 20, 30] {
        client.send_to(&vec![0; size], to).expect("sent");
    }
    server.send_to(&[0; 100], client.local_addr().expect("bound")).expect("sent");
    sensor.reaches("weir_decode_packets_metered_total", 4.0);
    let (ledgers, log) = sensor.stop();
    assert_eq!(ledgers["packets"]["metered"], 4, "{log}");
    let files = crate::system::files(&bench.path("flows"), "ndjson");
    let slices = json_lines(&std::fs::read_to_string(&files[0]).expect("text"));
    assert_eq!(slices.len(), 1, "{slices:?}");
    let slice = &slices[0];
    assert_eq!(slice["dest_port"], to.port(), "{slice}");
    let counts = ["fwd_pkts", "fwd_bytes", "bwd_pkts", "bwd_bytes"].map(|key| slice[key].as_u64());
    assert_eq!(counts, [3, 60 + 3 * 28, 1, 100 + 28].map(Some), "{slice}");
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let bench = Bench::new();
    let mut sensor = start(&bench, "none0", 9);
    assert_eq!(crate::system::reap(&mut sensor.process).code(), Some(3));
    let log = sensor.ended();
    assert!(log.contains("weir: ") && log.contains("none0"), "{log}");
}
