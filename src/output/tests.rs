//! The formats against a plain twin, and against each other.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::schema::{Fields, Kind, Layout, Value};
use super::stdout::StreamSink;
use super::{Batch, Context, Encoder, Row, Stream, sample};
use crate::config::{Config, FieldValue, Format, Select};
use crate::decode::slices::NdjsonDecoder;
use crate::detect::{Alert, RuleMeta, TaggedSlice, Technique};
use crate::flow::{Biflow, Slice};
use crate::net::Addr;

fn encode<'a>(format: Format, stream: Stream, rows: &[Row<'a>]) -> Vec<u8> {
    let mut encoder =
        Encoder::new(format, &Layout::all(stream), Vec::new()).expect("a known format");
    let context = sample::context();
    // In two calls, as a sink would.
    let (one, two) = rows.split_at(rows.len() / 2);
    encoder.rows(one.iter().copied(), &context).expect("memory takes all");
    encoder.rows(two.iter().copied(), &context).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn lines(stream: Stream, rows: &[Row<'_>]) -> Vec<Json> {
    let text = encode(Format::Ndjson, stream, rows);
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines = text.split_terminator('\n');
    lines.map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Both JSON, doubles apart: those to the last bit but one, as the parser rounds.
#[track_caller]
fn same(mut got: Json, mut want: Json) {
    let seconds = |json: &mut Json| json["flow_dur"].take().as_f64().expect("a number");
    let (a, b) = (seconds(&mut got), seconds(&mut want));
    assert!((a - b).abs() <= b.abs() * 1e-15, "flow_dur {a} is not {b}");
    assert_eq!(got, want);
}

fn counter(value: u64) -> i64 {
    value.min(i64::MAX as u64) as i64
}

fn techniques(list: &[Technique]) -> Json {
    list.iter().map(|t| json!({"id": t.id, "name": t.name})).collect()
}

fn exporter(flow: &Biflow) -> Option<Addr> {
    (flow.point.exporter != Addr::UNSPECIFIED).then_some(flow.point.exporter)
}

/// The flow's fields, written down once more and plainly.
fn twin_of_flow(flow: &Biflow, context: &Context) -> Map<String, Json> {
    let exporter = exporter(flow);
    let retransmits = [flow.fwd.retransmits, flow.bwd.retransmits];
    let retransmits = retransmits
        .iter()
        .any(Option::is_some)
        .then(|| retransmits.iter().flatten().map(|&n| u64::from(n)).sum::<u64>());
    let twin = json!({
        "src_ip": flow.src.to_string(), "dest_ip": flow.dst.to_string(),
        "src_port": flow.src_port, "dest_port": flow.dst_port,
        "fwd_bytes": counter(flow.fwd.octets), "bwd_bytes": counter(flow.bwd.octets),
        "fwd_pkts": counter(flow.fwd.packets), "bwd_pkts": counter(flow.bwd.packets),
        "flow_dur": flow.last.since(flow.first) as f64 / 1e6, "protocol": flow.protocol,
        "community_id": (flow.protocol != 0).then(|| crate::flow::community_id(flow, 0)),
        "sensor": context.sensor, "site": context.sites.get(flow.site as usize),
        "exporter": exporter.map(|e| e.to_string()),
        "exporter_name": exporter.and_then(|e| context.exporters.get(&e)),
        "exporters": (!flow.exporters.is_empty())
            .then(|| flow.exporters.iter().map(Addr::to_string).collect::<Vec<_>>()),
        "domain": exporter.map(|_| flow.point.domain),
        "in_if": flow.in_if, "out_if": flow.out_if,
        "in_if_name": flow.in_if_name.as_deref(), "out_if_name": flow.out_if_name.as_deref(),
        "vlan": flow.vlan, "vrf": (flow.vrf != 0).then_some(flow.vrf),
        "vrf_name": flow.vrf_name.as_deref(), "application": flow.application.as_deref(),
        "tos": flow.tos,
        "fwd_tcp_flags": flow.fwd.tcp_flags, "bwd_tcp_flags": flow.bwd.tcp_flags,
        "fwd_first_tcp_flags": flow.fwd.first_flags, "bwd_first_tcp_flags": flow.bwd.first_flags,
        "tcp_state": flow.tcp_state.map(crate::flow::TcpState::as_str),
        "direction": flow.direction.as_str(), "direction_by": flow.direction_by.as_str(),
        "sampling_interval": flow.sampling_interval,
        "sampling_unknown": flow.sampling_interval.is_none(),
    });
    let more = json!({
        "fwd_bytes_l2": flow.fwd.octets_l2.map(counter),
        "bwd_bytes_l2": flow.bwd.octets_l2.map(counter),
        "fwd_payload": flow.fwd.payload.map(counter),
        "bwd_payload": flow.bwd.payload.map(counter),
        "retransmits": retransmits, "rtt_us": flow.rtt_us,
        "fwd_ttl": flow.fwd.ttl, "bwd_ttl": flow.bwd.ttl,
        "tunnel": flow.tunnel.map(|t| t.kind.as_str()),
        "tunnel_src": flow.tunnel.map(|t| t.src.to_string()),
        "tunnel_dst": flow.tunnel.map(|t| t.dst.to_string()),
        "tunnel_id": flow.tunnel.map(|t| t.id),
        "src_asn": flow.src_asn, "dst_asn": flow.dst_asn, "schema": 1,
    });
    let (Json::Object(mut twin), Json::Object(more)) = (twin, more) else { unreachable!() };
    twin.extend(more);
    twin
}

fn finish(mut twin: Map<String, Json>, more: Json) -> Json {
    let Json::Object(more) = more else { unreachable!() };
    twin.extend(more);
    twin.retain(|_, value| !value.is_null());
    Json::Object(twin)
}

fn twin_of_slice(tagged: &TaggedSlice, context: &Context) -> Json {
    let slice = &tagged.slice;
    let detection = |rule: &RuleMeta| {
        json!({
            "rule_id": rule.id, "rule_title": rule.title, "severity": rule.level,
            "technique_ids": rule.techniques.iter().map(|t| &t.id).collect::<Vec<_>>(),
            "techniques": techniques(&rule.techniques),
        })
    };
    let more = json!({
        "timestamp": slice.flow.first, "flow_id": slice.flow_id.to_string(),
        "slice": slice.number, "last_slice": slice.last, "end_reason": slice.end_reason,
        "records": counter(slice.records),
        "sigma_rule_ids": tagged.rules.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
        "sigma_detections": tagged.rules.iter().map(|r| detection(r)).collect::<Vec<_>>(),
        "excluded": tagged.excluded,
    });
    finish(twin_of_flow(&slice.flow, context), more)
}

fn twin_of_alert(alert: &Alert, context: &Context) -> Json {
    let rule = &alert.rule;
    let mut meta = json!({
        "id": rule.id, "title": rule.title, "level": rule.level, "author": rule.author,
        "link": rule.link, "tags": rule.tags, "file": rule.file, "line": rule.line,
    });
    meta.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    let more = json!({
        "id": format!("{:032x}", alert.id), "timestamp": alert.time,
        "flow_start": alert.flow.first, "flow_id": alert.flow_id.to_string(),
        "rule": meta, "tactics": rule.tactics,
        "technique_ids": rule.techniques.iter().map(|t| &t.id).collect::<Vec<_>>(),
        "techniques": techniques(&rule.techniques), "evidence": alert.evidence,
        "suppressed": Some(alert.suppressed.min(i64::MAX as u64)).filter(|&held| held > 0),
    });
    let mut twin = twin_of_flow(&alert.flow, context);
    if let Some(verdict) = &alert.verdict {
        let (low, high) = (alert.flow.src.min(alert.flow.dst), alert.flow.src.max(alert.flow.dst));
        let (start, ordinal) = (verdict.sequence.start_ms, verdict.sequence.ordinal);
        let attack = verdict.attack.as_ref();
        let model = json!({
            "model_class": verdict.class.expect("an alert's").as_str(), "model_score": verdict.score,
            "mitre_tactic": attack.map(|attack| &attack.tactic),
            "mitre_technique": attack.map(|attack| &attack.technique),
            "sequence_id": format!("{low}_{high}_{start}_c{ordinal}"),
        });
        twin.extend(model.as_object().expect("an object").clone());
        twin.remove("community_id");
        twin.retain(|name, value| !name.ends_with("_port") || *value != json!(0));
    }
    finish(twin, more)
}

/// A CSV cell or a Parquet text as the JSON value that NDJSON has for it.
fn from_text(kind: Kind, text: &str) -> Json {
    match kind {
        Kind::Text | Kind::Words(_) | Kind::Address | Kind::Hex128 => json!(text),
        _ => serde_json::from_str(text).expect(text),
    }
}

/// What NDJSON has under `name`, in an object or not; null if absent.
fn member<'a>(object: &'a Json, name: &str) -> &'a Json {
    match name.split_once('.') {
        Some((outer, inner)) => &object[outer][inner],
        None => &object[name],
    }
}

fn csv_equals_ndjson(stream: Stream, rows: &[Row<'_>]) {
    let text = encode(Format::Csv, stream, rows);
    let mut reader = csv::Reader::from_reader(&*text);
    let names: Vec<_> = stream.fields().map(|field| field.name).collect();
    assert_eq!(reader.headers().expect("a header"), names);
    let objects = lines(stream, rows);
    let records: Vec<_> = reader.records().map(|r| r.expect("RFC 4180")).collect();
    assert_eq!(records.len(), objects.len());
    for (record, object) in records.iter().zip(&objects) {
        for (field, cell) in stream.fields().zip(record) {
            match member(object, field.name) {
                Json::Null => assert_eq!(cell, "", "{}", field.name),
                want => assert_eq!(&from_text(field.kind, cell), want, "{}", field.name),
            }
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet_equals_ndjson(stream: Stream, rows: &[Row<'_>]) {
    use std::io::Write;

    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&encode(Format::Parquet, stream, rows)).expect("room");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let names: Vec<_> = stream.fields().map(|field| field.name).collect();
    let columns: Vec<_> = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(columns, names);
    let objects = lines(stream, rows);
    let mut read = 0;
    for batch in reader.build().expect("a reader") {
        let batch = batch.expect("a batch");
        for row in 0..batch.num_rows() {
            for (field, column) in stream.fields().zip(batch.columns()) {
                let got = cell(field.kind, column.as_ref(), row);
                let want = member(&objects[read], field.name);
                match (got.as_f64(), want.as_f64()) {
                    (Some(a), Some(b)) if field.kind == Kind::Seconds => {
                        assert!((a - b).abs() <= b.abs() * 1e-15, "{a} is not {b}");
                    }
                    _ => assert_eq!(&got, want, "{}", field.name),
                }
            }
            read += 1;
        }
    }
    assert_eq!(read, objects.len());
}

#[cfg(feature = "parquet")]
fn cell(kind: Kind, column: &dyn arrow_array::Array, row: usize) -> Json {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int32Type, Int64Type};
    use arrow_schema::DataType;

    if column.is_null(row) {
        return Json::Null;
    }
    match column.data_type() {
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Float64 => json!(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            items.as_string::<i32>().iter().map(|item| json!(item)).collect()
        }
        _ => from_text(kind, column.as_string::<i32>().value(row)),
    }
}

#[test]
fn canonical_columns_come_first_in_deeptempos_order_and_types() {
    use Kind::{Address, Int32, Int64, Seconds, Timestamp};
    let want = [
        ("timestamp", Timestamp),
        ("src_ip", Address),
        ("dest_ip", Address),
        ("src_port", Int32),
        ("dest_port", Int32),
        ("fwd_bytes", Int64),
        ("bwd_bytes", Int64),
        ("fwd_pkts", Int64),
        ("bwd_pkts", Int64),
        ("flow_dur", Seconds),
        ("protocol", Int32),
    ];
    let got: Vec<_> = Stream::Slices.fields().map(|f| (f.name, f.kind)).take(want.len()).collect();
    assert_eq!(got, want);
    assert!(Stream::Slices.fields().take(want.len()).all(|f| !f.nullable));
}

#[test]
fn names_are_unique_and_never_the_ambiguous_ones() {
    for stream in [Stream::Slices, Stream::Alerts] {
        let mut names: Vec<_> = stream.fields().map(|f| f.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{stream:?}");
        assert!(!names.contains(&"bytes_in") && !names.contains(&"bytes_out"));
    }
}

#[test]
fn an_untagged_slice_has_both_detectflow_keys_empty() {
    let slices = [TaggedSlice::default()];
    let line = &lines(Stream::Slices, &slices.iter().map(Row::from).collect::<Vec<_>>())[0];
    assert_eq!((&line["sigma_rule_ids"], &line["sigma_detections"]), (&json!([]), &json!([])));
    assert_eq!(line["flow_dur"].to_string(), "0.0");
    assert!(line.get("model_score").is_none() && line.get("exporter").is_none());
}

#[test]
fn durations_are_the_nearest_double() {
    for micros in [0, 1, 999_999, 1_000_000, 1_500_000, 86_400_000_001, (1 << 53) - 1, -1, i64::MAX]
    {
        let mut text = Vec::new();
        super::ndjson::write_value(&mut text, &Value::Seconds(micros));
        let text = String::from_utf8(text).expect("digits");
        let parsed: f64 = text.parse().expect("a number");
        assert_eq!(parsed, micros as f64 / 1e6, "{text}");
    }
}

/// What a row tells of a slice: all but what the schema has no column for.
fn told(slice: &Slice) -> Slice {
    let mut told = Slice { fired: Vec::new(), ..slice.clone() };
    let most = |count: u64| count.min(i64::MAX as u64);
    told.records = most(told.records);
    let flow = &mut told.flow;
    for side in [&mut flow.fwd, &mut flow.bwd] {
        (side.octets, side.packets) = (most(side.octets), most(side.packets));
        (side.octets_l2, side.payload) = (side.octets_l2.map(most), side.payload.map(most));
    }
    flow.fwd.retransmits = match (flow.fwd.retransmits, flow.bwd.retransmits.take()) {
        (None, None) => None,
        (fwd, bwd) => Some(fwd.unwrap_or(0).saturating_add(bwd.unwrap_or(0))),
    };
    (flow.point.interface, flow.point.direction) = (0, 0);
    if flow.point.exporter == Addr::UNSPECIFIED {
        flow.point.domain = 0;
    }
    if usize::from(flow.site) >= sample::context().sites.len() {
        flow.site = 0;
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn slices_equal_their_twin(slices in vec(sample::slice(), 0..4)) {
        let rows: Vec<_> = slices.iter().map(Row::from).collect();
        let got = lines(Stream::Slices, &rows);
        prop_assert_eq!(got.len(), slices.len());
        for (got, slice) in got.into_iter().zip(&slices) {
            same(got, twin_of_slice(slice, &sample::context()));
        }
    }

    #[test]
    fn a_slice_is_read_as_it_was_written(mut slices in vec(sample::slice(), 1..4)) {
        // Seconds as a double are exact to the microsecond for 71 years at least.
        for flow in slices.iter_mut().map(|tagged| &mut tagged.slice.flow) {
            if flow.duration_us().unsigned_abs() >= 1 << 51 {
                flow.last = flow.first;
            }
        }
        let context = sample::context();
        let stream = StreamSink::new(Format::Ndjson, Select::Slices, context.clone(), Vec::new());
        let mut stream = stream.expect("memory");
        stream.write(&Batch { slices: slices.clone(), alerts: Vec::new() }).expect("memory");
        let text = stream.finish().expect("memory");
        let mut decoder = NdjsonDecoder::new(context.sites);
        let mut read = Vec::new();
        decoder.push(&text, |_, slice| read.push(slice));
        prop_assert_eq!(read, slices.iter().map(|s| Ok(told(&s.slice))).collect::<Vec<_>>());
    }

    #[test]
    fn alerts_equal_their_twin(alerts in vec(sample::alert(), 0..4)) {
        let rows: Vec<_> = alerts.iter().map(Row::from).collect();
        let got = lines(Stream::Alerts, &rows);
        prop_assert_eq!(got.len(), alerts.len());
        for (got, alert) in got.into_iter().zip(&alerts) {
            same(got, twin_of_alert(alert, &sample::context()));
        }
    }

    #[test]
    fn csv_holds_what_ndjson_holds(
        slices in vec(sample::slice(), 0..4),
        alerts in vec(sample::alert(), 0..4),
    ) {
        csv_equals_ndjson(Stream::Slices, &slices.iter().map(Row::from).collect::<Vec<_>>());
        csv_equals_ndjson(Stream::Alerts, &alerts.iter().map(Row::from).collect::<Vec<_>>());
    }
}

#[cfg(feature = "parquet")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn parquet_holds_what_ndjson_holds(
        slices in vec(sample::slice(), 0..4),
        alerts in vec(sample::alert(), 0..4),
    ) {
        parquet_equals_ndjson(Stream::Slices, &slices.iter().map(Row::from).collect::<Vec<_>>());
        parquet_equals_ndjson(Stream::Alerts, &alerts.iter().map(Row::from).collect::<Vec<_>>());
    }
}

/// Fields of the operator's own, of each type, in every format.
fn own_fields() -> Fields {
    let mut config = Config::default();
    let text = FieldValue::Text("a, \"b\"\n".to_owned());
    let fields =
        [("tenant", text), ("rack", FieldValue::Integer(-7)), ("lab", FieldValue::Bool(true))];
    config.sensor.fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
    Context::of(&config).fields
}

fn with_own(format: Format, rows: &[Row<'_>]) -> Vec<u8> {
    let layout = Layout::all(Stream::Slices).with(&own_fields());
    let encoder = Encoder::new(format, &layout, Vec::new());
    let mut encoder = encoder.expect("a known format");
    encoder.rows(rows.iter().copied(), &sample::context()).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

#[test]
fn fields_of_the_operators_own_come_last() {
    let slices = [TaggedSlice::default(), TaggedSlice::default()];
    let rows: Vec<Row<'_>> = slices.iter().map(Row::from).collect();
    let json = with_own(Format::Ndjson, &rows);
    let json = String::from_utf8(json).expect("JSON is UTF-8");
    assert_eq!(json.lines().count(), 2);
    for line in json.lines() {
        assert!(line.ends_with(r#","lab":true,"rack":-7,"tenant":"a, \"b\"\n"}"#), "{line}");
        let line: Json = serde_json::from_str(line).expect(line);
        assert_eq!(line["schema"], json!(super::schema::VERSION));
    }
    let text = with_own(Format::Csv, &rows);
    let mut csv = csv::Reader::from_reader(&*text);
    let header = csv.headers().expect("a header").clone();
    let last = |record: &csv::StringRecord| {
        record.iter().skip(record.len() - 3).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(last(&header), ["lab", "rack", "tenant"]);
    for record in csv.records() {
        assert_eq!(last(&record.expect("a row")), ["true", "-7", "a, \"b\"\n"]);
    }
    let empty = String::from_utf8(with_own(Format::Csv, &[])).expect("text");
    assert!(empty.ends_with(",lab,rack,tenant\n"), "{empty}");
}

#[cfg(feature = "parquet")]
#[test]
fn fields_of_the_operators_own_are_columns() {
    use std::io::Write as _;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let slices = [TaggedSlice::default(), TaggedSlice::default()];
    let rows: Vec<Row<'_>> = slices.iter().map(Row::from).collect();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&with_own(Format::Parquet, &rows)).expect("room");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let batch = reader.build().expect("a reader").next().expect("a batch").expect("whole");
    let column = |name: &str| batch.column_by_name(name).expect(name);
    for row in 0..2 {
        assert!(column("lab").as_boolean().value(row));
        assert_eq!(column("rack").as_primitive::<Int64Type>().value(row), -7);
        assert_eq!(column("tenant").as_string::<i32>().value(row), "a, \"b\"\n");
    }
}
