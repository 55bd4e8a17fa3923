//! What tcpdump says of the captures: who sent sFlow, and who sent what is not sFlow version 5.

use weir::decode::netflow::inspect::{Body, Kind, Line};

use super::{lines, rows};
use crate::support::vectors;

/// The sender, as `address.port`, and the version of each datagram that tcpdump takes for sFlow.
fn senders(text: &str) -> Vec<(String, u32)> {
    let sender = |line: &str| {
        let (source, rest) = line.split_once(" > ")?;
        let (_, sflow) = rest.split_once("sFlow")?;
        let version = match sflow.strip_prefix(" version ") {
            Some(version) => version.split(' ').next()?.parse().ok()?,
            None => 5,
        };
        Some((source.rsplit(' ').next()?.to_owned(), version))
    };
    text.lines().filter_map(sender).collect()
}

/// The same of our lines: an sFlow version is four octets, so NetFlow v5 reads as 5 << 16 | count.
fn ours(line: &Line) -> Option<(String, u32)> {
    let version = match &line.body {
        Body::Error(error) if error.reason == "sflow_unsupported" => 5,
        Body::Message(message) if line.kind == Kind::Message => {
            u32::from(line.version?) << 16 | u32::from(message.count?)
        }
        _ => return None,
    };
    Some((format!("{}.{}", line.exporter, line.port), version))
}

#[test]
fn sflow_is_recognised_as_tcpdump_does() {
    let Some(folder) = vectors("netflow") else { return };
    let mut datagrams = 0;
    let rows = rows(&folder);
    let captures: Vec<_> = rows.iter().filter(|row| row.golden.starts_with("tcpdump")).collect();
    for row in &captures {
        let text = std::fs::read_to_string(folder.join(&row.golden)).expect("tcpdump's output");
        let want = senders(&text);
        let have: Vec<_> = lines(&folder, row).iter().filter_map(ours).collect();
        assert_eq!(have, want, "{}", row.golden);
        datagrams += want.len();
    }
    println!("tcpdump: {0} groups run, {0} passed, {datagrams} datagrams", captures.len());
}
