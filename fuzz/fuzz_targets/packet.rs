//! One frame: the first octet picks the link type, the second the depth of tunnels and whether the
//! wire had more than was captured.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::decode::packet::{Exception, LinkType, Options, parse};

fuzz_target!(|input: &[u8]| {
    let [link, how, frame @ ..] = input else { return };
    let link = LinkType::SUPPORTED[usize::from(*link) % LinkType::SUPPORTED.len()];
    let captured = u32::try_from(frame.len()).expect("inputs are small");
    let wire_len = if how & 0x80 == 0 { captured } else { captured.saturating_mul(2) };
    let options = Options { tunnels: how & 0x40 == 0, depth_max: how & 0x0f };
    match parse(link, frame, wire_len, &options) {
        Ok(record) => {
            assert!(record.payload <= record.octets);
            assert_eq!(record.octets_l2, wire_len);
            assert!(record.tunnel.is_none() || options.tunnels);
        }
        Err(exception) => {
            assert!(Exception::REASONS.contains(&exception.reason()));
            assert!(wire_len > captured || exception.reason() != "truncated_capture");
        }
    }
});
