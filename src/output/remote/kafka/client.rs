//! A client of librdkafka as the configuration wants it, and what it tells of itself.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode;

use crate::config::output::{KafkaAccess, KafkaMechanism, Secret};
use crate::metrics::{KafkaClient, KafkaWatch};
use crate::output::remote::secret::{self, Revealed};
use crate::output::seldom::Seldom;

/// How long a token is used that does not say when it expires.
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);
/// librdkafka's name of the password of PLAIN and SCRAM.
pub(super) const PASSWORD: &str = "sasl.password";
/// How often librdkafka tells its statistics.
const STATISTICS_MS: &str = "5000";

/// librdkafka's configuration for `access`; secrets are read now. `client` names the client to the
/// brokers.
///
/// # Errors
/// If a secret cannot be read.
pub fn config(access: KafkaAccess<'_>, client: &str) -> io::Result<ClientConfig> {
    let mut config = ClientConfig::new();
    let security = match (access.tls.is_some(), access.sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config
        .set("bootstrap.servers", access.brokers.join(","))
        .set("client.id", client)
        .set("security.protocol", security)
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("statistics.interval.ms", STATISTICS_MS)
        .set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in access.properties {
        config.set(name, value);
    }
    if let Some(tls) = access.tls {
        let files = [
            ("ssl.ca.location", &tls.ca_file),
            ("ssl.certificate.location", &tls.certificate_file),
            ("ssl.key.location", &tls.key_file),
        ];
        for (name, path) in files {
            if let Some(path) = path {
                config.set(name, path.display().to_string());
            }
        }
        if let Some(password) = &tls.key_password {
            config.set("ssl.key.password", reveal(password)?.expose());
        }
        config.set("enable.ssl.certificate.verification", tls.verify.to_string());
        let names = if tls.verify { "https" } else { "none" };
        config.set("ssl.endpoint.identification.algorithm", names);
    }
    if let Some(sasl) = access.sasl {
        config.set("sasl.mechanism", sasl.mechanism.as_str());
        if sasl.mechanism != KafkaMechanism::Oauthbearer {
            config.set("sasl.username", &sasl.username);
            if let Some(password) = &sasl.password {
                config.set(PASSWORD, reveal(password)?.expose());
            }
        }
    }
    Ok(config)
}

/// What is wrong with `access` as librdkafka sees it, each with its key in the table: settings that it
/// does not know or refuses, certificates and keys that it cannot use. Nothing is connected to.
#[must_use]
pub fn faults(access: KafkaAccess<'_>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for (name, value) in access.properties {
        let key = || format!("properties.\"{name}\"");
        match ClientConfig::new().set(name, value).create_native_config() {
            Err(KafkaError::ClientConfig(_, why, ..)) => faults.push((key(), in_words(&why))),
            Err(error) => faults.push((key(), error.to_string())),
            Ok(_) => {}
        }
    }
    // What else is wrong with secrets is told of them.
    let (true, Ok(mut config)) = (faults.is_empty(), config(access, "weir")) else {
        return faults;
    };
    // Without brokers a client is made and reaches out for nobody.
    config.remove("bootstrap.servers").remove("statistics.interval.ms");
    if let Err(error) = config.create::<BaseProducer>() {
        let text = error.to_string();
        let keys = [
            ("ssl.ca", "tls.ca_file"),
            ("ssl.certificate", "tls.certificate_file"),
            ("ssl.key", "tls.key_file"),
            ("sasl.", "sasl"),
            ("ssl", "tls"),
        ];
        let key = keys.iter().find(|(name, _)| text.contains(name)).map_or("brokers", |key| key.1);
        faults.push((key.to_owned(), format!("librdkafka makes no client of it: {text}")));
    }
    faults
}

/// librdkafka's reason for refusing a setting, with what was expected.
fn in_words(why: &str) -> String {
    if why.contains("No such configuration property") {
        return "librdkafka has no such setting: expected a name from its CONFIGURATION.md"
            .to_owned();
    }
    format!("librdkafka refuses it: {why}")
}

/// What to set where librdkafka's message is `text`.
fn hint(text: &str) -> Option<&'static str> {
    let has = |part: &str| text.contains(part);
    Some(match () {
        () if has("certificate verify failed") => {
            "expected a certificate of an authority that is trusted, with this host's name: set tls.ca_file"
        }
        () if has("wrong version number") || has("connecting to a PLAINTEXT broker listener") => {
            "expected a listener that speaks TLS, and this one does not: take the port of one, or remove \
             the table `tls`"
        }
        () if has("SSL listener") || has("Disconnected while requesting ApiVersion") => {
            "the listener seems to want TLS or a login: set `tls` or `sasl`"
        }
        () if has("certificate required") || has("bad certificate") || has("handshake failure") => {
            "the brokers want a certificate of ours: set tls.certificate_file and tls.key_file"
        }
        () if has("Unsupported SASL mechanism") || has("not enabled") => {
            "set sasl.mechanism to one that the brokers have enabled"
        }
        () if has("uthentication") => "look at sasl.username, sasl.password and sasl.mechanism",
        () if has("resolve") => "the name of the broker has no address: look at `brokers`",
        () => return None,
    })
}

