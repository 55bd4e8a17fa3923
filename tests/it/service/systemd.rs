//! What systemd and the sensor tell each other, with the tests in systemd's place.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{HTTPS, exporter, ports, v5};
use crate::system::{
    Bench, PATIENCE, Sensor, binary, free_ports, has, kill, reap, records, wait_for, weir,
};

const FLOWS: &str = "[[output.files]]\nname = \"flows\"\ndirectory = \"flows\"\n";

/// Reads until a message holds `line`; returns all that were read.
#[track_caller]
fn hears(manager: &UnixDatagram, line: &str) -> Vec<String> {
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let octets = match manager.recv(&mut buffer) {
            Ok(octets) => octets,
            Err(error) => panic!("{line}: {error}; heard {heard:?}"),
        };
        let message = String::from_utf8_lossy(&buffer[..octets]).into_owned();
        let found = message.lines().any(|one| one.starts_with(line));
        heard.push(message);
        if found {
            return heard;
        }
    }
}

#[test]
fn the_manager_hears_of_every_state() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let socket = bench.path("notify");
    let manager = UnixDatagram::bind(&socket).expect("bound");
    manager.set_read_timeout(Some(PATIENCE)).expect("set");
    let ports = free_ports();
    Sensor::configure(&bench, FLOWS, ports);
    let mut command = weir();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000");
    let sensor = Sensor::spawn(command, &bench, ports);
    let heard = hears(&manager, "READY=1").pop().expect("a message");
    assert!(heard.contains("STATUS=Collecting: 0 exporters"), "{heard}");
    hears(&manager, "WATCHDOG=1");

    sensor.send(&exporter(), &v5(1, 1_001));
    hears(&manager, "STATUS=Collecting: 1 exporters, 1 records, 1 flows open");
    kill(&sensor.process, libc::SIGHUP);
    let heard = hears(&manager, "RELOADING=1").pop().expect("a message");
    let monotonic = heard.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(monotonic.is_some_and(|usec| usec.parse::<u64>().is_ok()), "{heard}");
    hears(&manager, "READY=1");
    let drain = std::thread::spawn(move || hears(&manager, "STOPPING=1"));
    sensor.stop();
    drain.join().expect("STOPPING=1");
}

/// A sensor that is started with `fd` passed as systemd does, by a shell that knows its own
/// process id.
fn spawn_with(fd: RawFd, bench: &Bench, ports: (u16, u16)) -> Sensor {
    spawn_with_all(&[fd], bench, ports)
}

/// The same with several descriptors.
pub(super) fn spawn_with_all(fds: &[RawFd], bench: &Bench, ports: (u16, u16)) -> Sensor {
    let mut shell = shell("");
    shell.env("PASSED", fds.len().to_string());
    let fds = fds.to_vec();
    let pass = move || {
        let check = |result| match result {
            -1 => Err(std::io::Error::last_os_error()),
            fd => Ok(fd),
        };
        // First to where none of the numbers to come is, then each to its own: such a copy is
        // open across exec.
        let mut copies = [-1; 8];
        for (copy, &fd) in copies.iter_mut().zip(&fds) {
            // SAFETY: between fork and exec; the call is async-signal-safe and takes numbers.
            *copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 64) })?;
        }
        for (number, &copy) in (3..).zip(copies.iter().take(fds.len())) {
            // SAFETY: as above.
            check(unsafe { libc::dup2(copy, number) })?;
        }
        Ok(())
    };
    // SAFETY: `pass` neither allocates nor locks.
    unsafe { shell.pre_exec(pass) };
    Sensor::spawn(shell, bench, ports)
}

/// A shell that starts the sensor as its own process, with `redirections`.
fn shell(redirections: &str) -> Command {
    let mut shell = Command::new("sh");
    let script =
        format!("LISTEN_PID=$$ LISTEN_FDS=${{PASSED:-1}} exec \"$0\" \"$@\" {redirections}");
    shell.args(["-c", &script]).arg(binary());
    shell.env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET");
    shell
}

#[test]
fn passed_sockets_keep_what_comes_between_two_runs() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let passed = socket.local_addr().expect("bound").port();
    let (_, admin) = free_ports();
    // The configuration's own port is taken: it must not be used.
    Sensor::configure(&bench, FLOWS, (passed, admin));
    let from = exporter();
    for run in 0..3_u16 {
        from.send_to(&v5(u32::from(run), 1_000 + run), ("127.0.0.1", passed)).expect("sent");
        let sensor = spawn_with(socket.as_raw_fd(), &bench, (passed, admin)).ready();
        sensor.reaches("weir_flow_records_merged_total", 1.0);
        sensor.stop();
    }
    assert_eq!(ports(&records(&bench.path("flows")), "src_port"), [1_000, 1_001, 1_002]);
}

#[test]
fn descriptors_that_are_no_udp_sockets_are_refused() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let ports = free_ports();
    Sensor::configure(&bench, FLOWS, ports);
    let stream = TcpListener::bind("127.0.0.1:0").expect("bound");
    for (mut sensor, says) in [
        (spawn_with(stream.as_raw_fd(), &bench, ports), "is not a UDP socket"),
        (Sensor::spawn(shell("3</dev/null"), &bench, ports), "is not a UDP socket"),
        (Sensor::spawn(shell("3<&-"), &bench, ports), "is not open"),
    ] {
        assert_eq!(reap(&mut sensor.process).code(), Some(3));
        let log = sensor.ended();
        let says = format!("weir: LISTEN_FDS: descriptor 3 {says}: expected ListenDatagram=");
        assert!(log.contains(&says), "{says}: {log}");
    }
}

#[test]
fn systemds_own_socket_activation_works() {
    if !has("systemd-socket-activate") {
        return;
    }
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let ports = free_ports();
    Sensor::configure(&bench, FLOWS, ports);
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(["-d", "-l", &format!("127.0.0.1:{}", ports.0)]).arg(binary());
    activate.env("NO_COLOR", "1").stdout(Stdio::null());
    let sensor = Sensor::spawn(activate, &bench, ports);
    let from = exporter();
    // The first datagram starts the sensor, which then finds it in the socket.
    sensor.says("Listening on ");
    sensor.send(&from, &v5(1, 1_001));
    sensor.says("running config=");
    wait_for("the datagram", || {
        std::thread::sleep(Duration::from_millis(10));
        sensor.metric("weir_flow_records_merged_total").filter(|&n| n == 1.0)
    });
    let (ledgers, _) = sensor.stop();
    assert_eq!(ledgers["records"]["merged"], 1);
}
