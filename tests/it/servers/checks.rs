//! The servers themselves: what tests rest on holds.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::kafka::{Doors, Kafka};
use super::proxy::Proxy;
use super::s3::{Kind, S3};

#[test]
fn a_broker_keeps_what_it_acknowledged_through_kill_9() {
    let Some(mut kafka) = Kafka::start(Doors::Open, None) else { return };
    kafka.topic("kept", 3, &[]);
    let producer: BaseProducer = kafka.client().set("acks", "all").create().expect("a producer");
    for number in 0..100 {
        let (key, value) = (format!("key-{}", number % 7), number.to_string());
        let record = BaseRecord::to("kept").key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("taken");
    }
    producer.flush(Duration::from_secs(30)).expect("acknowledged");
    kafka.kill();
    kafka.run();
    let mut values: Vec<u32> = Vec::new();
    for read in kafka.read("kept") {
        values.push(read.value.expect("a value").parse().expect("a number"));
    }
    values.sort_unstable();
    assert_eq!(values, (0..100).collect::<Vec<u32>>());
}

#[test]
fn both_s3_servers_start_and_start_again() {
    for kind in [Kind::Moto, Kind::S3sFs] {
        let Some(mut s3) = S3::start(kind) else { continue };
        s3.bucket("weir");
        s3.server().pause();
        s3.server().resume();
        s3.kill();
        s3.run();
        s3.bucket("weir");
    }
}

/// Answers each connection with the number of octets that came.
fn counter() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut octets = Vec::new();
            drop(stream.read_to_end(&mut octets));
            drop(write!(stream, "{}", octets.len()));
        }
    });
    address
}

#[test]
fn the_proxy_cuts_refuses_and_answers() {
    let proxy = Proxy::new();
    proxy.to(counter());
    let talk = |octets: usize| -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(proxy.address())?;
        stream.write_all(&vec![b'x'; octets])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    assert_eq!(talk(5_000).expect("an answer"), "5000");
    proxy.cut_after(1_000);
    assert_ne!(talk(5_000).unwrap_or_default(), "5000");
    assert_eq!(proxy.cuts(), 1);
    assert_eq!(talk(5_000).expect("whole again"), "5000");
    proxy.refuse(true);
    assert_eq!(talk(10).unwrap_or_default(), "");
    proxy.refuse(false);
    proxy.answer(Some(503));
    assert!(talk(10).expect("an answer").starts_with("HTTP/1.1 503 "));
    proxy.answer(None);
    assert_eq!(talk(10).expect("through"), "10");
}
