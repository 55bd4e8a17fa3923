//! What formats ask of a record besides single fields.

use std::borrow::Cow;

use serde::Deserialize;

use crate::detect::{Evidence, RuleMeta, Technique};
use crate::net::Addr;
use crate::output::schema::{Record, Stream, Value};

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident = [$($field:literal),+]),+ $(,)?) => {
        /// Where the fields stand that formats read, by the stream's table.
        #[derive(Clone, Copy, Debug)]
        pub(in crate::output) struct Places {
            $($(#[$doc])* pub $name: Option<usize>,)+
        }

        impl Places {
            pub(in crate::output) fn of(stream: Stream) -> Self {
                let place = |names: &[&str]| names.iter().find_map(|name| stream.index_of(name));
                Self { $($name: place(&[$($field),+]),)+ }
            }
        }
    };
}

places! {
    /// Start of the slice, or of the alert's flow.
    start = ["flow_start", "timestamp"],
    /// When the alert was raised, or the slice began.
    time = ["timestamp"],
    duration = ["flow_dur"],
    src = ["src_ip"],
    dst = ["dest_ip"],
    src_port = ["src_port"],
    dst_port = ["dest_port"],
    fwd_bytes = ["fwd_bytes"],
    bwd_bytes = ["bwd_bytes"],
    fwd_pkts = ["fwd_pkts"],
    bwd_pkts = ["bwd_pkts"],
    protocol = ["protocol"],
    flow_id = ["flow_id"],
    slice = ["slice"],
    last_slice = ["last_slice"],
    alert_id = ["id"],
    direction = ["direction"],
    vlan = ["vlan"],
    in_if = ["in_if"],
    out_if = ["out_if"],
    exporter = ["exporter"],
    domain = ["domain"],
    tos = ["tos"],
    fwd_tcp_flags = ["fwd_tcp_flags"],
    bwd_tcp_flags = ["bwd_tcp_flags"],
    fwd_ttl = ["fwd_ttl"],
    bwd_ttl = ["bwd_ttl"],
    src_asn = ["src_asn"],
    dst_asn = ["dst_asn"],
    sampling_interval = ["sampling_interval"],
    community_id = ["community_id"],
    sensor = ["sensor"],
    site = ["site"],
    application = ["application"],
    end_reason = ["end_reason"],
    detections = ["sigma_detections"],
    rule_id = ["rule.id"],
    rule_title = ["rule.title"],
    rule_level = ["rule.level"],
    rule_link = ["rule.link"],
    rule_author = ["rule.author"],
    tactics = ["tactics"],
    techniques = ["techniques"],
    evidence = ["evidence"],
    schema = ["schema"],
}

/// A record and where its fields stand.
pub(in crate::output) struct Known<'a> {
    pub record: &'a dyn Record,
    pub at: &'a Places,
    pub stream: Stream,
}

/// A rule that fired, as a record tells of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub(in crate::output) struct Tag<'a> {
    #[serde(rename = "rule_id", borrow)]
    pub id: Cow<'a, str>,
    #[serde(rename = "rule_title", borrow)]
    pub title: Cow<'a, str>,
    #[serde(rename = "severity", borrow)]
    pub level: Cow<'a, str>,
    #[serde(borrow)]
    pub techniques: Vec<Attack<'a>>,
}

/// An ATT&CK technique.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub(in crate::output) struct Attack<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub name: Option<Cow<'a, str>>,
}

/// A predicate that held, with the flow's value.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub(in crate::output) struct Proof<'a> {
    #[serde(borrow)]
    pub field: Cow<'a, str>,
    #[serde(borrow)]
    pub predicate: Cow<'a, str>,
    #[serde(borrow)]
    pub value: Cow<'a, str>,
}

impl<'a> From<&'a Evidence> for Proof<'a> {
    fn from(evidence: &'a Evidence) -> Self {
        Self {
            field: Cow::Borrowed(&evidence.field),
            predicate: Cow::Borrowed(&evidence.predicate),
            value: Cow::Borrowed(&evidence.value),
        }
    }
}

