//! Two S3 servers that disagree: moto, strict about buckets and codes, in memory; and s3s-fs, with
//! real signatures and conditional writes, on files.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Server, answers, free_tcp_ports, installed};

/// The access key that both take.
pub(crate) const ACCESS_KEY: &str = "AKIAWEIRTESTS";
/// Its secret.
pub(crate) const SECRET_KEY: &str = "kept-in-a-file-not-in-the-log";

/// Which of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Forgets everything when it ends; takes any key.
    Moto,
    /// Keeps its folder; checks signatures; takes objects for buckets that are not there.
    S3sFs,
}

/// A server.
#[derive(Debug)]
pub(crate) struct S3 {
    kind: Kind,
    server: Option<Server>,
    program: PathBuf,
    folder: TempDir,
    address: SocketAddr,
}

impl S3 {
    /// Starts one; `None`, said so, where it is not installed.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let program = match kind {
            Kind::Moto => installed("python")?.join("bin/moto_server"),
            Kind::S3sFs => installed("s3s")?.join("bin/s3s-fs"),
        };
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("buckets")).expect("made");
        let [port] = free_tcp_ports();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut s3 = Self { kind, server: None, program, folder, address };
        s3.run();
        Some(s3)
    }

    /// Starts it, again on the same port if it ran before.
    pub(crate) fn run(&mut self) {
        let port = self.address.port();
        let arguments = match self.kind {
            Kind::Moto => format!("-H 127.0.0.1 -p {port}"),
            Kind::S3sFs => format!(
                "--host 127.0.0.1 --port {port} --access-key {ACCESS_KEY} --secret-key {SECRET_KEY} \
                 {}",
                self.folder.path().join("buckets").display()
            ),
        };
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let log = self.folder.path().join("log");
        self.server = Some(Server::start(&self.program, &arguments, &log));
        answers(self.address, &log);
    }

    /// Ends it at once: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// The process that runs.
    #[track_caller]
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("a server that runs")
    }

    /// Which of the two it is.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where a bucket lies, of the one that keeps files.
    pub(crate) fn place(&self, bucket: &str) -> PathBuf {
        self.folder.path().join("buckets").join(bucket)
    }

    /// Removes a bucket with all that is in it. moto forgets all of them.
    pub(crate) fn forget(&mut self, bucket: &str) {
        match self.kind {
            Kind::Moto => {
                self.kill();
                self.run();
            }
            Kind::S3sFs => drop(fs::remove_dir_all(self.place(bucket))),
        }
    }

    /// Makes a bucket.
    #[track_caller]
    pub(crate) fn bucket(&self, name: &str) {
        match self.kind {
            // moto checks no signature, so a bare request does.
            Kind::Moto => {
                use std::io::{Read, Write};
                let mut stream = std::net::TcpStream::connect(self.address).expect("moto");
                let request = format!(
                    "PUT /{name} HTTP/1.0\r\nHost: s3.amazonaws.com\r\nContent-Length: 0\r\n\r\n"
                );
                stream.write_all(request.as_bytes()).expect("sent");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                assert!(answer.contains(" 200 "), "bucket {name}: {answer}");
            }
            Kind::S3sFs => {
                fs::create_dir_all(self.place(name)).expect("made");
            }
        }
    }
}
