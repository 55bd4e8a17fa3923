//! Rule-test events: a flow as JSON in any of the dialects, nested or with dotted keys.

use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use super::fields::{Field, FieldSet, Kind, Record, words};
use super::names;
use super::number::{Decimal, Place, Unit, instant};
use super::text::same_text;
use crate::flow::record::{self, Tunnel, TunnelKind};
use crate::flow::{Biflow, Direction, DirectionBy, Side, TcpState};
use crate::net::{Addr, Cidr};
use crate::time::Micros;

/// Nesting of objects in an event.
const DEPTH_MAX: usize = 16;

/// A flow from JSON, with what the JSON leaves open taken as null.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// The flow; fields that the event leaves out have their default.
    pub flow: Biflow,
    /// Keys that no dialect knows, dotted, in the order of the event: rules cannot see them.
    pub unknown: Vec<String>,
    absent: FieldSet,
    initiated: Option<bool>,
}

/// Why an event is no flow.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum EventError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// JSON, but no object.
    #[error("expected a JSON object, one a line")]
    NotAnObject,
    /// Nested too deep.
    #[error("objects nest deeper than {DEPTH_MAX}")]
    TooDeep,
    /// A value that its field cannot have.
    #[error("`{key}` is {found}, expected {expected}")]
    Value {
        /// The key, dotted.
        key: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl EventError {
    /// A short label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Json(_) => "json",
            Self::NotAnObject => "not_an_object",
            Self::TooDeep => "too_deep",
            Self::Value { .. } => "value",
        }
    }
}

impl Event {
    /// Reads one JSON object. `home` decides the direction where the event does not say it.
    ///
    /// Keys that no dialect knows are listed, not refused; a value of `null` counts as absent.
    ///
    /// # Errors
    /// [`EventError`] if the text is no JSON object, or a known field has a value that it cannot
    /// have.
    pub fn parse(text: &str, home: &[Cidr]) -> Result<Self, EventError> {
        Self::parse_with(text, home, &[])
    }

    /// As [`Event::parse`]; `sites` are the names of the sites, by index.
    ///
    /// # Errors
    /// As those of [`Event::parse`].
    pub fn parse_with(text: &str, home: &[Cidr], sites: &[String]) -> Result<Self, EventError> {
        // An event is one line; which one is for the caller to say.
        let said =
            |error: serde_json::Error| error.to_string().replace(" at line 1 column", " at column");
        let json = serde_json::from_str(text).map_err(|error| EventError::Json(said(error)))?;
        let Value::Object(object) = json else { return Err(EventError::NotAnObject) };
        let mut reader = Reader { sites, ..Reader::default() };
        reader.object("", &object, 0)?;
        reader.finish(home)
    }

    /// A flow of which all is known that Weir tells of it.
    #[must_use]
    pub fn of(flow: Biflow) -> Self {
        Self { flow, ..Self::default() }
    }

    /// The event as rules read it.
    #[must_use]
    pub const fn record(&self) -> Record<'_> {
        Record { flow: &self.flow, absent: self.absent, initiated: self.initiated }
    }
}

/// What was read so far, and what can only be placed once all is read.
#[derive(Default)]
struct Reader<'a> {
    sites: &'a [String],
    event: Event,
    given: FieldSet,
    duration: Option<i64>,
    end: Option<i64>,
    octets: Option<u64>,
    packets: Option<u64>,
    /// What is said of fields that follow from others.
    said: Vec<Said>,
}

/// A value of a field that follows from others: the event may say it without these.
struct Said {
    field: Field,
    value: usize,
    key: String,
    found: String,
}

