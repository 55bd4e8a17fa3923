//! The binary as users run it: commands in a folder of their own, the sensor as a process, and
//! waiting with deadlines instead of sleeping.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Much longer than anything takes, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: `WEIR_BIN` if it is set, else the one that was built with the tests.
pub(crate) fn binary() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_weir"));
    std::env::var_os("WEIR_BIN").map_or_else(built, PathBuf::from)
}

pub(crate) fn weir() -> Command {
    let mut command = Command::new(binary());
    command.env_remove("WEIR_LOG").env_remove("RUST_LOG").env("NO_COLOR", "1");
    for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    command
}

/// Whether `program` is there; says that a test was skipped if not.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = paths.split(':').any(|folder| Path::new(folder).join(program).is_file());
    if !found {
        eprintln!("SKIPPED: no {program} on this machine");
    }
    found
}

/// Asks `poll` until it answers.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Standard output as JSON lines.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        json_lines(&self.out)
    }
}

#[track_caller]
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// A folder with files, in which commands run.
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file; folders on the way are made.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
        self
    }

    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect(name)
    }

    /// Runs `weir` with `args`, split at blanks, and wants it to end with `code`.
    #[track_caller]
    pub(crate) fn weir(&self, args: &str, code: i32) -> Ended {
        self.piped(args, Vec::new(), code)
    }

    /// The same, with standard input.
    #[track_caller]
    pub(crate) fn piped(&self, args: &str, input: impl Into<Vec<u8>>, code: i32) -> Ended {
        let mut command = assert_cmd::Command::from_std(weir());
        command.current_dir(self.folder.path()).args(args.split_whitespace());
        let output = command.timeout(PATIENCE).write_stdin(input).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let ended = Ended { code: output.status.code(), out, err };
        assert_eq!(ended.code, Some(code), "weir {args}\n{}\n{}", ended.out, ended.err);
        ended
    }
}

/// Sends `number` to a process that we started.
pub(crate) fn kill(process: &Child, number: i32) {
    let id = i32::try_from(process.id()).expect("a process id");
    // SAFETY: no memory is involved; the process is ours and not reaped, so the id is its own.
    assert_eq!(unsafe { libc::kill(id, number) }, 0, "signal {number}");
}

