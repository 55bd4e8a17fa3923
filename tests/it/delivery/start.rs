//! What is told of sinks before their first record.

use std::net::TcpListener;

use crate::siem::server::{Answer, Server};
use crate::system::{Bench, Sensor, free_ports, wait_for, weir};

#[test]
fn who_cannot_deliver_is_told_of_before_the_first_record() {
    let bench = Bench::new();
    let (netflow, admin) = free_ports();
    // Nobody listens there, yet.
    let ports: Vec<u16> = (0..5).map(|_| free_ports().1).collect();
    let [hec, syslog, ipfix, kafka, s3] = ports[..] else { unreachable!("five") };
    bench.write("secret", "s").write("rules/.keep", "").write("file", "no folder");
    let config = format!(
        "[spool]\ndirectory = \"spool\"\nstop_s = 0\n\
         [[output.hec]]\nname = \"hec\"\nurl = \"http://127.0.0.1:{hec}\"\ntoken = {{ file = \"secret\" }}\n\
         [[output.hec]]\nname = \"hasty\"\nurl = \"http://127.0.0.1:{hec}\"\ntoken = {{ file = \"secret\" }}\n\
         durability = \"memory\"\n\
         [[output.syslog]]\nname = \"syslog\"\naddress = \"127.0.0.1:{syslog}\"\n\
         [[output.ipfix]]\nname = \"ipfix\"\naddress = \"127.0.0.1:{ipfix}\"\ntransport = \"tcp\"\n\
         [[output.kafka]]\nname = \"kafka\"\nbrokers = [\"127.0.0.1:{kafka}\"]\n\
         [[output.s3]]\nname = \"s3\"\nurl = \"s3://lake\"\nendpoint = \"http://127.0.0.1:{s3}\"\n\
         access_key_id = \"A\"\nsecret_access_key = {{ file = \"secret\" }}\n\
         [[output.files]]\nname = \"files\"\ndirectory = \"file/below\"\ndurability = \"disk\"\n"
    );
    Sensor::configure(&bench, &config, (netflow, admin));
    // It runs all the same.
    let sensor = Sensor::spawn(weir(), &bench, (netflow, admin)).ready();
    let faults = |sink: &str| sensor.get("/readyz").1.contains(&format!("output {sink}: "));
    for sink in ["hec", "hasty", "syslog", "ipfix", "kafka", "s3", "files"] {
        wait_for(sink, || faults(sink).then_some(()));
    }
    assert_eq!(sensor.metric("weir_spool_records_appended_total"), Some(0.0));
    // Whoever comes is not told of any more, without a record.
    let address = format!("127.0.0.1:{hec}").parse().expect("an address");
    let _server = Server::at(address, |_| Answer::new(200, "{\"code\":0}"));
    let _listeners = [syslog, ipfix].map(|port| TcpListener::bind(("127.0.0.1", port)));
    std::fs::remove_file(bench.path("file")).expect("there");
    for sink in ["hec", "hasty", "syslog", "ipfix", "files"] {
        wait_for(sink, || (!faults(sink)).then_some(()));
    }
    assert!(faults("kafka") && faults("s3"));
    assert!(bench.path("file/below").is_dir());
    sensor.stop();
}