impl Reader<'_> {
    fn object(
        &mut self,
        prefix: &str,
        object: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), EventError> {
        if depth > DEPTH_MAX {
            return Err(EventError::TooDeep);
        }
        for (key, value) in object {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match (names::look_up(&key), value) {
                (_, Value::Null) => {}
                (Some((field, unit)), value) => {
                    let found = value.to_string();
                    match self.field(field, unit, value) {
                        Ok(None) => {}
                        Ok(Some(value)) => self.said.push(Said { field, value, key, found }),
                        Err(expected) => return Err(EventError::Value { key, found, expected }),
                    }
                    self.given.insert(field);
                }
                (None, Value::Object(inner)) => self.object(&key, inner, depth + 1)?,
                (None, _) => self.event.unknown.push(key),
            }
        }
        Ok(())
    }

    /// Takes a value; one of a field that follows from others comes back.
    fn field(
        &mut self,
        field: Field,
        unit: Unit,
        value: &Value,
    ) -> Result<Option<usize>, &'static str> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return Err("a single value"),
        };
        match field.kind() {
            Kind::Address => {
                let address = text.parse().map_err(|_| "an IPv4 or IPv6 address")?;
                self.address(field, address);
            }
            Kind::Integer { max } => {
                let number = integer(&text, Unit::ONE, max.min(u64::MAX.into()))?;
                self.integer(field, number);
            }
            Kind::Time { instant: is_instant } => {
                let written =
                    if is_instant && value.is_string() { instant_of(&text) } else { None };
                let micros = written.map_or_else(|| integer(&text, unit, i64::MAX as u128), Ok);
                self.time(
                    field,
                    micros.map_err(|expected| match is_instant {
                        true => "a number, or a time such as 2026-01-31T12:00:00Z",
                        false => expected,
                    })?,
                );
            }
            Kind::Protocol => self.event.flow.protocol = protocol(&text)?,
            Kind::Named(all) => {
                let named = all.iter().position(|w| w.iter().any(|word| same_text(word, &text)));
                let named = named.ok_or("one of the field's values")?;
                if follows(field) {
                    return Ok(Some(named));
                }
                self.named(field, named);
            }
            Kind::Site => {
                let named = self.sites.iter().position(|name| *name == text);
                let site = named.and_then(|at| at.try_into().ok()).or_else(|| text.parse().ok());
                self.event.flow.site =
                    site.ok_or("a site's name in the configuration, or its index")?;
            }
            Kind::FlagNames => return Err("given as a number, under fwd_tcp_flags"),
            Kind::Text => self.text(field, text.into()),
        }
        Ok(None)
    }

    fn address(&mut self, field: Field, address: Addr) {
        let flow = &mut self.event.flow;
        match field {
            Field::Src => flow.src = address,
            Field::Dst => flow.dst = address,
            Field::Exporter => flow.point.exporter = address,
            Field::TunnelSrc => tunnel(flow).src = address,
            Field::TunnelDst => tunnel(flow).dst = address,
            _ => {}
        }
    }

    /// `value` is within the field's domain.
    #[expect(clippy::cast_possible_truncation, reason = "the caller checked the domain")]
    fn integer(&mut self, field: Field, value: u64) {
        let flow = &mut self.event.flow;
        let (v8, v16, v32) = (value as u8, value as u16, value as u32);
        match field {
            Field::SrcPort => flow.src_port = v16,
            Field::DstPort => flow.dst_port = v16,
            Field::Vrf => flow.vrf = v32,
            Field::InIf => flow.in_if = Some(v32),
            Field::OutIf => flow.out_if = Some(v32),
            Field::Vlan => flow.vlan = Some(v16),
            Field::Tos => flow.tos = Some(v8),
            Field::FwdOctets => flow.fwd.octets = value,
            Field::BwdOctets => flow.bwd.octets = value,
            Field::Octets => self.octets = Some(value),
            Field::FwdPackets => flow.fwd.packets = value,
            Field::BwdPackets => flow.bwd.packets = value,
            Field::Packets => self.packets = Some(value),
            Field::FwdOctetsL2 => flow.fwd.octets_l2 = Some(value),
            Field::BwdOctetsL2 => flow.bwd.octets_l2 = Some(value),
            Field::FwdPayload => flow.fwd.payload = Some(value),
            Field::BwdPayload => flow.bwd.payload = Some(value),
            Field::FwdFlags => flow.fwd.tcp_flags = Some(v16),
            Field::BwdFlags => flow.bwd.tcp_flags = Some(v16),
            Field::Flags => flow.fwd.tcp_flags = Some(v16),
            Field::Retransmits => flow.fwd.retransmits = Some(v32),
            Field::RttUs => flow.rtt_us = Some(v32),
            Field::FwdTtl => flow.fwd.ttl = Some(v8),
            Field::BwdTtl => flow.bwd.ttl = Some(v8),
            Field::SamplingInterval => flow.sampling_interval = Some(v32),
            Field::SrcAsn => flow.src_asn = Some(v32),
            Field::DstAsn => flow.dst_asn = Some(v32),
            Field::TunnelId => tunnel(flow).id = v32,
            _ => {}
        }
    }

    fn time(&mut self, field: Field, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        match field {
            Field::Start => self.event.flow.first = Micros(value),
            Field::End => self.end = Some(value),
            _ => self.duration = Some(value),
        }
    }

    fn named(&mut self, field: Field, value: usize) {
        let flow = &mut self.event.flow;
        let yes = value == 1;
        match field {
            Field::Direction => {
                flow.direction = [
                    Direction::Outbound,
                    Direction::Inbound,
                    Direction::Internal,
                    Direction::External,
                ][value];
            }
            Field::DirectionBy => {
                flow.direction_by = [
                    DirectionBy::Exporter,
                    DirectionBy::Syn,
                    DirectionBy::Start,
                    DirectionBy::Port,
                    DirectionBy::First,
                ][value];
            }
            Field::Initiated => self.event.initiated = Some(yes),
            Field::TcpState => flow.tcp_state = Some(TCP_STATES[value]),
            Field::ConnState => {
                // S0, S1, SF, REJ, RSTO, RSTR: who reset is kept in the flags.
                flow.tcp_state = Some(TCP_STATES[value.min(3)]);
                let flags = |side: &mut Side, flag| {
                    side.tcp_flags = Some(side.tcp_flags.unwrap_or(0) | flag);
                };
                match value {
                    3 => flags(&mut flow.bwd, record::RST),
                    4 => flags(&mut flow.fwd, record::RST),
                    5 => flags(&mut flow.bwd, record::RST | record::SYN),
                    _ => {}
                }
            }
            Field::Tunnel => tunnel(flow).kind = TunnelKind::ALL[value],
            // What follows from others is set once all is read.
            _ => {}
        }
    }

    fn text(&mut self, field: Field, text: Arc<str>) {
        let flow = &mut self.event.flow;
        match field {
            Field::VrfName => flow.vrf_name = Some(text),
            Field::InIfName => flow.in_if_name = Some(text),
            Field::OutIfName => flow.out_if_name = Some(text),
            _ => flow.application = Some(text),
        }
    }

    /// Places totals and times, decides the direction, and marks as absent what was not given and
    /// does not follow from what was.
    fn finish(mut self, home: &[Cidr]) -> Result<Event, EventError> {
        self.place_said();
        let flow = &mut self.event.flow;
        let given = |field| self.given.contains(field);
        let split = |total: Option<u64>, fwd: &mut u64, bwd: &mut u64, fwd_given: bool| {
            let Some(total) = total else { return };
            if fwd_given {
                *bwd = total.saturating_sub(*fwd);
            } else {
                *fwd = total.saturating_sub(*bwd);
            }
        };
        if !(given(Field::FwdOctets) && given(Field::BwdOctets)) {
            let fwd_given = given(Field::FwdOctets);
            split(self.octets, &mut flow.fwd.octets, &mut flow.bwd.octets, fwd_given);
        }
        if !(given(Field::FwdPackets) && given(Field::BwdPackets)) {
            let fwd_given = given(Field::FwdPackets);
            split(self.packets, &mut flow.fwd.packets, &mut flow.bwd.packets, fwd_given);
        }
        let after = |duration: i64| flow.first.plus(duration);
        flow.last = match (self.duration, self.end) {
            (Some(duration), _) => after(duration),
            (None, Some(end)) => Micros(end).max(flow.first),
            (None, None) => flow.first,
        };
        if !given(Field::Direction) {
            let responder = self.said.iter().find(|said| said.field == Field::ResponderAtHome);
            let responder = responder.map(|said| said.value == 1);
            let at_home = (self.event.initiated, responder);
            flow.direction = direction(flow, at_home, &self.given, home);
        }
        self.event.absent = self.absent();
        let record = self.event.record();
        for Said { field, value, key, found } in self.said {
            if record.integer(field) != Some(value as u128) {
                let expected = "what the event's addresses, direction and sampling interval say";
                return Err(EventError::Value { key, found, expected });
            }
        }
        Ok(self.event)
    }

    /// Sets what fields follow from as they say, where the event leaves that open.
    fn place_said(&mut self) {
        let flow = &mut self.event.flow;
        let of_family = |is_v6: bool| if is_v6 { Addr(1) } else { Addr::v4(0) };
        for said in &self.said {
            let yes = said.value == 1;
            match said.field {
                Field::SrcIsIpv6 | Field::Family if !self.given.contains(Field::Src) => {
                    flow.src = of_family(yes);
                }
                Field::DstIsIpv6 if !self.given.contains(Field::Dst) => flow.dst = of_family(yes),
                // What is known and not sampled.
                Field::SamplingUnknown if !yes && flow.sampling_interval.is_none() => {
                    flow.sampling_interval = Some(1);
                }
                _ => {}
            }
        }
    }

    fn absent(&self) -> FieldSet {
        let given = |field| self.given.contains(field);
        let ends = given(Field::Src) && given(Field::Dst);
        let mut absent = FieldSet::EMPTY;
        let mut need = |field, follows: bool| {
            if !given(field) && !follows {
                absent.insert(field);
            }
        };
        need(Field::Src, false);
        need(Field::Dst, false);
        need(Field::SrcPort, false);
        need(Field::DstPort, false);
        need(Field::Protocol, false);
        need(Field::SrcIsIpv6, given(Field::Src) || given(Field::Family));
        need(Field::DstIsIpv6, given(Field::Dst));
        need(Field::Family, given(Field::Src) || given(Field::SrcIsIpv6));
        need(Field::Direction, ends || given(Field::Initiated));
        need(Field::DirectionBy, false);
        need(Field::Initiated, given(Field::Direction) || given(Field::Src));
        need(Field::ResponderAtHome, given(Field::Direction) || ends);
        need(Field::Vrf, false);
        need(Field::SamplingUnknown, given(Field::SamplingInterval));
        need(Field::Tunnel, false);
        need(Field::TunnelSrc, false);
        need(Field::TunnelDst, false);
        need(Field::TunnelId, false);
        need(Field::Start, false);
        need(Field::End, given(Field::Start) && given(Field::Duration));
        need(Field::Duration, given(Field::Start) && given(Field::End));
        need(Field::FwdOctets, false);
        need(Field::BwdOctets, false);
        need(Field::Octets, given(Field::FwdOctets) || given(Field::BwdOctets));
        need(Field::FwdPackets, false);
        need(Field::BwdPackets, false);
        need(Field::Packets, given(Field::FwdPackets) || given(Field::BwdPackets));
        absent
    }
}

