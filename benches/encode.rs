//! What delivering a slice costs, by format and by sink: CPU seconds of one thread for a million
//! slices.
//!
//! Formats are written to nowhere from slices in memory. Sinks read the spool, as they do in the
//! sensor, and deliver to a server in this process that takes everything; its threads, and the
//! spool's, are not counted. The kernel's work on sockets and files is.
//!
//! `cargo bench --bench encode [-- NAME [SLICES]]`

#![expect(clippy::print_stdout, reason = "the report")]

use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;

use weir::config::{self, Config, Durability, Format, Select};
use weir::detect::{Level, RuleMeta, TaggedSlice, Technique};
use weir::flow::{Biflow, FlowId, Side, Slice};
use weir::metrics::stages::thread_cpu;
use weir::net::Addr;
use weir::output::remote::{self, http, ipfix, syslog};
use weir::output::schema::{Context, Layout};
use weir::output::spool::{
    Behind, Delivered, Failure, ObjectTarget, Objects, Place, Spool, Stop, Target, Unit,
};
use weir::output::{Batch, Encoder, FilesSink, Sink, Stream};
use weir::time::Micros;

/// Slices of a batch, as workers hand them over.
const BATCH: usize = 512;
/// 2025-10-09.
const START: i64 = 1_760_000_000_000_001;

const FORMATS: [Format; 8] = [
    Format::Ndjson,
    Format::Csv,
    Format::Parquet,
    Format::Detectflow,
    Format::Ecs,
    Format::Ocsf,
    Format::Protobuf,
    Format::Cef,
];

/// A number that follows from `n` and looks like none of its neighbours.
const fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// Flows of 5,000 clients with 50,000 servers, one of a hundred tagged, one of ten over IPv6.
fn slices(count: usize) -> Vec<TaggedSlice> {
    let technique = Technique { id: "T1071.001".into(), name: Some("Web Protocols".into()) };
    let rule = Arc::new(RuleMeta {
        id: "5b0f3a0e-6f0c-4f0e-9a55-3a1c0f6f1d11".into(),
        title: "A Rule Of Some Length".into(),
        level: Level::High,
        techniques: vec![technique],
        ..RuleMeta::default()
    });
    let slice = |number: usize| {
        let n = mix(number as u64 + 1);
        let (client, server) = ((n % 5_000) as u32, (n >> 20) as u32 % 50_000);
        let (src, dst) = if n.is_multiple_of(10) {
            let v6 = |low: u32| Addr(0x2001_0db8_u128 << 96 | u128::from(low) << 3);
            (v6(client), v6(server))
        } else {
            (Addr::v4(0x0a00_0000 | client), Addr::v4(0xc612_0000 | server))
        };
        let side = |octets: u64| Side {
            octets,
            packets: octets / 700 + 1,
            tcp_flags: Some(0x1b),
            ..Side::default()
        };
        let first = Micros(START + (number as i64) * 13);
        let flow = Biflow {
            src,
            dst,
            src_port: 1_024 + (n >> 40) as u16 % 60_000,
            dst_port: [443, 80, 53, 22][n as usize >> 60 & 3],
            protocol: 6,
            first,
            last: Micros(first.0 + (n % 9_000_000) as i64),
            fwd: side(n % 40_000),
            bwd: side(mix(n) % 400_000),
            ..Biflow::default()
        };
        let flow_id = FlowId(u128::from(n) << 64 | u128::from(mix(n)));
        let slice = Slice { flow_id, flow, records: 2, ..Slice::default() };
        let rules = if number.is_multiple_of(100) { vec![Arc::clone(&rule)] } else { Vec::new() };
        TaggedSlice { slice, rules, excluded: None, verdict: None }
    };
    (0..count).map(slice).collect()
}

fn context() -> Context {
    Context { sensor: "sensor-1".into(), ..Context::of(&Config::default()) }
}

fn row(name: &str, cpu: Duration, slices: usize, octets: u64) {
    let million = cpu.as_secs_f64() * 1e6 / slices as f64;
    let octets = octets as f64 / slices as f64;
    println!("| {name} | {million:.2} | {octets:.0} |");
}

/// Counts what is written.
#[derive(Default)]
struct Nowhere(u64);

