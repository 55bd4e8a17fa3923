//! `[[output.tee]]` as it is run: datagrams of several exporters, through the sensor in one network
//! namespace to collectors in another.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::netflow::build::{fixed, fixed_record};
use crate::peers::Program;
use crate::system::{Bench, PATIENCE, Sensor, free_ports, has, kill, reap, wait_for, weir};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which ends with it.
struct Space {
    jobs: Option<Sender<Job>>,
    /// The thread's id, by which others reach its namespace.
    id: i32,
    thread: Option<JoinHandle<()>>,
}

impl Space {
    /// `None`, said so, without the right to make one.
    fn new() -> Option<Self> {
        let (jobs, queue) = channel::<Job>();
        let (sender, made) = channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: both take no pointer and change only this thread.
            let (result, id) = unsafe { (libc::unshare(libc::CLONE_NEWNET), libc::gettid()) };
            sender.send((result == 0).then_some(id)).expect("waited for");
            queue.into_iter().for_each(|job| job());
        });
        let Some(id) = made.recv().expect("an answer") else {
            eprintln!("SKIPPED: no right to make a network namespace");
            return None;
        };
        Some(Self { jobs: Some(jobs), id, thread: Some(thread) })
    }

    /// Runs `job` there; what it spawns stays there, and its sockets, too.
    #[track_caller]
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let job = Box::new(move || drop(sender.send(job())));
        self.jobs.as_ref().expect("open").send(job).expect("a thread");
        result.recv().expect("it did not panic")
    }

    #[track_caller]
    fn sh(&self, script: String) {
        let output = self.run(move || Command::new("sh").args(["-ec", &script]).output());
        let output = output.expect("sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.jobs.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A sensor's namespace, in which exporters are, too, and that of the collectors behind it.
fn spaces() -> Option<(Space, Space)> {
    let (near, far) = (Space::new()?, Space::new()?);
    near.sh(format!(
        "ip link set lo up
         ip link add near type veth peer name far
         ip link set far netns {}
         ip addr add 10.0.0.1/24 dev near; ip addr add fd00::1/64 dev near nodad
         ip link set near up
         for exporter in 10.9.0.1/32 10.9.0.2/32; do ip addr add $exporter dev lo; done
         ip addr add fd09::1/128 dev lo nodad",
        far.id
    ));
    far.sh("ip link set lo up
         ip addr add 10.0.0.2/24 dev far; ip addr add fd00::2/64 dev far nodad
         ip link set far up
         ip route add default via 10.0.0.1; ip -6 route add default via fd00::1"
        .to_owned());
    Some((near, far))
}

const TEES: &str = r#"
[[output.tee]]
name = "four"
address = "10.0.0.2:9995"
[[output.tee]]
name = "six"
address = "[fd00::2]:9995"
[[output.tee]]
name = "chosen"
address = "10.0.0.2:9996"
exporters = ["10.9.0.2/32", "2001:db8::/32"]
"#;

/// A sensor in `near` that listens on all its addresses, started by `command`.
fn sensor(near: &Space, bench: &Bench, command: Command) -> Sensor {
    std::fs::create_dir_all(bench.path("rules")).expect("made");
    let path = (bench.path("weir.toml"), bench.path("rules"), bench.path("state"));
    near.run(move || {
        let (netflow, admin) = free_ports();
        let text = format!(
            "[sensor]\nworkers = 1\npin = false\nstate_directory = \"{}\"\n\
             [input.netflow]\nlisten = [\"[::]:{netflow}\"]\nreceive_buffer_bytes = 4194304\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n[rules]\ndirectories = [\"{}\"]\n{TEES}",
            path.2.display(),
            path.1.display()
        );
        std::fs::write(&path.0, text).expect("room");
        Sensor::spawn_at(command, &path.0, (netflow, admin)).ready()
    })
}

/// A datagram of an exporter: from where, and what.
type Sent = (SocketAddr, Vec<u8>);

/// Sends datagrams of version 5 from three exporters, of even and odd lengths.
fn export(near: &Space, port: u16) -> Vec<Sent> {
    near.run(move || {
        let mut sent = Vec::new();
        for (number, (from, to)) in
            [("10.9.0.1", "10.0.0.1"), ("10.9.0.2", "10.0.0.1"), ("fd09::1", "fd00::1")]
                .into_iter()
                .enumerate()
        {
            let ip: IpAddr = from.parse().expect("an address");
            let socket = UdpSocket::bind((ip, 0)).expect("an exporter's address");
            let mut payload = fixed(5, 29, 1, 0, &vec![fixed_record(); 29]);
            payload.resize(payload.len() + number, 0);
            let to: IpAddr = to.parse().expect("an address");
            socket.send_to(&payload, (to, port)).expect("sent");
            sent.push((socket.local_addr().expect("bound"), payload));
        }
        sent
    })
}

/// Collectors of `far`, at these addresses.
fn collectors(far: &Space) -> [UdpSocket; 3] {
    far.run(|| {
        ["10.0.0.2:9995", "[fd00::2]:9995", "10.0.0.2:9996"].map(|address| {
            let socket = UdpSocket::bind(address).expect("free");
            socket.set_read_timeout(Some(PATIENCE)).expect("set");
            socket
        })
    })
}

/// The next `count` datagrams, by source.
#[track_caller]
fn received(socket: &UdpSocket, count: usize) -> Vec<Sent> {
    let mut got: Vec<Sent> = Vec::new();
    let mut octets = vec![0; 65_535];
    for _ in 0..count {
        let (length, from) = socket.recv_from(&mut octets).expect("a datagram");
        got.push((from, octets[..length].to_vec()));
    }
    got.sort_by_key(|(_, payload)| payload.len());
    got
}

fn nothing_more(socket: &UdpSocket) {
    socket.set_nonblocking(true).expect("set");
    assert!(socket.recv(&mut [0; 10]).is_err(), "one datagram too many");
}

fn metric(near: &Space, sensor: &Sensor, name: &'static str) -> Option<f64> {
    let port = sensor.admin;
    near.run(move || Sensor::metric_at(port, name))
}

#[test]
fn collectors_behind_see_exporters_as_if_they_stood_before() {
    let Some((near, far)) = spaces() else { return };
    let [four, six, chosen] = collectors(&far);
    let bench = Bench::new();
    let sensor = sensor(&near, &bench, weir());
    let sent = export(&near, sensor.netflow);
    let own = |at: &str, payload: &Vec<u8>| (at.parse::<IpAddr>().expect("one"), payload.clone());
    let ends = |got: &[Sent]| got.iter().map(|(f, p)| (f.ip(), p.clone())).collect::<Vec<_>>();

    let got = received(&four, 3);
    assert_eq!(got[..2], sent[..2], "addresses, ports and octets");
    assert_eq!(ends(&got[2..]), [own("10.0.0.1", &sent[2].1)], "IPv6 does not fit");
    let got = received(&six, 3);
    assert_eq!(got[2], sent[2]);
    let want = [own("fd00::1", &sent[0].1), own("fd00::1", &sent[1].1)];
    assert_eq!(ends(&got[..2]), want, "IPv4 does not fit");
    assert_eq!(received(&chosen, 1), sent[1..2]);
    wait_for("the counts", || {
        let sent = metric(&near, &sensor, "weir_tee_datagrams_total{tee=\"four\"}");
        sent.filter(|&sent| sent >= 3.0)
    });
    for (name, want) in [
        ("weir_tee_datagrams_own_source_total{tee=\"four\"}", 1.0),
        ("weir_tee_datagrams_own_source_total{tee=\"chosen\"}", 0.0),
        ("weir_tee_datagrams_total{tee=\"chosen\"}", 1.0),
    ] {
        assert_eq!(metric(&near, &sensor, name), Some(want), "{name}");
    }
    let (ledgers, log) = sensor.stop();
    assert_eq!(ledgers["records"]["decoded"], 3 * 29, "and Weir itself: {ledgers}");
    assert!(!log.contains("CAP_NET_RAW"), "{log}");
    [four, six, chosen].iter().for_each(nothing_more);
}

#[test]
fn without_the_capability_the_collector_sees_one_exporter_and_it_is_said() {
    if !has("setpriv") {
        return;
    }
    let Some((near, far)) = spaces() else { return };
    let [four, ..] = collectors(&far);
    let bench = Bench::new();
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"])
        .arg(weir().get_program());
    command.env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
    let sensor = sensor(&near, &bench, command);
    sensor.says("no CAP_NET_RAW: the collector behind sees one exporter");
    let sent = export(&near, sensor.netflow);
    let got = received(&four, 3);
    for ((from, payload), (_, want)) in got.iter().zip(&sent) {
        assert_eq!(from.ip(), "10.0.0.1".parse::<IpAddr>().expect("one"));
        assert_eq!(payload, want);
    }
    sensor.stop();
}

/// nfcapd files each record under the exporter that it came from.
#[test]
fn nfcapd_behind_a_tee_tells_exporters_apart() {
    if !has("nfcapd") || !has("nfdump") {
        return;
    }
    let Some((near, far)) = spaces() else { return };
    let bench = Bench::new();
    std::fs::create_dir(bench.path("nf")).expect("made");
    let log = File::create(bench.path("nfcapd.log")).expect("a log");
    let mut command = Command::new("nfcapd");
    command.arg("-w").arg(bench.path("nf")).args(["-b", "10.0.0.2", "-p", "9995"]);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    let mut nfcapd = Program(far.run(move || command.spawn().expect("spawned")));
    wait_for("nfcapd", || bench.read("nfcapd.log").contains("Startup").then_some(()));
    let sensor = sensor(&near, &bench, weir());
    export(&near, sensor.netflow);
    wait_for("three datagrams", || {
        let sent = metric(&near, &sensor, "weir_tee_datagrams_total{tee=\"four\"}");
        sent.filter(|&sent| sent >= 3.0)
    });
    sensor.stop();
    // It takes what waits in its socket before it ends.
    let waits =
        || far.run(|| std::fs::read_to_string("/proc/thread-self/net/udp").expect("a table"));
    wait_for("nfcapd, to read", || {
        let line = waits().lines().find(|line| line.contains(":270B ")).map(str::to_owned);
        line.filter(|line| line.split_whitespace().nth(4).is_some_and(|q| q.ends_with(":00000000")))
    });
    kill(&nfcapd.0, libc::SIGTERM);
    reap(&mut nfcapd.0);
    let mut nfdump = Command::new("nfdump");
    nfdump.arg("-R").arg(bench.path("nf")).args(["-q", "-o", "fmt:%ra", "-6"]);
    let told = String::from_utf8(nfdump.output().expect("nfdump").stdout).expect("text");
    for exporter in ["10.9.0.1", "10.9.0.2", "10.0.0.1"] {
        let count = told.lines().filter(|line| line.trim() == exporter).count();
        assert_eq!(count, 29, "{exporter}: {told}\n{}", bench.read("nfcapd.log"));
    }
}
