//! What sinks say in the log: by name, and not at every try.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::world::Feed;
use crate::siem::server::{Answer, Server};
use crate::siem::tls::Certificates;
use crate::system::{Bench, Sensor, free_ports, wait_for, weir};

/// Takes connections and closes them; counts them.
fn closing() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let count = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            drop(client);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, count)
}

#[test]
fn a_sink_that_fails_again_and_again_says_so_once_by_its_name() {
    let Some(certificates) = Certificates::new() else { return };
    let bench = Bench::new();
    let https = Server::tls(certificates.server(false), |_| Answer::new(200, ""));
    let (closes, tries) = closing();
    let (netflow, admin) = free_ports();
    bench.write("rules/.keep", "");
    let config = format!(
        "[flow.netflow]\nidle_timeout_s = 1\n[spool]\ndirectory = \"spool\"\nstop_s = 0\n\
         [[output.webhook]]\nname = \"distrusts\"\nurl = \"{}\"\nselect = \"slices\"\n\
         [[output.kafka]]\nname = \"secretive\"\nbrokers = [\"127.0.0.1:{closes}\"]\n\
         [output.kafka.tls]\n",
        https.url()
    );
    Sensor::configure(&bench, &config, (netflow, admin));
    let sensor = Sensor::spawn(weir(), &bench, (netflow, admin)).ready();
    let feed = Feed::start(netflow, 300, 300);
    sensor.reaches("weir_output_errors_total{sink=\"distrusts\",reason=\"connect\"}", 4.0);
    wait_for("many tries", || (tries.load(Ordering::Relaxed) >= 12).then_some(()));
    drop(feed);
    let log = sensor.log();
    for line in log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")) {
        let of = |sink: &str| line.contains(&format!("sink=\"{sink}\""));
        let others = ["no rule is", "ulimit"].iter().any(|own| line.contains(own));
        assert!(of("distrusts") || of("secretive") || others, "of whom? {line}");
    }
    let told = |sink: &str, what: &str| {
        let sink = format!("sink=\"{sink}\"");
        log.lines().filter(|line| line.contains(&sink) && line.contains(what)).count()
    };
    assert_eq!(told("distrusts", "UnknownIssuer"), 1, "{log}");
    // By kind: closed, and what is closed in mid-handshake, with what to do.
    assert!((1..=3).contains(&told("secretive", "kafka: ")), "{log}");
    for sink in ["secretive", "distrusts"] {
        let fault = format!("output {sink}: ");
        wait_for(&fault, || sensor.get("/readyz").1.contains(&fault).then_some(()));
    }
}
