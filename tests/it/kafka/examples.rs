//! The examples of `config/examples` that need a broker, each run.

use std::net::UdpSocket;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use super::detect::produce;
use super::secure::keys;
use super::slices;
use crate::netflow::build::{fixed, fixed_record};
use crate::servers::kafka::{Doors, Kafka};
use crate::siem::examples::{RULE, example};
use crate::system::{Bench, Sensor, free_ports, kill, reap, wait_for, weir};

#[test]
fn slices_and_alerts_go_to_kafka_over_tls() {
    let bench = Bench::new();
    let folder = bench.path("");
    if !keys(&folder) {
        return eprintln!("SKIPPED: no openssl on this machine");
    }
    let Some(kafka) = Kafka::start(Doors::Tls(folder.clone()), None) else { return };
    for (from, to) in [("ca.crt", "ca.pem"), ("client.crt", "weir.pem"), ("client.p8", "weir.key")]
    {
        std::fs::copy(folder.join(from), folder.join(to)).expect("copied");
    }
    bench.write("rules/https.yml", RULE);
    let config = example("kafka.toml", &[("kafka.example:9093", &kafka.brokers())]);
    let sensor = Sensor::start(&bench, &config);
    let mut record = fixed_record();
    record[34..36].copy_from_slice(&443_u16.to_be_bytes());
    let exporter = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sensor.send(&exporter, &fixed(5, 1, 1, 0, &[record]));

    let mut config = kafka.client();
    config.set("group.id", "reader").set("security.protocol", "ssl");
    for (name, file) in [
        ("ssl.ca.location", "ca.pem"),
        ("ssl.certificate.location", "weir.pem"),
        ("ssl.key.location", "weir.key"),
    ] {
        config.set(name, folder.join(file).display().to_string());
    }
    for (sink, topic) in
        [("kafka-flows", "weir.slices.default"), ("kafka-alerts", "security.alerts")]
    {
        sensor.reaches(&format!("weir_output_records_acknowledged_total{{sink=\"{sink}\"}}"), 1.0);
        sensor.reaches(&format!("weir_kafka_brokers_up{{sink=\"{sink}\"}}"), 1.0);
        let reader: BaseConsumer = config.create().expect("a consumer");
        let mut places = TopicPartitionList::new();
        places.add_partition_range(topic, 0, 11);
        places.set_all_offsets(Offset::Beginning).expect("an offset");
        reader.assign(&places).expect("assigned");
        let value = wait_for(topic, || {
            let message = reader.poll(std::time::Duration::from_millis(200))?.ok()?;
            rdkafka::Message::payload(&message).map(<[u8]>::to_vec)
        });
        let record: Value = serde_json::from_slice(&value).expect("JSON");
        let port = record.get("dest_port").or_else(|| record["destination"].get("port"));
        assert_eq!(port.and_then(Value::as_u64), Some(443), "{topic}: {record}");
    }
    sensor.stop();
}

#[test]
fn a_detector_tags_what_sensors_wrote() {
    let Some(kafka) = Kafka::start(Doors::Open, None) else { return };
    kafka.topic("weir.slices", 3, &[]);
    let slices = slices();
    let https = slices.iter().filter(|slice| slice.slice.flow.dst_port == 443).take(20);
    produce(&kafka, "weir.slices", 1_000_000, https.map(|slice| ("north", slice)));
    let bench = Bench::new();
    bench.write("rules/https.yml", RULE);
    let (_, admin) = free_ports();
    let listen = format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n");
    let text =
        example("detect.toml", &[("kafka.example:9092", &kafka.brokers()), ("../rules", "rules")])
            + &listen;
    bench.write("detect.toml", text);
    let mut detector = weir();
    detector.args(["detect", "-c"]).arg(bench.path("detect.toml"));
    let mut detector = detector.spawn().expect("spawned");
    let read = wait_for("tagged slices", || {
        let written = kafka.written("weir.detected") && kafka.written("weir.alerts");
        let read = written.then(|| kafka.read("weir.detected"))?;
        (read.len() >= 20).then_some(read)
    });
    kill(&detector, libc::SIGTERM);
    assert!(reap(&mut detector).success());
    assert!(read.iter().all(|record| {
        record.value.as_deref().is_some_and(|text| text.contains("\"sigma_rule_ids\":[\"https\"]"))
    }));
    assert_eq!(read.len(), 20);
}