/// Waits until a process that we started ends; kills it at the deadline.
#[track_caller]
pub(crate) fn reap(process: &mut Child) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > until {
            drop(process.kill());
            panic!("a process does not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A UDP and a TCP port of 127.0.0.1 that are free now.
pub(crate) fn free_ports() -> (u16, u16) {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    (udp.local_addr().expect("bound").port(), tcp.local_addr().expect("bound").port())
}

/// A running `weir run`. Ended with the test.
pub(crate) struct Sensor {
    pub(crate) process: Child,
    pub(crate) netflow: u16,
    pub(crate) admin: u16,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// The configuration of a sensor in `bench`: `{N}` and `{A}` are its ports.
const CONFIG: &str = r#"
[sensor]
name = "probe"
workers = 2
pin = false
state_directory = "state"
[input.netflow]
listen = ["127.0.0.1:{N}"]
receive_buffer_bytes = 4194304
[admin]
listen = "127.0.0.1:{A}"
[rules]
directories = ["rules"]
watch_s = 0
"#;

impl Sensor {
    /// Writes `weir.toml` (what all have, then `more`) and starts a sensor on it.
    #[track_caller]
    pub(crate) fn start(bench: &Bench, more: &str) -> Self {
        let (netflow, admin) = free_ports();
        fs::create_dir_all(bench.path("rules")).expect("made");
        Self::configure(bench, more, (netflow, admin));
        Self::spawn(weir(), bench, (netflow, admin)).ready()
    }

    pub(crate) fn configure(bench: &Bench, more: &str, (netflow, admin): (u16, u16)) {
        let text = CONFIG.replace("{N}", &netflow.to_string());
        bench.write("weir.toml", text.replace("{A}", &admin.to_string()) + more);
    }

    /// Starts `command`, to which the arguments of the sensor are added.
    pub(crate) fn spawn(command: Command, bench: &Bench, ports: (u16, u16)) -> Self {
        Self::spawn_at(command, &bench.path("weir.toml"), ports)
    }

    /// The same on the configuration in `path`.
    pub(crate) fn spawn_at(mut command: Command, path: &Path, ports: (u16, u16)) -> Self {
        command.args(["run", "-c"]).arg(path);
        let mut process =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("spawned");
        let mut stderr = process.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(octets @ 1..) = stderr.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..octets]);
                shared.lock().expect("a log").push_str(&text);
            }
        });
        Self { process, netflow: ports.0, admin: ports.1, log, reader: Some(reader) }
    }

    /// Waits until it says so.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Self {
        wait_for("a sensor that runs", || {
            let ended = self.process.try_wait().expect("a child");
            assert!(ended.is_none(), "{ended:?}\n{}", self.log());
            self.log().contains("running config=").then_some(())
        });
        self
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("a log").clone()
    }

    /// Waits until the log holds `text`.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    /// GET: the status and the body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        Self::get_at(self.admin, path)
    }

    fn get_at(port: u16, path: &str) -> (u16, String) {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("admin");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: weir\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        let status = head.split(' ').nth(1).expect(head);
        (status.parse().expect(head), body.to_owned())
    }

    /// The value of a metric, labels included in `name`; `None` while it is not there.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        Self::metric_at(self.admin, name)
    }

    /// The same of whoever listens at `port`.
    pub(crate) fn metric_at(port: u16, name: &str) -> Option<f64> {
        let (_, text) = Self::get_at(port, "/metrics");
        let line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(line)
    }

    /// Waits until `name` is at least `value`.
    #[track_caller]
    pub(crate) fn reaches(&self, name: &str, value: f64) {
        let what = format!("{name} at {value}");
        wait_for(&what, || self.metric(name).filter(|&now| now >= value));
    }

    /// The whole report on exporters.
    pub(crate) fn exporters(&self) -> Value {
        serde_json::from_str(&self.get("/exporters").1).expect("JSON")
    }

    /// Sends a datagram from a socket of its own, or from `from`.
    pub(crate) fn send(&self, from: &UdpSocket, payload: &[u8]) {
        from.send_to(payload, ("127.0.0.1", self.netflow)).expect("sent");
    }

    /// SIGTERM; wants it to end well. Returns the final ledgers, which balance, and the log.
    #[track_caller]
    pub(crate) fn stop(self) -> (Value, String) {
        kill(&self.process, libc::SIGTERM);
        self.finish()
    }

    /// The same, where it was told to stop already.
    #[track_caller]
    pub(crate) fn finish(mut self) -> (Value, String) {
        let status = reap(&mut self.process);
        let log = self.ended();
        assert!(status.success(), "{status:?}\n{log}");
        let last = log.lines().rfind(|line| line.contains("ledgers=")).expect(&log);
        (ledgers(last), log)
    }

    /// The whole log of a process that ended.
    pub(crate) fn ended(&mut self) -> String {
        self.reader.take().expect("read once").join().expect("a log");
        self.log()
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The ledgers in the last line of a log: `ledgers="{\"datagrams\":...}"`.
#[track_caller]
fn ledgers(line: &str) -> Value {
    let text = line.split_once("ledgers=").expect(line).1;
    let text: String = serde_json::from_str(text).expect(text);
    let ledgers = serde_json::from_str(&text).expect(&text);
    balances(&ledgers);
    ledgers
}

/// Holds the five ledgers, and each sink's, to their equations.
#[track_caller]
pub(crate) fn balances(ledgers: &Value) {
    let sum = |value: &Value| match value {
        Value::Object(counts) => counts.values().map(|n| n.as_u64().expect("a count")).sum(),
        number => number.as_u64().expect("a count"),
    };
    let holds = |ledger: &Value, left: &str, right: &[&str]| {
        let total: u64 = right.iter().map(|name| sum(&ledger[name])).sum();
        assert_eq!(sum(&ledger[left]), total, "{left} = {right:?}: {ledger}");
    };
    let octets = ["decoded_octets", "waiting_octets", "dropped_octets"];
    holds(&ledgers["datagrams"], "received", &["decoded", "rejected"]);
    holds(&ledgers["packets"], "read", &["metered", "excepted"]);
    holds(&ledgers["data_sets"], "seen", &["decoded", "waiting", "dropped"]);
    holds(&ledgers["data_sets"], "seen_octets", &octets);
    holds(&ledgers["records"], "decoded", &["merged", "duplicate", "not_a_flow", "dropped"]);
    holds(&ledgers["slices"], "opened", &["shipped", "held"]);
    let records =
        sum(&ledgers["slices"]["shipped_records"]) + sum(&ledgers["slices"]["held_records"]);
    assert_eq!(sum(&ledgers["records"]["merged"]), records, "{ledgers}");
    for sink in ledgers["sinks"].as_object().expect("sinks").values() {
        holds(sink, "selected", &["acknowledged", "spooled", "shed"]);
    }
}

/// Files in `folder` that end in `.{extension}`, sorted.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|p| p.to_string_lossy().ends_with(&format!(".{extension}"))).collect();
    paths.sort();
    paths
}

/// All records in the finished NDJSON files of `folder`.
#[track_caller]
pub(crate) fn records(folder: &Path) -> Vec<Value> {
    let text = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    files(folder, "ndjson").iter().flat_map(|path| json_lines(&text(path))).collect()
}