impl<'a> Known<'a> {
    /// The value at `place`; nothing where the stream has no such field.
    pub(in crate::output) fn value(&self, place: Option<usize>) -> Value<'a> {
        place.map_or(Value::Null, |place| self.record.value(place))
    }

    /// A whole number.
    pub(in crate::output) fn int(&self, place: Option<usize>) -> Option<i64> {
        match self.value(place) {
            Value::Int(value) | Value::Seconds(value) => Some(value),
            _ => None,
        }
    }

    /// A text; empty where it is absent.
    pub(in crate::output) fn text(&self, place: Option<usize>) -> Cow<'a, str> {
        match self.value(place) {
            Value::Text(text) => Cow::Borrowed(text),
            Value::Made(text) => Cow::Owned(text),
            _ => Cow::Borrowed(""),
        }
    }

    /// An address; `::` where it is absent.
    pub(in crate::output) fn address(&self, place: Option<usize>) -> Addr {
        match self.value(place) {
            Value::Address(address) => address,
            _ => Addr::UNSPECIFIED,
        }
    }

    /// 128 bits; 0 where they are absent.
    pub(in crate::output) fn bits(&self, place: Option<usize>) -> u128 {
        match self.value(place) {
            Value::Hex(bits) => bits,
            _ => 0,
        }
    }

    /// A list of texts.
    pub(in crate::output) fn texts(&self, place: Option<usize>) -> Vec<String> {
        let mut texts = Vec::new();
        self.value(place).texts(|text| texts.push(text.to_owned()));
        texts
    }

    /// The number of octets or packets of both directions.
    pub(in crate::output) fn sum(&self, fwd: Option<usize>, bwd: Option<usize>) -> i64 {
        self.int(fwd).unwrap_or(0).saturating_add(self.int(bwd).unwrap_or(0))
    }

    /// Start and end of the slice, or of the alert's flow so far, in microseconds.
    pub(in crate::output) fn times(&self) -> (i64, i64) {
        let start = self.int(self.at.start).unwrap_or(0);
        (start, start.saturating_add(self.int(self.at.duration).unwrap_or(0)))
    }

    /// The IP protocol; 0 is unknown.
    pub(in crate::output) fn protocol(&self) -> i64 {
        self.int(self.at.protocol).unwrap_or(0)
    }

    /// Whether ports are the type and code of ICMP.
    pub(in crate::output) fn icmp(&self) -> bool {
        matches!(self.protocol(), 1 | 58)
    }

    /// The rules that fired: of a slice all so far, of an alert its own.
    pub(in crate::output) fn tags(&self) -> Vec<Tag<'a>> {
        match self.stream {
            Stream::Slices => tags(&self.value(self.at.detections)),
            Stream::Alerts => vec![Tag {
                id: self.text(self.at.rule_id),
                title: self.text(self.at.rule_title),
                level: self.text(self.at.rule_level),
                techniques: attacks(&self.value(self.at.techniques)),
            }],
        }
    }

    /// The ATT&CK techniques of the rules that fired, each once, in the order of the rules.
    pub(in crate::output) fn attacks(&self) -> Vec<Attack<'a>> {
        let mut attacks: Vec<Attack<'a>> = Vec::new();
        if self.tagged() {
            for attack in self.tags().into_iter().flat_map(|tag| tag.techniques) {
                if attacks.iter().all(|known| known.id != attack.id) {
                    attacks.push(attack);
                }
            }
        }
        attacks
    }

    /// The predicates that made the rule fire, of an alert.
    pub(in crate::output) fn proofs(&self) -> Vec<Proof<'a>> {
        match self.value(self.at.evidence) {
            Value::Evidence(list) => list.iter().map(Proof::from).collect(),
            Value::Json(text) => serde_json::from_str(text).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Whether a rule fired.
    pub(in crate::output) fn tagged(&self) -> bool {
        match self.value(self.at.detections) {
            Value::Null => self.stream == Stream::Alerts,
            Value::Detections(rules) => !rules.is_empty(),
            Value::Json(text) => text != "[]",
            _ => false,
        }
    }

    /// Appends the record's identity: of a slice `flow id-number`, of an alert its id.
    pub(in crate::output) fn write_id(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let written = match self.stream {
            Stream::Alerts => write!(out, "{:032x}", self.bits(self.at.alert_id)),
            Stream::Slices => {
                let number = self.int(self.at.slice).unwrap_or(0);
                write!(out, "{:032x}-{number}", self.bits(self.at.flow_id))
            }
        };
        written.expect("a buffer takes all");
    }
}

fn tags<'a>(value: &Value<'a>) -> Vec<Tag<'a>> {
    match value {
        Value::Detections(rules) => rules.iter().map(|rule| Tag::from(&**rule)).collect(),
        Value::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        _ => Vec::new(),
    }
}

impl<'a> From<&'a RuleMeta> for Tag<'a> {
    fn from(rule: &'a RuleMeta) -> Self {
        Self {
            id: Cow::Borrowed(&rule.id),
            title: Cow::Borrowed(&rule.title),
            level: Cow::Borrowed(rule.level.as_str()),
            techniques: rule.techniques.iter().map(Attack::from).collect(),
        }
    }
}

impl<'a> From<&'a Technique> for Attack<'a> {
    fn from(technique: &'a Technique) -> Self {
        let name = technique.name.as_deref().map(Cow::Borrowed);
        Self { id: Cow::Borrowed(&technique.id), name }
    }
}

fn attacks<'a>(value: &Value<'a>) -> Vec<Attack<'a>> {
    match value {
        Value::Techniques(list) => list.iter().map(Attack::from).collect(),
        Value::Json(text) => serde_json::from_str(text).unwrap_or_default(),
        _ => Vec::new(),
    }
}
