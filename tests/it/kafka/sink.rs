//! What the sink writes, and that nothing is lost, doubled or out of order on the way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir::config::output::{Format, Kafka as Settings, KafkaCompression, UnknownTopic};
use weir::output::format::Writer;
use weir::output::schema::{Layout, Row, Shown, Stream};
use weir::output::spool::{Stop, Target};

use super::{Slices, copy, deliver, fails, identities, identity, json, shared, slices, target};
use crate::servers::kafka::{Doors, Kafka, Read};
use crate::servers::proxy::Proxy;

fn settings(kafka: &Kafka, topic: &str) -> Settings {
    Settings {
        brokers: vec![kafka.brokers()],
        topic: topic.into(),
        timeout_s: 2,
        linger_ms: 5,
        ..Settings::default()
    }
}

#[test]
fn records_have_key_headers_and_the_partition_that_murmur2_says() {
    let Some(kafka) = Kafka::shared() else { return };
    let slices = slices();
    let compressions = [
        KafkaCompression::Lz4,
        KafkaCompression::Zstd,
        KafkaCompression::Gzip,
        KafkaCompression::None,
    ];
    for compression in compressions {
        let topic = format!("written.{}", compression.as_str());
        kafka.topic(&topic, 5, &[]);
        let settings = Settings { compression, ..settings(kafka, &topic) };
        let unit = Slices::new(&slices[..400], 0);
        let delivered = deliver(&mut target(&settings), &unit);
        assert_eq!(delivered.dead, []);
        assert!(delivered.octets > 400 * 300, "{delivered:?}");

        let mut read = kafka.read(&topic);
        assert_eq!(read.len(), 400);
        read.sort_by_key(|r| identity(r.value.as_deref().expect("a value")));
        let mut want: Vec<_> = slices[..400].iter().collect();
        want.sort_by_key(|s| (s.slice.flow_id.to_string(), s.slice.number));
        let headers = [("schema", "1"), ("sensor", "probe"), ("content-type", "application/json")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (read, want) in read.iter().zip(want) {
            assert_eq!(read.value.as_deref(), Some(json(want, &unit.context).as_str()));
            assert_eq!(read.headers, headers);
            assert_eq!(read.partition, read.murmur2, "another client finds the same place");
            let ends = [want.slice.flow.src, want.slice.flow.dst].map(|a| format!("{:032x}", a.0));
            let (low, high) = (ends.iter().min().expect("two"), ends.iter().max().expect("two"));
            let site: String = b"default".iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(read.key.as_deref(), Some(format!("{site}{low}{high}").as_str()));
        }
    }
}

#[test]
fn values_are_what_the_format_writes() {
    let Some(kafka) = Kafka::shared() else { return };
    let slices = slices();
    let unit = Slices::new(&slices[..40], 0);
    let layout = Layout::all(Stream::Slices);
    for format in [Format::Detectflow, Format::Ecs, Format::Ocsf, Format::Cef, Format::Protobuf] {
        let topic = format!("format.{}", format.as_str());
        kafka.topic(&topic, 1, &[]);
        let settings = Settings { format, ..settings(kafka, &topic) };
        assert_eq!(deliver(&mut target(&settings), &unit).dead, []);
        let mut writer = Writer::new(format, &layout).expect("of single records");
        let values = slices[..40].iter().map(|slice| {
            let mut value = Vec::new();
            writer.record(&mut value, &Shown::new(Row::from(slice), &unit.context));
            value
        });
        let read = kafka.read(&topic);
        let got: Vec<Vec<u8>> = read.iter().map(Read::octets).collect();
        assert_eq!(got, values.collect::<Vec<_>>(), "{format:?}");
        let header = ("content-type".to_owned(), format.content_type().to_owned());
        assert!(read.iter().all(|read| read.headers.contains(&header)), "{format:?}");
    }
}

/// Identities in the order of reading, by key.
fn by_key(read: &[Read]) -> BTreeMap<String, Vec<(String, u64)>> {
    let mut keys: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for record in read {
        let identity = identity(record.value.as_deref().expect("a value"));
        keys.entry(record.key.clone().expect("a key")).or_default().push(identity);
    }
    keys
}

/// Delivers 12 units of 1,639 slices while `fault` happens after the third. Nothing is lost, nothing
/// comes twice, and each key's records are in order.
fn through(name: &str, mut kafka: Kafka, proxy: &Proxy, fault: impl FnOnce(&mut Kafka, &Proxy)) {
    kafka.topic(name, 3, &[]);
    let mut target = target(&Settings { linger_ms: 50, ..settings(&kafka, name) });
    let originals = slices();
    let mut fault = Some(fault);
    let mut sent = Vec::new();
    for number in 0..12_u8 {
        let copies: Vec<_> = originals.iter().map(|slice| copy(slice, number)).collect();
        sent.extend(identities(&copies));
        let unit = Slices::new(&copies, number.into());
        if number == 3 {
            // In the middle of a unit: what was handed over and not acknowledged is on its way.
            proxy.delay(Duration::from_millis(20));
            let fault = fault.take().expect("once");
            std::thread::scope(|scope| {
                let delivery = scope.spawn(|| deliver(&mut target, &unit));
                std::thread::sleep(Duration::from_millis(60));
                fault(&mut kafka, proxy);
                proxy.delay(Duration::ZERO);
                assert_eq!(delivery.join().expect("delivered").dead, []);
            });
        } else {
            assert_eq!(deliver(&mut target, &unit).dead, []);
        }
    }
    let read = kafka.read(name);
    let mut got: Vec<_> =
        read.iter().map(|r| identity(r.value.as_deref().expect("a value"))).collect();
    let order = by_key(&read);
    let places: BTreeMap<_, _> = sent.iter().zip(0..).collect();
    for identities in order.values() {
        let places: Vec<i32> = identities.iter().map(|identity| places[identity]).collect();
        assert!(places.is_sorted(), "{name}: order within a key");
    }
    got.sort();
    sent.sort();
    assert_eq!(got.len(), sent.len(), "{name}");
    assert_eq!(got, sent, "{name}");
}

fn proxied() -> Option<(Kafka, Proxy)> {
    let proxy = Proxy::new();
    let kafka = Kafka::start(Doors::Open, Some(proxy.address()))?;
    proxy.to(kafka.listens());
    Some((kafka, proxy))
}

#[test]
fn nothing_is_lost_or_doubled_when_connections_are_cut_in_mid_batch() {
    let Some((kafka, proxy)) = proxied() else { return };
    through("cut", kafka, &proxy, |_, proxy| {
        for octets in [20_000, 1_000, 40_000] {
            proxy.cut_after(octets);
            let before = proxy.cuts();
            let until = Instant::now() + Duration::from_secs(3);
            while proxy.cuts() == before && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(proxy.cuts() > 0, "a connection was cut");
    });
}

#[test]
fn nothing_is_lost_or_doubled_when_the_broker_is_killed_and_comes_back() {
    let Some((kafka, proxy)) = proxied() else { return };
    through("killed", kafka, &proxy, |kafka, proxy| {
        kafka.kill();
        proxy.cut();
        std::thread::sleep(Duration::from_secs(3));
        kafka.run();
    });
}

#[test]
fn nothing_is_lost_or_doubled_when_the_broker_stands_still() {
    let Some((kafka, proxy)) = proxied() else { return };
    through("paused", kafka, &proxy, |kafka, _| {
        kafka.server().pause();
        std::thread::sleep(Duration::from_secs(5));
        kafka.server().resume();
    });
}

#[test]
fn records_too_large_for_kafka_go_to_the_dead_letters_alone() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut slices = slices()[..300].to_vec();
    for place in [17, 230] {
        slices[place].slice.flow.application = Some(shared(&"x".repeat(8_000)));
    }
    // Refused by ourselves, and by the broker, which refuses the whole batch.
    for (name, ours, theirs) in [("large.ours", 4_000, "100000"), ("large.theirs", 50_000, "4000")]
    {
        kafka.topic(name, 2, &[("max.message.bytes", theirs)]);
        // Brokers look at batches as they are compressed.
        let compression = KafkaCompression::None;
        let settings = Settings { record_bytes_max: ours, compression, ..settings(kafka, name) };
        let delivered = deliver(&mut target(&settings), &Slices::new(&slices, 0));
        let dead: Vec<usize> = delivered.dead.iter().map(|(place, _)| *place).collect();
        assert_eq!(dead, [17, 230], "{name}: {:?}", delivered.dead);
        let why = &delivered.dead[0].1;
        assert!(why.contains("record_bytes_max") || why.contains("max.message.bytes"), "{why}");
        let mut want = identities(&slices);
        want.remove(230);
        want.remove(17);
        want.sort();
        let read = kafka.read(name);
        let mut got: Vec<_> =
            read.iter().map(|r| identity(r.value.as_deref().expect("a value"))).collect();
        got.sort();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn an_unknown_topic_is_waited_for_made_or_passed_over_as_the_configuration_says() {
    let Some(kafka) = Kafka::shared() else { return };
    let slices = slices();
    let unit = Slices::new(&slices[..50], 0);

    let mut waits = target(&settings(kafka, "late.{stream}"));
    let (reason, message) = fails(&mut waits, &unit);
    assert_eq!(reason, "unknown_topic");
    assert!(message.contains("there is no topic `late.slices`"), "{message}");
    kafka.topic("late.slices", 1, &[]);
    assert_eq!(deliver(&mut waits, &unit).dead, []);
    assert_eq!(kafka.read("late.slices").len(), 50);

    let unknown_topic = UnknownTopic::DeadLetter;
    let passes = Settings { unknown_topic, ..settings(kafka, "never.{site}") };
    let delivered = deliver(&mut target(&passes), &unit);
    assert_eq!(delivered.dead.len(), 50);
    assert!(delivered.dead[0].1.contains("there is no topic `never.default`"));

    let makes = Settings { create_topics: true, partitions: 4, ..settings(kafka, "made.{sensor}") };
    assert_eq!(deliver(&mut target(&makes), &unit).dead, []);
    let read = kafka.read("made.probe");
    assert_eq!(read.len(), 50);
    assert!(read.iter().all(|r| r.partition == r.murmur2 && r.partition < 4));
}

#[test]
fn a_sink_that_is_stopped_leaves_what_is_not_acknowledged() {
    let stop = Stop::default();
    let settings =
        Settings { brokers: vec!["127.0.0.1:1".into()], timeout_s: 60, ..Settings::default() };
    let slices = slices();
    let began = Instant::now();
    stop.within(Duration::ZERO);
    let result = target(&settings).deliver(&Slices::new(&slices[..5], 0), &stop);
    assert!(result.is_err(), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
