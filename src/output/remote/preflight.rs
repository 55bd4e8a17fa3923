//! What can be known to be wrong with sinks before anything is sent: secrets, certificates and keys, and
//! what librdkafka and the stores refuse. Connects to nobody, and tells no secret.

#[cfg(feature = "s3")]
use crate::config::output::Table;
use crate::config::output::{KafkaAccess, url_fault};
use crate::config::{Config, Problem, Secret};

use super::secret::{self, SecretError};
use super::tls;

/// What is wrong.
#[derive(Debug, Default)]
pub struct Findings {
    /// No sink can be started so. Without file and line.
    pub problems: Vec<Problem>,
    /// Credentials that only the service manager hands over: whoever was not started by it cannot look.
    pub unseen: Vec<Problem>,
}

impl Findings {
    fn add(&mut self, key: String, message: String) {
        self.problems.push(problem(key, message));
    }

    /// Reads a secret, and judges it by `judge`.
    fn secret(
        &mut self,
        key: String,
        place: &Secret,
        judge: impl Fn(&str) -> Option<&'static str>,
    ) {
        match secret::reveal(place) {
            Ok(secret) if secret.expose().chars().any(char::is_control) => {
                self.add(
                    key,
                    "what stands there has more than a line, or a control character".to_owned(),
                );
            }
            Ok(secret) => {
                if let Some(fault) = judge(secret.expose()) {
                    self.add(key, format!("what stands there {fault}"));
                }
            }
            Err(error @ SecretError::NoCredentials(_)) => {
                self.unseen.push(problem(key, error.to_string()));
            }
            Err(error) => self.add(key, error.to_string()),
        }
    }

    /// How a client of Kafka comes in, in the table `table`.
    fn kafka(&mut self, table: &str, access: KafkaAccess<'_>) {
        let files =
            access.tls.map(|tls| [("ca", &tls.ca_file), ("certificate", &tls.certificate_file)]);
        let before = self.problems.len();
        for (name, file) in files.into_iter().flatten() {
            if let Some(Err(error)) = file.as_deref().map(tls::certificates) {
                self.add(format!("{table}.tls.{name}_file"), error.to_string());
            }
        }
        if self.problems.len() > before {
            return;
        }
        #[cfg(feature = "kafka")]
        for (key, message) in super::kafka::client::faults(access) {
            self.add(format!("{table}.{key}"), message);
        }
    }
}

fn problem(key: String, message: String) -> Problem {
    Problem { file: String::new(), line: None, key, message }
}

/// Looks at every sink of `config`, and at the engine of a detector.
#[must_use]
pub fn check(config: &Config) -> Findings {
    let mut findings = Findings::default();
    for (table, sink) in config.output.tables() {
        for (name, place) in sink.secrets() {
            let judge = |secret: &str| if name == "url_secret" { url_fault(secret) } else { None };
            findings.secret(format!("{table}.{name}"), place, judge);
        }
        for (name, message) in sink.tls().map(tls::faults).unwrap_or_default() {
            findings.add(format!("{table}.{name}"), message);
        }
    }
    for (index, sink) in config.output.kafka.iter().enumerate() {
        findings.kafka(&format!("output.kafka[{index}]"), sink.access());
    }
    if let Some(engine) = &config.detect.engine {
        for (name, place) in engine.access().secrets() {
            findings.secret(format!("detect.engine.{name}"), place, |_| None);
        }
        findings.kafka("detect.engine", engine.access());
    }
    #[cfg(feature = "s3")]
    for (index, sink) in config.output.s3.iter().enumerate() {
        let table = format!("output.s3[{index}]");
        // A secret that cannot be read is told of already.
        if sink.secrets().iter().all(|(_, place)| secret::reveal(place).is_ok()) {
            let faults = super::s3::faults(sink).into_iter();
            faults.for_each(|(name, message)| findings.add(format!("{table}.{name}"), message));
        }
    }
    findings
}
