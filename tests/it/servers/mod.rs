//! Real servers for tests: each on free ports of loopback with a folder of its own, started when it
//! answers, and killed, paused and started again on the same port.
//!
//! `scripts/servers.sh` installs them. Where one is not installed, tests say SKIPPED.

mod checks;
pub(crate) mod kafka;
pub(crate) mod proxy;
pub(crate) mod s3;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The folder in which `scripts/servers.sh` installed `part`; `None`, said so, where it did not.
pub(crate) fn installed(part: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let servers = std::env::var_os("WEIR_SERVERS").map(PathBuf::from);
    let servers = servers.or_else(|| Some(cache.or_else(home)?.join("weir/servers")));
    let folder = servers.map(|servers| servers.join(part));
    let folder = folder.filter(|folder| folder.join("made-from").is_file());
    if folder.is_none() {
        eprintln!("SKIPPED: scripts/servers.sh did not install {part}");
    }
    folder
}

/// The Python with the servers' and readers' packages.
pub(crate) fn python() -> Option<PathBuf> {
    Some(installed("python")?.join("bin/python"))
}

/// Runs a script of tests/servers with `arguments`, and returns its standard output.
#[track_caller]
pub(crate) fn script(name: &str, arguments: &[&str]) -> String {
    let python = python().expect("asked for before");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name);
    let output = Command::new(python).arg(path).args(arguments).output().expect("python");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// `count` ports of loopback, free now, each another.
pub(crate) fn free_tcp_ports<const N: usize>() -> [u16; N] {
    let bound: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    bound.map(|port| port.local_addr().expect("bound").port())
}

/// A server's process. It ends with the tests, however they end: a shell keeps it, and kills it at
/// the end of its own standard input.
#[derive(Debug)]
pub(crate) struct Server {
    keeper: Child,
    id: libc::pid_t,
}

/// Starts what the arguments say, tells its id, and waits for the end of its input.
const KEEPER: &str = r#""$@" </dev/null >&2 & echo $!; read -r _; kill -KILL $! 2>/dev/null; wait"#;

impl Server {
    /// Starts `program` with `arguments`; what it says goes to `log`.
    #[track_caller]
    pub(crate) fn start(program: &Path, arguments: &[String], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(program).args(arguments);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        // A Ctrl-C on the terminal is for the tests, and ends the servers through them.
        let mut keeper = keeper.process_group(0).spawn().expect("sh");
        let mut id = String::new();
        let out = keeper.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut id).expect("a process id");
        Self { keeper, id: id.trim().parse().expect("a process id") }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, number: i32) {
        // SAFETY: no memory is involved. The id is that of a child which its keeper, alive as long
        // as `self`, has not waited for, so it is no other process's.
        assert_eq!(unsafe { libc::kill(self.id, number) }, 0, "signal {number} to a server");
    }

    /// Stops it where it stands, without closing anything.
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(libc::SIGCONT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// Waits until something listens at `address`.
#[track_caller]
pub(crate) fn answers(address: SocketAddr, log: &Path) {
    let until = Instant::now() + Duration::from_secs(90);
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        let said = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(Instant::now() < until, "nothing listens at {address}:\n{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
}