/// Fields that a record derives from others.
const fn follows(field: Field) -> bool {
    matches!(
        field,
        Field::SrcIsIpv6
            | Field::DstIsIpv6
            | Field::Family
            | Field::ResponderAtHome
            | Field::SamplingUnknown
    )
}

/// The flow's tunnel; one that nothing is known of if it has none.
fn tunnel(flow: &mut Biflow) -> &mut Tunnel {
    let (src, dst) = (Addr::UNSPECIFIED, Addr::UNSPECIFIED);
    flow.tunnel.get_or_insert(Tunnel { kind: TunnelKind::Gre, src, dst, id: 0 })
}

const TCP_STATES: [TcpState; 4] =
    [TcpState::Attempt, TcpState::Established, TcpState::Closed, TcpState::Reset];

/// By home networks where the addresses are known; what the event says of whether the initiator and the
/// responder are at home overrules them.
fn direction(
    flow: &Biflow,
    (initiated, responder): (Option<bool>, Option<bool>),
    given: &FieldSet,
    home: &[Cidr],
) -> Direction {
    let at_home = |address: Addr, known: bool| known && home.iter().any(|n| n.contains(address));
    let from_home = initiated.unwrap_or_else(|| at_home(flow.src, given.contains(Field::Src)));
    let to_home = responder.unwrap_or_else(|| at_home(flow.dst, given.contains(Field::Dst)));
    match (from_home, to_home) {
        (true, false) => Direction::Outbound,
        (false, true) => Direction::Inbound,
        (true, true) => Direction::Internal,
        (false, false) => Direction::External,
    }
}