impl Write for Nowhere {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0 += black_box(octets).len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all slices in `format`, and returns what came of the writer.
fn written<W: Write + Send>(format: Format, slices: &[TaggedSlice], writer: W) -> W {
    let context = context();
    let layout = Layout::all(Stream::Slices).with(&context.fields);
    let mut encoder = Encoder::new(format, &layout, writer).expect("a format of slices");
    for some in slices.chunks(BATCH) {
        encoder.slices(some, &context).expect("nowhere takes all");
    }
    encoder.finish().expect("nowhere takes all")
}

fn format(format: Format, slices: &[TaggedSlice]) {
    let began = thread_cpu();
    let Nowhere(octets) = written(format, slices, Nowhere::default());
    row(&format!("format {}", format.as_str()), thread_cpu() - began, slices.len(), octets);
}

fn compressions(slices: &[TaggedSlice]) {
    let began = thread_cpu();
    let gzip = GzEncoder::new(Nowhere::default(), flate2::Compression::fast());
    let Nowhere(octets) = written(Format::Ndjson, slices, gzip).finish().expect("nowhere");
    row("format ndjson, gzip", thread_cpu() - began, slices.len(), octets);
    let began = thread_cpu();
    let zstd = zstd::stream::Encoder::new(Nowhere::default(), 3).expect("a level");
    let Nowhere(octets) = written(Format::Ndjson, slices, zstd).finish().expect("nowhere");
    row("format ndjson, zstd", thread_cpu() - began, slices.len(), octets);
}

/// CPU time of deliveries, and their octets.
type Spent = Arc<Mutex<(Duration, u64)>>;

/// Does nothing, or what is inside, and takes the time.
struct Timed<T>(T, Spent);

impl<T> Timed<T> {
    fn take(
        &mut self,
        work: impl FnOnce(&mut T) -> Result<Delivered, Failure>,
    ) -> Result<Delivered, Failure> {
        let began = thread_cpu();
        let delivered = work(&mut self.0);
        let mut spent = self.1.lock().expect("no panic");
        spent.0 += thread_cpu() - began;
        match &delivered {
            Ok(delivered) => {
                assert!(delivered.dead.is_empty(), "{delivered:?}");
                spent.1 += delivered.octets;
            }
            Err(error) => panic!("{error:?}"),
        }
        delivered
    }
}

impl Target for Timed<Box<dyn Target>> {
    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure> {
        self.take(|target| target.deliver(unit, stop))
    }

    fn unit_records(&self) -> usize {
        self.0.unit_records()
    }
}

impl ObjectTarget for Timed<Box<dyn ObjectTarget>> {
    fn deliver(&mut self, objects: &Objects<'_>, stop: &Stop) -> Result<Delivered, Failure> {
        self.take(|target| target.deliver(objects, stop))
    }
}

/// Delivers all slices through a spool in `directory` to `place`.
fn through(directory: &Path, batches: &[Arc<Batch>], place: Place) {
    let settings = config::Spool {
        directory: directory.into(),
        memory_records_max: 10_000_000,
        stop_s: 600,
        ..config::Spool::default()
    };
    let (select, durability) = (Select::Slices, Durability::Disk);
    let sinks = vec![Behind { name: "bench".into(), select, durability, place }];
    let spool = Spool::start(&settings, sinks, context()).expect("a spool");
    batches.iter().for_each(|batch| spool.offer_blocking(batch));
    let ledger = spool.close()["bench"].clone();
    assert_eq!(ledger.acknowledged, ledger.selected, "{ledger:?}");
}

fn stream(name: &str, batches: &[Arc<Batch>], target: Box<dyn Target>) {
    let (directory, spent) = (tempfile::tempdir().expect("a folder"), Spent::default());
    let place = Place::Stream(Box::new(Timed(target, Arc::clone(&spent))));
    through(directory.path(), batches, place);
    told(name, batches, &spent);
}

fn objects(name: &str, batches: &[Arc<Batch>], more: &str) {
    let (directory, spent) = (tempfile::tempdir().expect("a folder"), Spent::default());
    let address = server(|_| (200, "", "etag: \"1\"\r\n"));
    std::fs::write(directory.path().join("secret"), "secret").expect("room");
    let text = format!(
        "[[output.s3]]\nurl = \"s3://bench\"\nendpoint = \"http://{address}\"\n\
         access_key_id = \"key\"\nsecret_access_key = {{ file = \"{}\" }}\n\
         part_bytes = 1073741824\n{more}",
        directory.path().join("secret").display()
    );
    let config = config::parse("bench", &text).expect("valid");
    let table = &config.output.s3[0];
    let store = remote::s3::Store::new(table, &context(), directory.path()).expect("a store");
    let target: Box<dyn ObjectTarget> = Box::new(store);
    let place = Place::Objects(Box::new(Timed(target, Arc::clone(&spent))));
    through(&directory.path().join("spool"), batches, place);
    told(name, batches, &spent);
}

fn told(name: &str, batches: &[Arc<Batch>], spent: &Spent) {
    let (cpu, octets) = *spent.lock().expect("no panic");
    row(name, cpu, batches.iter().map(|batch| batch.slices.len()).sum(), octets);
}

/// A server of HTTP/1.1 that reads requests and answers what `answer` makes of the path.
fn server(answer: fn(&str) -> (u16, &'static str, &'static str)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || drop(serve(BufReader::new(client), answer)));
        }
    });
    address
}

fn serve(
    mut client: BufReader<std::net::TcpStream>,
    answer: fn(&str) -> (u16, &'static str, &'static str),
) -> io::Result<()> {
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if client.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            client.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        io::copy(&mut client.by_ref().take(length), &mut io::sink())?;
        let (status, body, headers) = answer(&first);
        let octets = body.len();
        let head = format!("HTTP/1.1 {status} Said\r\n{headers}content-length: {octets}\r\n\r\n");
        client.get_mut().write_all((head + body).as_bytes())?;
    }
}

/// A TCP server that reads.
fn drain() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || drop(io::copy(&mut client, &mut io::sink())));
        }
    });
    address
}

