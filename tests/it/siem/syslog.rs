//! Syslog to rsyslogd, plain and by TLS.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir::config::{Format, Syslog, Tls, Transport};
use weir::output::Stream;
use weir::output::remote::syslog::syslog;

use super::tls::Certificates;
use super::{alerts, deliver, fails, layout, slices, there};

/// rsyslogd with one input, which writes each message as JSON to `received`.
struct Rsyslogd {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

impl Rsyslogd {
    fn new(certificates: Option<&Certificates>) -> Self {
        let folder = tempfile::TempDir::new().expect("a directory");
        let port = free_port();
        Self { child: Self::start(folder.path(), port, certificates), folder, port }
    }

    fn start(folder: &Path, port: u16, certificates: Option<&Certificates>) -> Child {
        let at = |name: &str| folder.join(name).display().to_string();
        let (driver, mode) = match certificates {
            None => (String::new(), String::new()),
            Some(certificates) => {
                let path = |name: &str| certificates.path(name).display().to_string();
                let driver = format!(
                    "global(DefaultNetstreamDriver=\"gtls\" DefaultNetstreamDriverCAFile=\"{}\" \
                     DefaultNetstreamDriverCertFile=\"{}\" DefaultNetstreamDriverKeyFile=\"{}\")\n",
                    path("ca.pem"),
                    path("server.pem"),
                    path("server.key"),
                );
                let mode = " StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" \
                            StreamDriver.AuthMode=\"x509/certvalid\"";
                (driver, mode.to_owned())
            }
        };
        let config = format!(
            "global(maxMessageSize=\"1m\" workDirectory=\"{folder}\")\n{driver}\
             module(load=\"imtcp\"{mode})\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"all\")\n\
             template(name=\"json\" type=\"list\" option.jsonf=\"on\") {{\n\
             property(outname=\"pri\" name=\"pri\" format=\"jsonf\")\n\
             property(outname=\"host\" name=\"hostname\" format=\"jsonf\")\n\
             property(outname=\"app\" name=\"app-name\" format=\"jsonf\")\n\
             property(outname=\"id\" name=\"msgid\" format=\"jsonf\")\n\
             property(outname=\"time\" name=\"timereported\" dateFormat=\"rfc3339\" format=\"jsonf\")\n\
             property(outname=\"version\" name=\"protocol-version\" format=\"jsonf\")\n\
             property(outname=\"msg\" name=\"msg\" format=\"jsonf\")\n}}\n\
             ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{}\" template=\"json\") }}\n",
            at("received"),
            folder = folder.display(),
        );
        std::fs::write(folder.join("conf"), config).expect("room");
        let log = std::fs::File::create(folder.join("log")).expect("room");
        let child = Command::new("rsyslogd")
            .args(["-n", "-f", &at("conf"), "-i", &at("pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("rsyslogd");
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "rsyslogd does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        child
    }

    fn stop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn sink(&self) -> Syslog {
        Syslog { address: format!("localhost:{}", self.port), timeout_s: 3, ..Syslog::default() }
    }

    /// What was received, once it is so many.
    #[track_caller]
    fn received(&self, count: usize) -> Vec<Value> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(self.folder.path().join("received"));
            let text = text.unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            if lines.len() >= count {
                let parsed = lines.iter().map(|line| serde_json::from_str(line).expect(line));
                return parsed.collect();
            }
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "{} of {count}: {log}", lines.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn rsyslogd_reads_cef_and_json() {
    if !there("rsyslogd") {
        return;
    }
    let server = Rsyslogd::new(None);
    let mut target = syslog(&server.sink(), &layout(Stream::Alerts), "s1").expect("a sink");
    let (delivered, reasons) = deliver(&mut *target, &alerts(3));
    assert_eq!((delivered.dead.len(), reasons), (0, Vec::<&str>::new()));
    let received = server.received(3);
    for message in &received {
        for (key, want) in [
            ("pri", "131"),
            ("host", "s1"),
            ("app", "weir"),
            ("id", "alert"),
            ("version", "1"),
            ("time", "2025-10-09T08:53:20.000001Z"),
        ] {
            assert_eq!(message[key], want, "{message}");
        }
        let text = message["msg"].as_str().expect("text");
        assert!(text.trim_start().starts_with("CEF:0|Weir|Weir|"), "{text}");
        assert!(text.contains("|odd|Odd \"port\" \\| é|8|"), "{text}");
        assert!(text.ends_with(" tenant=north"), "{text}");
    }
    let sink = Syslog { format: Format::Ndjson, ..server.sink() };
    let mut target = syslog(&sink, &layout(Stream::Slices), "s1").expect("a sink");
    deliver(&mut *target, &slices(1_000));
    let received = server.received(1_003);
    let slice: Value =
        serde_json::from_str(received[1_002]["msg"].as_str().expect("text")).expect("JSON");
    assert_eq!(slice["src_ip"], "10.0.3.232");
    assert_eq!(received[1_002]["pri"], "134", "no rule fired");
}

#[test]
fn rsyslogd_reads_by_tls_and_is_verified() {
    let Some(certificates) = Certificates::new().filter(|_| there("rsyslogd")) else { return };
    let server = Rsyslogd::new(Some(&certificates));
    let path = |name: &str| Some(certificates.path(name));
    let sink = |tls: Tls| {
        let sink = Syslog { transport: Transport::Tls, tls, ..server.sink() };
        syslog(&sink, &layout(Stream::Alerts), "s1").expect("a sink")
    };
    let (reason, message) = fails(&mut *sink(Tls::default()), &alerts(1));
    assert_eq!(reason, "tls");
    assert!(message.contains("certificate"), "{message}");
    let (certificate_file, key_file) = (path("client.pem"), path("client.key"));
    let known = Tls { ca_file: path("ca.pem"), certificate_file, key_file, verify: true };
    deliver(&mut *sink(known), &alerts(5));
    assert_eq!(server.received(5).len(), 5);
}

/// TLS where there is none, none where there is, and a name that the certificate has not.
#[test]
fn what_keeps_tls_from_coming_about_is_told_with_what_to_set() {
    let Some(certificates) = Certificates::new().filter(|_| there("rsyslogd")) else { return };
    let (plain, tls) = (Rsyslogd::new(None), Rsyslogd::new(Some(&certificates)));
    let ca_file = Some(certificates.path("ca.pem"));
    let known = Tls { ca_file, ..Tls::default() };
    let check = |server: &Rsyslogd, host: &str, transport, tls: &Tls, want: &[&str]| {
        let address = format!("{host}:{}", server.port);
        let sink =
            Syslog { address: address.clone(), transport, tls: tls.clone(), ..server.sink() };
        let mut target = syslog(&sink, &layout(Stream::Alerts), "s1").expect("a sink");
        // What a kernel took is only known to be refused with the next octets.
        let until = Instant::now() + Duration::from_secs(20);
        let told = |message: &str| want.iter().all(|want| message.contains(want));
        loop {
            let failed = target.deliver(&alerts(3), &weir::output::spool::Stop::default());
            let message = format!("{:?}", failed.err());
            if told(&message) && message.contains(&address) {
                return;
            }
            assert!(Instant::now() < until, "wanted {want:?}: {message}");
        }
    };
    let (tcp, over) = (Transport::Tcp, Transport::Tls);
    let hint = "set transport = \\\"tls\\\"";
    check(&tls, "localhost", tcp, &known, &["at once: if the server expects TLS, ", hint]);
    check(&plain, "localhost", over, &known, &["expected a server that speaks TLS", "\\\"tcp\\\""]);
    check(&tls, "localhost", over, &Tls::default(), &["set tls.ca_file to the file (PEM)"]);
    check(&tls, "127.0.0.1", over, &known, &["name the host as its certificate does"]);
}

#[test]
fn a_server_that_goes_and_comes_back_gets_the_rest() {
    if !there("rsyslogd") {
        return;
    }
    let mut server = Rsyslogd::new(None);
    let mut target = syslog(&server.sink(), &layout(Stream::Alerts), "s1").expect("a sink");
    deliver(&mut *target, &alerts(2));
    server.received(2);
    server.stop();
    let (reason, message) = fails(&mut *target, &alerts(3));
    assert!(["connect", "cut"].contains(&reason), "{reason}: {message}");
    let (reason, message) = fails(&mut *target, &alerts(3));
    assert_eq!(reason, "connect");
    assert!(message.contains(&format!("localhost:{}: ", server.port)), "{message}");
    server.child = Rsyslogd::start(server.folder.path(), server.port, None);
    deliver(&mut *target, &alerts(3));
    server.received(5);
}

#[test]
fn a_server_that_takes_nothing_is_waited_for_and_no_longer() {
    // Its kernel takes what the socket's buffer holds, and then nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let sink = Syslog { address, timeout_s: 1, ..Syslog::default() };
    let sink = Syslog { format: Format::Ndjson, ..sink };
    let mut target = syslog(&sink, &layout(Stream::Slices), "s1").expect("a sink");
    let started = Instant::now();
    let (reason, _) = fails(&mut *target, &slices(30_000));
    assert_eq!(reason, "timeout");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_message_over_the_bound_is_dead_and_the_rest_goes() {
    if !there("rsyslogd") {
        return;
    }
    let server = Rsyslogd::new(None);
    let sink = Syslog { format: Format::Ndjson, ..server.sink() };
    let mut target = syslog(&sink, &layout(Stream::Slices), "s1").expect("a sink");
    deliver(&mut *target, &slices(2));
    let plain = server.received(2)[1]["msg"].as_str().expect("text").len();
    // What stands before the message is shorter than what tells of a rule.
    let sink = Syslog { message_bytes_max: plain + 80, ..sink };
    let mut target = syslog(&sink, &layout(Stream::Slices), "s1").expect("a sink");
    let (delivered, _) = deliver(&mut *target, &slices(11));
    let dead: Vec<usize> = delivered.dead.iter().map(|(row, _)| *row).collect();
    assert_eq!(dead, [0, 10], "those with a rule are longer: {:?}", delivered.dead);
    assert_eq!(server.received(11).len(), 11);
}