fn reveal(secret: &Secret) -> io::Result<Revealed> {
    secret::reveal(secret).map_err(io::Error::other)
}

/// What is wrong with a client, as librdkafka told it last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// Label of the metric.
    pub reason: &'static str,
    /// What librdkafka says.
    pub message: String,
    /// Whether waiting alone will not help: the login is refused.
    pub refused: bool,
}

/// What a client tells of itself, from librdkafka's threads.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Of which sink; `None` of the clients of a detector.
    sink: Option<Arc<str>>,
    /// What was said in the log, by reason and hint.
    said: Arc<Mutex<Seldom<Kind>>>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    watch: KafkaWatch,
}

/// Messages of librdkafka that differ in no more than ports and times: the reason, and what to do.
type Kind = (&'static str, Option<&'static str>);

impl Told {
    /// What the client of `sink` tells.
    #[must_use]
    pub fn of(sink: &str) -> Self {
        Self { sink: Some(sink.into()), ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where statistics can be read.
    #[must_use]
    pub fn watch(&self) -> KafkaWatch {
        self.watch.clone()
    }

    /// What is wrong; `None` since the last acknowledgement.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.state().clone()
    }

    /// Something was acknowledged: nothing is wrong any more.
    pub fn well(&self) {
        *self.state() = None;
    }

    /// Takes note of statistics.
    pub fn take(&self, told: &Statistics) {
        let of = |number: i64| u64::try_from(number).unwrap_or(0);
        let mut client = KafkaClient {
            queue_records: told.msg_cnt,
            queue_octets: told.msg_size,
            sent_octets: of(told.tx_bytes),
            received_octets: of(told.rx_bytes),
            requests: of(told.tx),
            ..KafkaClient::default()
        };
        for broker in told.brokers.values() {
            client.errors += broker.txerrs;
            client.retries += broker.txretries;
            client.timeouts += broker.req_timeouts;
            client.brokers_up += u64::from(broker.state == "UP" && broker.nodeid >= 0);
            let round_trip = broker.rtt.as_ref().map_or(0, |window| of(window.p99));
            client.round_trip_us = client.round_trip_us.max(round_trip);
        }
        self.watch.set(client);
    }

    /// Takes note of an error: in the log once a minute for each kind. A refused login outlives the "all brokers are down" that follows it.
    pub fn error(&self, error: &KafkaError, text: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let refused = code == Some(RDKafkaErrorCode::Authentication);
        let reason = match code {
            Some(RDKafkaErrorCode::Authentication) => "login",
            Some(RDKafkaErrorCode::SSL) => "tls",
            _ => "unreachable",
        };
        let hint = hint(text);
        let text = match hint {
            Some(hint) => format!("{text}: {hint}"),
            None => text.to_owned(),
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = said.ask((reason, hint), Instant::now()) {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::warn!(sink = self.sink.as_deref(), reason, left_out, "kafka: {text}");
        }
        drop(said);
        let mut trouble = self.state();
        let worse = |trouble: &Trouble| trouble.reason != "unreachable" && reason == "unreachable";
        if !trouble.as_ref().is_some_and(worse) {
            *trouble = Some(Trouble { reason, message: text, refused });
        }
    }

    /// Takes note of a line of librdkafka's log.
    pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::debug!("kafka: {facility}: {message}");
            }
            // Errors come as errors, too: there they are told once.
            _ => tracing::debug!(?level, "kafka: {facility}: {message}"),
        }
    }
}

/// The token of OAUTHBEARER, read now: its expiry and subject are what the JWT says (RFC 7519).
///
/// # Errors
/// If it cannot be read, or is none.
pub fn token(place: Option<&Secret>) -> Result<OAuthToken, Box<dyn Error>> {
    let token = secret::reveal(place.ok_or("sasl.token is not set")?)?.expose().to_owned();
    let payload = token.split('.').nth(1).ok_or("the token is no JWT: it has no second part")?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|e| format!("the token: {e}"))?;
    let claims: serde_json::Value =
        serde_json::from_slice(&payload).map_err(|e| format!("the token's claims: {e}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let expires = claims["exp"].as_i64().map(|seconds| seconds.saturating_mul(1_000));
    let lifetime_ms = match expires {
        Some(expires) => expires,
        None => i64::try_from((now + TOKEN_LIFETIME).as_millis())?,
    };
    let principal_name = claims["sub"].as_str().unwrap_or("weir").to_owned();
    Ok(OAuthToken { token, principal_name, lifetime_ms })
}
