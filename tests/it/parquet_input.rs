//! Parquet as input: labelled flows for `weir score`, and Weir's own slices as it and others write them.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, UInt8Array, UInt16Array,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use crate::score::{COLUMNS, check, rows};
use crate::system::Bench;

const BEATS: usize = 40;
/// Names need quotes in CSV; one is none.
const SCENARIOS: [Option<&str>; 3] = [Some("one"), Some("two, \"b\""), None];

/// The start of flow `i` in microseconds since the epoch.
fn start(i: usize) -> i64 {
    1_700_000_000_000_000 + (i % BEATS) as i64 * 60_000_000
}

/// A beacon of forty beats in each scenario, with the same addresses.
fn labelled(flags: u8) -> RecordBatch {
    let n = SCENARIOS.len() * BEATS;
    let texts = |f: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..n).map(f)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts_start", Arc::new(Int64Array::from_iter_values((0..n).map(start)))),
        ("duration_ms", Arc::new(Float32Array::from(vec![180.0; n]))),
        ("src_ip", texts(&|_| "192.168.1.7".into())),
        ("dst_ip", texts(&|_| "198.51.100.20".into())),
        ("src_port", Arc::new(UInt16Array::from_iter_values((0..n).map(|i| 50_000 + i as u16)))),
        ("dst_port", Arc::new(UInt16Array::from(vec![443; n]))),
        ("proto", Arc::new(UInt8Array::from(vec![6; n]))),
        ("fwd_bytes", Arc::new(Int64Array::from(vec![1_300; n]))),
        ("bwd_bytes", Arc::new(Int64Array::from(vec![2_100; n]))),
        ("fwd_pkts", Arc::new(Int32Array::from(vec![9; n]))),
        ("bwd_pkts", Arc::new(Int32Array::from(vec![8; n]))),
        ("tcp_flags", Arc::new(UInt8Array::from(vec![flags; n]))),
        ("cont", Arc::new(BooleanArray::from(vec![false; n]))),
        ("label", texts(&|_| "c2".into())),
        ("scenario", Arc::new(StringArray::from_iter((0..n).map(|i| SCENARIOS[i / BEATS])))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// The same with another column `name`, in which values may be missing.
fn with_column(batch: &RecordBatch, name: &str, other: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let column = if field.name() == name { &other } else { column };
        (field.name(), Arc::clone(column), true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn write(path: &Path, batches: &[RecordBatch], codec: Compression) {
    let file = File::create(path).expect("a file");
    let properties = WriterProperties::builder().set_compression(codec).build();
    let writer = ArrowWriter::try_new(file, batches[0].schema(), Some(properties));
    let mut writer = writer.expect("a writer");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.close().expect("closed");
}

/// All rows of a file.
fn read(path: &Path) -> Vec<RecordBatch> {
    let file = File::open(path).expect("a file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    reader.build().expect("a reader").collect::<Result<_, _>>().expect("batches")
}

/// The same in columns of CSV, which has none for TCP flags.
fn as_csv() -> String {
    let mut text = "timestamp,duration_ms,src_ip,dst_ip,src_port,dst_port,protocol,fwd_bytes,\
                    bwd_bytes,fwd_pkts,bwd_pkts,Scenario\n"
        .to_owned();
    for i in 0..SCENARIOS.len() * BEATS {
        let scenario = SCENARIOS[i / BEATS].unwrap_or_default().replace('"', "\"\"");
        let (start, port) = (start(i), 50_000 + i);
        let flow = "180,192.168.1.7,198.51.100.20";
        let counts = "443,6,1300,2100,9,8";
        writeln!(text, "{start},{flow},{port},{counts},\"{scenario}\"").expect("text");
    }
    text
}

#[test]
fn the_same_flows_score_the_same_as_csv_and_as_parquet() {
    let bench = Bench::new();
    write(&bench.path("flows.parquet"), &[labelled(0)], Compression::SNAPPY);
    bench.write("flows.csv", as_csv());
    let of_parquet = bench.weir("--quiet score flows.parquet -o -", 0).out;
    let of_csv = bench.weir("--quiet score flows.csv -o -", 0).out;
    assert_eq!(of_csv, of_parquet);
    let scenarios: Vec<Option<String>> = rows(&of_csv)
        .iter()
        .map(|row| row.get("scenario").and_then(Value::as_str).map(str::to_owned))
        .collect();
    let want = SCENARIOS.map(|name| vec![name.map(str::to_owned); 2]).concat();
    assert_eq!(scenarios, want, "two windows each");
}

/// Parquet of other columns is told what is missing.
#[test]
fn parquet_of_other_columns_is_refused() {
    let bench = Bench::new();
    write(&bench.path("flows.parquet"), &[labelled(27)], Compression::SNAPPY);
    bench.weir("--quiet score flows.parquet -o scores.parquet", 0);
    let told = bench.weir("--quiet score scores.parquet -o -", 3).err;
    let want = "weir: scores.parquet: column `ts_start` is not there, expected a whole number";
    assert!(told.starts_with(want), "{told}");
    let none = "no column `flow_id`, expected slices that Weir wrote (docs/schema.md)";
    for (name, hint) in [("scores", ""), ("flows", "; weir score reads labelled flows as these")] {
        let told = bench.weir(&format!("--quiet replay {name}.parquet -o -"), 3).err;
        assert_eq!(told, format!("weir: {name}.parquet: {none}{hint}\n"));
    }
}

#[test]
fn scenarios_are_kept_apart_and_parquet_comes_of_parquet() {
    let bench = Bench::new();
    write(&bench.path("flows.parquet"), &[labelled(27)], Compression::SNAPPY);
    bench.weir("--quiet score flows.parquet -o scores.parquet", 0);
    let batches = read(&bench.path("scores.parquet"));
    let [batch] = &batches[..] else { panic!("{} batches", batches.len()) };
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names.join(","), COLUMNS);
    let column = |name: &str| batch.column_by_name(name).expect(name);
    let scenarios: Vec<Option<&str>> = column("scenario").as_string::<i32>().iter().collect();
    assert_eq!(scenarios, SCENARIOS.map(|name| [name; 2]).concat(), "two windows each");
    let flows = column("flows").as_primitive::<Int64Type>();
    assert_eq!(flows.values().to_vec(), [32; 6]);
    let scores = column("score").as_primitive::<Float64Type>().values().to_vec();
    assert!(scores.chunks(2).all(|each| each == &scores[..2]), "the same flows and scores");
    let ndjson = rows(&bench.weir("--quiet score flows.parquet -o -", 0).out);
    ndjson.iter().for_each(check);
    let said: Vec<f64> = ndjson.iter().filter_map(|row| row["score"].as_f64()).collect();
    assert_eq!(said, scores);
}

/// What Weir reads, by the names that errors have for them.
fn codecs() -> [(&'static str, Compression); 6] {
    [
        ("none", Compression::UNCOMPRESSED),
        ("zstd", Compression::ZSTD(ZstdLevel::default())),
        ("snappy", Compression::SNAPPY),
        ("gzip", Compression::GZIP(GzipLevel::default())),
        ("lz4", Compression::LZ4),
        ("lz4_raw", Compression::LZ4_RAW),
    ]
}

/// Slices of a recording of several protocols, in `slices.parquet`.
fn slices(bench: &Bench) -> Vec<RecordBatch> {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/ipv6.pcap");
    bench.weir(&format!("--quiet replay {} -o slices.parquet", capture.display()), 0);
    read(&bench.path("slices.parquet"))
}

const COMMANDS: [&str; 2] = ["--quiet score", "--quiet replay --sorted"];

#[test]
fn every_codec_gives_the_same_rows() {
    let bench = Bench::new();
    let flows = [labelled(27)];
    let slices = slices(&bench);
    for (input, batches, commands) in
        [("flows", &flows[..], &COMMANDS[..1]), ("slices", &slices, &COMMANDS)]
    {
        for command in commands {
            let mut told = None;
            for (name, codec) in codecs() {
                write(&bench.path("coded.parquet"), batches, codec);
                let column = metadata(&bench.path("coded.parquet")).row_group(0).column(0).clone();
                assert_eq!(column.compression(), codec);
                let out = bench.weir(&format!("{command} coded.parquet -o -"), 0).out;
                assert!(!out.is_empty());
                assert_eq!(told.get_or_insert_with(|| out.clone()), &out, "{input}: {name}");
            }
        }
    }
}

fn metadata(path: &Path) -> ParquetMetaData {
    let file = File::open(path).expect("a file");
    ParquetMetaDataReader::new().parse_and_finish(&file).expect("metadata")
}

/// As no writer here knows the codec, the footer of a file says it. No page of it is read.
#[test]
fn a_codec_that_is_not_read_is_named() {
    let bench = Bench::new();
    slices(&bench);
    write(&bench.path("flows.parquet"), &[labelled(27)], Compression::SNAPPY);
    for (input, commands) in [("flows", &COMMANDS[..1]), ("slices", &COMMANDS)] {
        let path = bench.path(&format!("{input}.parquet"));
        let octets = std::fs::read(&path).expect("a file");
        let mut metadata = metadata(&path).into_builder();
        let groups = metadata.take_row_groups().into_iter().map(|group| {
            let mut group = group.into_builder();
            let columns = group.take_columns().into_iter().map(|column| {
                let brotli = Compression::BROTLI(BrotliLevel::default());
                column.into_builder().set_compression(brotli).build().expect("a column")
            });
            let columns = columns.collect();
            group.set_column_metadata(columns).build().expect("a row group")
        });
        let groups = groups.collect();
        let metadata = metadata.set_row_groups(groups).build();
        let mut coded = octets;
        ParquetMetaDataWriter::new(&mut coded, &metadata).finish().expect("a footer");
        bench.write("coded.parquet", coded);
        for command in commands {
            let told = bench.weir(&format!("{command} coded.parquet -o -"), 3).err;
            let want = "weir: coded.parquet: columns are compressed by brotli, expected zstd, \
                        snappy, gzip, lz4 or none: write it with compression=\"zstd\"\n";
            assert_eq!(told, want, "{command} {input}");
        }
    }
}

/// A column that lacks a value becomes one of doubles in pandas.
#[test]
fn doubles_that_are_whole_numbers_are_read_as_these() {
    let bench = Bench::new();
    let flows = labelled(27);
    let with = |packets: &dyn Fn(usize) -> f64| {
        let doubles = Float64Array::from_iter_values((0..flows.num_rows()).map(packets));
        with_column(&flows, "bwd_pkts", Arc::new(doubles))
    };
    let half = |row| if row == 2 { 0.5 } else { 8.0 };
    for (name, batch) in
        [("flows", flows.clone()), ("doubles", with(&|_| 8.0)), ("halves", with(&half))]
    {
        write(&bench.path(&format!("{name}.parquet")), &[batch], Compression::SNAPPY);
    }
    let want = bench.weir("--quiet score flows.parquet -o -", 0).out;
    assert_eq!(bench.weir("--quiet score doubles.parquet -o -", 0).out, want);
    let told = bench.weir("--quiet score halves.parquet -o -", 3).err;
    let says = "weir: halves.parquet: row 3: `bwd_pkts` is `0.5`, expected a whole number\n";
    assert_eq!(told, says);
}

/// What no flow can be is refused by row, column and value, and not scored as something else.
#[test]
fn impossible_values_are_refused_by_name() {
    let bench = Bench::new();
    let flows = labelled(27);
    let n = flows.num_rows();
    let doubles = |second: Option<f64>| -> ArrayRef {
        let value = |row| if row == 1 { second } else { Some(1.0) };
        Arc::new(Float64Array::from_iter((0..n).map(value)))
    };
    let longest = 3_153_600_000_000.0;
    let ms = "a number of milliseconds, 0 to 3153600000000";
    let since = "microseconds since the epoch, 0 or more";
    let count = "a whole number, 0 or more";
    for (column, value, shown, expected) in [
        ("duration_ms", Some(f64::INFINITY), "inf", ms),
        ("duration_ms", Some(f64::NAN), "NaN", ms),
        ("duration_ms", Some(-0.5), "-0.5", ms),
        ("duration_ms", Some(longest + 1.0), "3153600000001", ms),
        ("duration_ms", None, "null", ms),
        ("ts_start", Some(-1.0), "-1", since),
        ("ts_start", None, "null", since),
        ("fwd_bytes", Some(-1.0), "-1", count),
        ("fwd_bytes", None, "null", count),
        ("bwd_bytes", Some(-2.0), "-2", count),
        ("bwd_bytes", None, "null", count),
        ("fwd_pkts", Some(-3.0), "-3", count),
        ("fwd_pkts", None, "null", count),
        ("bwd_pkts", Some(-4.0), "-4", count),
        ("bwd_pkts", None, "null", count),
    ] {
        let batch = with_column(&flows, column, doubles(value));
        write(&bench.path("bad.parquet"), &[batch], Compression::SNAPPY);
        let told = bench.weir("--quiet score bad.parquet -o -", 3).err;
        let want =
            format!("weir: bad.parquet: row 2: `{column}` is `{shown}`, expected {expected}\n");
        assert_eq!(told, want);
    }
    let of_type = |column, array| {
        write(
            &bench.path("bad.parquet"),
            &[with_column(&flows, column, array)],
            Compression::SNAPPY,
        );
    };
    of_type("duration_ms", doubles(Some(longest)));
    bench.weir("--quiet score bad.parquet -o -", 0);
    of_type("cont", Arc::new(StringArray::from(vec!["no"; n])));
    let told = bench.weir("--quiet score bad.parquet -o -", 3).err;
    assert_eq!(told, "weir: bad.parquet: column `cont` is Utf8, expected a truth value\n");
}

/// The footer is at the end: without it nothing of a file can be read.
#[test]
fn parquet_without_its_footer_is_told_as_cut_short() {
    let bench = Bench::new();
    slices(&bench);
    let octets = std::fs::read(bench.path("slices.parquet")).expect("a file");
    bench.write("cut.parquet", &octets[..octets.len() - 100]);
    for command in COMMANDS {
        let told = bench.weir(&format!("{command} cut.parquet -o -"), 3).err;
        assert!(told.starts_with("weir: cut.parquet: cut short or no Parquet: "), "{told}");
    }
}

/// pandas writes snappy, texts with other offsets, doubles where whole numbers lack one, and columns
/// of no type where nothing stands; DuckDB reads and writes types of its own.
#[cfg(feature = "kafka")]
#[test]
fn what_pandas_and_duckdb_write_again_is_read() {
    if crate::servers::python().is_none() {
        return;
    }
    let bench = Bench::new();
    slices(&bench);
    write(&bench.path("flows.parquet"), &[labelled(27)], Compression::SNAPPY);
    crate::servers::script("write_again.py", &[&bench.path("").to_string_lossy()]);
    for (input, commands) in [("flows", &COMMANDS[..1]), ("slices", &COMMANDS)] {
        for command in commands {
            let want = bench.weir(&format!("{command} {input}.parquet -o -"), 0).out;
            for by in ["pandas", "duckdb"] {
                let told = bench.weir(&format!("{command} {input}.{by}.parquet -o -"), 0).out;
                assert!(told == want, "{command} {input}, by {by}");
            }
            let told = bench.weir(&format!("{command} {input}.brotli.parquet -o -"), 3).err;
            assert!(told.contains("columns are compressed by brotli, expected zstd"), "{told}");
        }
    }
}