/// Microseconds since 1970, cut off, of a time as ISO 8601 writes it.
fn instant_of(text: &str) -> Option<u64> {
    match instant(text)? {
        Place::At(micros) | Place::After(micros) => micros.try_into().ok(),
        Place::Negative => None,
    }
}

fn integer(text: &str, unit: Unit, max: u128) -> Result<u64, &'static str> {
    let number = Decimal::parse(text).or_else(|| Decimal::float(text.parse().ok()?));
    let value = match number.ok_or("a decimal number")?.place(unit) {
        Place::At(value) => value,
        // A length of time finer than a microsecond is cut off; a count is never broken.
        Place::After(value) if unit != Unit::ONE => value,
        Place::After(_) => return Err("a whole number"),
        Place::Negative => return Err("a number that is not negative"),
    };
    let in_range = u64::try_from(value).ok().filter(|&v| u128::from(v) <= max);
    in_range.ok_or("a number in the field's range")
}

fn protocol(text: &str) -> Result<u8, &'static str> {
    let by_name = |number: &u8| {
        words(Kind::Protocol, (*number).into()).iter().any(|word| same_text(word, text))
    };
    let number = text.parse().ok().or_else(|| (0..=u8::MAX).find(by_name));
    number.ok_or("the name or number of an IP protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Event, EventError> {
        Event::parse(text, &["10.0.0.0/8".parse().expect("a network")])
    }

    #[test]
    fn dialects_give_the_same_flow() {
        let events = [
            r#"{"src_ip":"10.0.0.1","dest_ip":"192.0.2.1","src_port":1,"dest_port":"443",
                "protocol":6,"fwd_bytes":5,"bwd_bytes":7,"fwd_pkts":1,"bwd_pkts":2,
                "timestamp":1000000,"flow_dur":0.5}"#,
            r#"{"src_ip":"10.0.0.1","dst_ip":"192.0.2.1","src_port":1,"dst_port":443,"proto":"TCP",
                "bytes_out":5,"bytes_in":7,"packets_out":1,"packets_in":2,"duration_ms":500,
                "timestamp":1000000,"direction":"outbound"}"#,
            r#"{"id":{"orig_h":"10.0.0.1","resp_h":"192.0.2.1","orig_p":1,"resp_p":443},
                "proto":"tcp","orig_bytes":5,"resp_bytes":7,"orig_pkts":1,"resp_pkts":2,
                "ts":1.0,"duration":0.5}"#,
            r#"{"source":{"ip":"10.0.0.1","port":1,"bytes":5,"packets":1},
                "destination.ip":"::ffff:192.0.2.1","destination":{"port":443,"packets":2},
                "network":{"iana_number":"6","bytes":12},"event":{"duration":500000000},
                "@timestamp":1000}"#,
            r#"{"SourceIp":"10.0.0.1","DestinationIp":"192.0.2.1","SourcePort":1,
                "DestinationPort":443,"Protocol":"tcp","Initiated":"true","UtcTime":1,
                "bytes_out":5,"bytes_in":7,"packets_out":1,"packets_in":2,"duration":0.5}"#,
        ];
        let first = parse(events[0]).expect(events[0]);
        assert_eq!(first.flow.direction, Direction::Outbound);
        for text in events {
            let event = parse(text).expect(text);
            assert_eq!(event.flow, first.flow, "{text}");
            assert!(event.unknown.is_empty(), "{text}");
        }
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        let error = parse(text).expect_err(text);
        assert_eq!(error.to_string(), want, "{text}");
    }

    #[test]
    fn wrong_values_are_refused() {
        check("[]", "expected a JSON object, one a line");
        check("{\"a\":", "not JSON: EOF while parsing a value at column 5");
        check(r#"{"dst_ip":"x"}"#, "`dst_ip` is \"x\", expected an IPv4 or IPv6 address");
        check(
            r#"{"dst_port":70000}"#,
            "`dst_port` is 70000, expected a number in the field's range",
        );
        check(r#"{"bytes_out":1.5}"#, "`bytes_out` is 1.5, expected a whole number");
        check(r#"{"bytes_out":-1}"#, "`bytes_out` is -1, expected a number that is not negative");
        check(
            r#"{"proto":"x"}"#,
            "`proto` is \"x\", expected the name or number of an IP protocol",
        );
        check(r#"{"src_ip":["10.0.0.1"]}"#, "`src_ip` is [\"10.0.0.1\"], expected a single value");
        check(r#"{"direction":"up"}"#, "`direction` is \"up\", expected one of the field's values");
        let deep = "{\"a\":".repeat(30) + "1" + &"}".repeat(30);
        check(&deep, "objects nest deeper than 16");
    }

    /// Every name of every dialect, by itself: what is said is what rules read.
    #[test]
    fn what_is_said_is_read() {
        for name in names::NAMES {
            let (field, unit) = (name.field, name.unit);
            let (values, want): (Vec<String>, Vec<u128>) = match field.kind() {
                Kind::Address => (vec!["192.0.2.1".into()], vec![Addr::v4(0xc000_0201).0]),
                Kind::Time { .. } => {
                    let (mul, div) = (u128::from(unit.mul), u128::from(unit.div));
                    (vec![(5_000_000 * mul / div).to_string()], vec![5_000_000])
                }
                Kind::Named(all) => (
                    all.iter().map(|words| words[0].to_owned()).collect(),
                    (0..all.len() as u128).collect(),
                ),
                Kind::Protocol => (vec!["17".into()], vec![17]),
                Kind::Integer { .. } => (vec!["7".into()], vec![7]),
                Kind::Site => (vec!["3".into()], vec![3]),
                Kind::Text => (vec!["x".into()], vec![0]),
                Kind::FlagNames => {
                    parse(&format!("{{\"{}\":\"syn\"}}", name.name)).expect_err(name.name);
                    continue;
                }
            };
            for (value, want) in values.iter().zip(want) {
                let text = format!("{{\"{}\":\"{value}\"}}", name.name);
                let event = parse(&text).expect(&text);
                let record = event.record();
                match field.kind() {
                    Kind::Text => assert_eq!(record.text(field), Some("x"), "{text}"),
                    _ => assert_eq!(record.integer(field), Some(want), "{text}"),
                }
            }
        }
    }

    #[test]
    fn what_follows_from_other_values_agrees_with_them() {
        let sampled = r#"{"sampling_interval":10,"sampling_unknown":false}"#;
        assert_eq!(parse(sampled).expect("sampled").flow.sampling_interval, Some(10));
        let tunnel = r#"{"tunnel":"vxlan","tunnel_src":"192.0.2.1","tunnel_id":5}"#;
        let event = parse(tunnel).expect("a tunnel");
        assert!(event.record().has(Field::TunnelId) && !event.record().has(Field::TunnelDst));
        assert!(!event.record().has(Field::SamplingUnknown), "nothing says it");
        let zeek = r#"{"id.orig_h":"192.0.2.1","id.resp_h":"192.0.2.2","local_orig":false,"local_resp":true}"#;
        assert_eq!(parse(zeek).expect("Zeek's").flow.direction, Direction::Inbound);
        for (text, key) in [
            (r#"{"SourceIp":"10.0.0.1","SourceIsIpv6":true}"#, "`SourceIsIpv6` is true"),
            (r#"{"SourceIsIpv6":true,"network.type":"ipv4"}"#, "`SourceIsIpv6` is true"),
            (r#"{"direction":"outbound","local_resp":true}"#, "`local_resp` is true"),
            (r#"{"sampling_interval":10,"sampling_unknown":true}"#, "`sampling_unknown` is true"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            let says = "what the event's addresses, direction and sampling interval say";
            assert!(error.starts_with(key) && error.ends_with(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_left_out_is_null() {
        let event = parse(r#"{"src_ip":"10.0.0.1","Image":"x","rtt_us":null}"#).expect("an event");
        assert_eq!(event.unknown, ["Image"]);
        let record = event.record();
        assert!(record.has(Field::Src) && record.has(Field::Initiated));
        for field in [Field::Dst, Field::DstPort, Field::Octets, Field::RttUs, Field::Direction] {
            assert!(!record.has(field), "{field:?}");
        }
    }
}