/// Does nothing with what it gets: the rest is what reading the spool costs.
struct Nothing;

impl Target for Nothing {
    fn deliver(&mut self, unit: &dyn Unit, _: &Stop) -> Result<Delivered, Failure> {
        black_box(unit.len());
        Ok(Delivered::default())
    }
}

/// The CPU time of the spool itself: appending in its writer, reading in a sink's thread.
fn spool(batches: &[Arc<Batch>]) {
    let directory = tempfile::tempdir().expect("a folder");
    let (before, own) = (process_cpu(), thread_cpu());
    through(directory.path(), batches, Place::Stream(Box::new(Nothing)));
    let cpu = process_cpu() - before - (thread_cpu() - own);
    row("spool, append and read", cpu, batches.iter().map(|b| b.slices.len()).sum(), 0);
}

/// CPU time of the whole process so far, from /proc/self/stat: in ticks of 10 ms.
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ').skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().expect("ticks") * 10).sum())
}

fn files(format: Format, batches: &[Arc<Batch>]) {
    let directory = tempfile::tempdir().expect("a folder");
    let place = directory.path().to_owned();
    let config = config::Files { directory: place, format, ..config::Files::default() };
    let sink = FilesSink::spawn(config, context()).expect("a thread");
    let (before, own) = (process_cpu(), thread_cpu());
    batches.iter().for_each(|batch| sink.offer_blocking(batch));
    let ledger = sink.close();
    assert_eq!(ledger.acknowledged, ledger.selected);
    let cpu = process_cpu() - before - (thread_cpu() - own);
    let octets = sink.status().octets;
    let name = format!("files, {}", format.as_str());
    row(&name, cpu, batches.iter().map(|b| b.slices.len()).sum(), octets);
}

fn remotes(batches: &[Arc<Batch>], wanted: &dyn Fn(&str) -> bool) {
    let layout = Layout::all(Stream::Slices).with(&context().fields);
    let named = |name: &str, make: &dyn Fn() -> Box<dyn Target>| {
        if wanted(name) {
            stream(name, batches, make());
        }
    };
    let token = tempfile::NamedTempFile::new().expect("room");
    std::fs::write(token.path(), "token").expect("room");
    let secret = || Some(config::Secret::File(token.path().to_owned()));
    let http = || config::Http { gzip: false, ..config::Http::default() };
    named("hec, ndjson", &|| {
        let url = format!("http://{}", server(|_| (200, r#"{"text":"Success","code":0}"#, "")));
        let table = config::Hec { url, token: secret(), http: http(), ..config::Hec::default() };
        http::hec(&table, &layout, "sensor-1").expect("a target")
    });
    named("elasticsearch, ecs", &|| {
        let server = server(|_| (200, r#"{"errors":false,"items":[]}"#, ""));
        let url = format!("http://{server}");
        let table = config::Elasticsearch { url, http: http(), ..config::Elasticsearch::default() };
        http::elasticsearch(&table, &layout, "sensor-1").expect("a target")
    });
    named("webhook, ndjson", &|| {
        let url = format!("http://{}", server(|_| (200, "ok", "")));
        let table = config::Webhook { url, http: http(), ..config::Webhook::default() };
        http::webhook(&table, &layout).expect("a target")
    });
    named("syslog, cef over TCP", &|| {
        let table = config::Syslog { address: drain(), ..config::Syslog::default() };
        syslog::syslog(&table, &layout, "sensor-1").expect("a target")
    });
    named("ipfix over TCP", &|| {
        ipfix::ipfix(&config::Ipfix { address: drain(), ..config::Ipfix::default() })
    });
    for (name, more) in [
        ("s3, ndjson, gzip", "compression = \"gzip\"\n"),
        ("s3, ndjson, zstd", "compression = \"zstd\"\n"),
        ("s3, parquet", "format = \"parquet\"\n"),
    ] {
        if wanted(name) {
            objects(name, batches, more);
        }
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let name = arguments.first().cloned().unwrap_or_default();
    let count = arguments.get(1).map_or(200_000, |count| count.parse().expect("slices"));
    let slices = slices(count);
    let wanted = |row: &str| row.contains(&name);
    println!("| what | CPU s per million slices | octets a slice |\n|---|---|---|");
    let began = Instant::now();
    for each in FORMATS {
        if wanted(&format!("format {}", each.as_str())) {
            format(each, &slices);
        }
    }
    if wanted("format ndjson, gzip") || wanted("format ndjson, zstd") {
        compressions(&slices);
    }
    let batch =
        |slices: &[TaggedSlice]| Arc::new(Batch { slices: slices.to_vec(), alerts: Vec::new() });
    let batches: Vec<_> = slices.chunks(BATCH).map(batch).collect();
    if wanted("spool, append and read") {
        spool(&batches);
    }
    for format in [Format::Ndjson, Format::Parquet] {
        if wanted(&format!("files, {}", format.as_str())) {
            files(format, &batches);
        }
    }
    remotes(&batches, &wanted);
    eprintln!("{} slices, {:.1} s", slices.len(), began.elapsed().as_secs_f64());
}
