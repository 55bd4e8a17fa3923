//! A whole capture file, and its packets through the parser.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::decode::packet::{Options, parse};
use weir::input::pcap::{BLOCK_MAX, Reader};

/// Packets of one input, at most: a small compressed file may hold very many.
const PACKETS_MAX: usize = 10_000;

fuzz_target!(|input: &[u8]| {
    let Ok(mut reader) = Reader::new(input) else { return };
    for _ in 0..PACKETS_MAX {
        match reader.next() {
            Ok(Some(packet)) => {
                assert!(packet.data.len() <= BLOCK_MAX);
                assert!(packet.wire_len as usize >= packet.data.len());
                let options = Options::default();
                let _ = parse(packet.link, packet.data, packet.wire_len, &options);
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.reason().is_empty());
                assert!(matches!(reader.next(), Ok(None)));
                break;
            }
        }
    }
    assert!(reader.consumed() <= input.len() as u64);
});
