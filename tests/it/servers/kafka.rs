//! Apache Kafka in KRaft mode: one node that is broker and controller.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;
use tempfile::TempDir;

use super::{Server, answers, free_tcp_ports, installed, script};

/// The cluster's id: any 16 octets in base64.
const CLUSTER: &str = "d2VpcndlaXJ3ZWlyd2VpcA";
/// What all brokers of tests share: one replica of everything, quick elections.
const PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
message.max.bytes=1048588
";

/// How clients come in.
#[derive(Clone, Debug, Default)]
pub(crate) enum Doors {
    /// Plaintext, no login.
    #[default]
    Open,
    /// SASL over plaintext: PLAIN and SCRAM-SHA-256, user `weir`, password `s3cret`; OAUTHBEARER
    /// with tokens that nobody signed.
    Sasl,
    /// TLS with the keys of this folder; clients show a certificate.
    Tls(PathBuf),
}

/// A broker.
#[derive(Debug)]
pub(crate) struct Kafka {
    server: Option<Server>,
    folder: TempDir,
    libs: PathBuf,
    /// Where clients connect.
    address: SocketAddr,
    /// Where the broker listens: elsewhere, if a proxy stands before it.
    listens: SocketAddr,
    /// Where it listens without a login.
    inner: SocketAddr,
}

/// One record as a client that is not ours reads it.
#[derive(Clone, Debug, serde::Deserialize, Eq, PartialEq)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The partition where that client puts records of this key by murmur2.
    pub(crate) murmur2: i32,
    /// In hexadecimal digits.
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    /// The value in hexadecimal digits.
    pub(crate) hex: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

impl Read {
    /// The octets of its value.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let digits = self.hex.as_deref().unwrap_or_default().as_bytes();
        let octet = |two: &[u8]| {
            let text = std::str::from_utf8(two).expect("digits");
            u8::from_str_radix(text, 16).expect("digits")
        };
        digits.chunks(2).map(octet).collect()
    }
}

impl Kafka {
    /// A broker that many tests use at once, each with topics of its own. `None`, said so, where
    /// Kafka is not installed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Kafka>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Doors::Open, None)).as_ref()
    }

    /// A broker of the test's own. Clients are sent to `advertised` where a proxy stands before it.
    pub(crate) fn start(doors: Doors, advertised: Option<SocketAddr>) -> Option<Self> {
        let libs = installed("kafka")?.join("libs");
        let folder = TempDir::new().expect("a folder");
        let [port, inner, controller] = free_tcp_ports();
        let listens = SocketAddr::from(([127, 0, 0, 1], port));
        let address = advertised.unwrap_or(listens);
        let data = folder.path().join("data");
        let security = match &doors {
            Doors::Open => "PLAINTEXT",
            Doors::Sasl => "SASL_PLAINTEXT",
            Doors::Tls(_) => "SSL",
        };
        let mut properties = format!(
            "{PROPERTIES}listeners=CLIENTS://{listens},INNER://127.0.0.1:{inner},\
             CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=CLIENTS://{address},INNER://127.0.0.1:{inner}\n\
             inter.broker.listener.name=INNER\n\
             listener.security.protocol.map=CLIENTS:{security},INNER:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\n",
            data.display()
        );
        properties += &doors.properties();
        fs::write(folder.path().join("server.properties"), properties).expect("written");
        let inner = SocketAddr::from(([127, 0, 0, 1], inner));
        let mut kafka = Self { server: None, folder, libs, address, listens, inner };
        kafka.format();
        kafka.run();
        Some(kafka)
    }

    fn java(&self) -> (PathBuf, Vec<String>) {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/log4j2.properties");
        let options = [
            "-Xms128m".to_owned(),
            "-Xmx512m".to_owned(),
            "-XX:+UseSerialGC".to_owned(),
            "-XX:TieredStopAtLevel=1".to_owned(),
            "-XX:-UsePerfData".to_owned(),
            format!("-Dlog4j2.configurationFile={}", home.display()),
            "-cp".to_owned(),
            format!("{}/*", self.libs.display()),
        ];
        ("java".into(), options.to_vec())
    }

    fn properties(&self) -> String {
        self.folder.path().join("server.properties").display().to_string()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn format(&self) {
        let (java, options) = self.java();
        let user = "SCRAM-SHA-256=[name=weir,password=s3cret,iterations=4096]";
        let mut format = Command::new(java);
        format.args(options).args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]);
        let output = format.arg(self.properties()).args(["--add-scram", user]).output();
        let output = output.expect("java");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts it, again on the same port if it ran before.
    pub(crate) fn run(&mut self) {
        let (java, mut arguments) = self.java();
        arguments.extend(["kafka.Kafka".to_owned(), self.properties()]);
        self.server = Some(Server::start(&java, &arguments, &self.log()));
        answers(self.listens, &self.log());
    }

    /// Ends it at once: SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// The process that runs.
    #[track_caller]
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("a broker that runs")
    }

    /// Where clients connect.
    pub(crate) fn brokers(&self) -> String {
        self.address.to_string()
    }

    /// Where the broker itself listens.
    pub(crate) fn listens(&self) -> SocketAddr {
        self.listens
    }

    /// A client's configuration of the open door.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config
    }

    /// The same of the door that brokers among themselves use: whatever clients have to show.
    pub(crate) fn inside(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.inner.to_string());
        config
    }

    /// Removes a topic with all that is in it.
    #[track_caller]
    pub(crate) fn forget(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.inside().create().expect("a client");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let gone = runtime.expect("a runtime").block_on(admin.delete_topics(&[topic], &options));
        let result = gone.expect("an answer").remove(0);
        assert!(result.is_ok(), "topic {topic}: {result:?}");
    }

    /// Creates a topic with so many partitions and settings.
    #[track_caller]
    pub(crate) fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        create(&self.client(), name, partitions, settings);
    }

    /// Whether `topic` is there and has a committed record.
    pub(crate) fn written(&self, topic: &str) -> bool {
        let client: BaseConsumer = self.client().create().expect("a client");
        let wait = Duration::from_secs(5);
        let Ok(metadata) = client.fetch_metadata(Some(topic), wait) else { return false };
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let ends = partitions.map(|partition| client.fetch_watermarks(topic, partition.id(), wait));
        ends.into_iter().any(|marks| marks.is_ok_and(|(_, end)| end > 0))
    }

    /// Where a partition ends: with what open transactions have written, or before that. `None` if
    /// the broker does not say.
    pub(crate) fn end(&self, topic: &str, partition: i32, uncommitted: bool) -> Option<i64> {
        let level = if uncommitted { "read_uncommitted" } else { "read_committed" };
        let client: BaseConsumer = self.client().set("isolation.level", level).create().ok()?;
        let marks = client.fetch_watermarks(topic, partition, Duration::from_secs(10));
        marks.ok().map(|(_, end)| end)
    }

    /// All records of `topic` up to its present end, as a client in Python reads them: those of
    /// aborted transactions left out.
    #[track_caller]
    pub(crate) fn read(&self, topic: &str) -> Vec<Read> {
        let text = script("read_topic.py", &[&self.brokers(), topic]);
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// Creates a topic through a client of `config`.
#[track_caller]
pub(crate) fn create(
    config: &ClientConfig,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) {
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let created = runtime.expect("a runtime").block_on(admin.create_topics([&topic], &options));
    let result = created.expect("an answer").remove(0);
    assert!(result.is_ok(), "topic {name}: {result:?}");
}

impl Doors {
    fn properties(&self) -> String {
        let module = "org.apache.kafka.common.security";
        match self {
            Self::Open => String::new(),
            Self::Sasl => format!(
                "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER\n\
                 listener.name.clients.plain.sasl.jaas.config=\
                 {module}.plain.PlainLoginModule required user_weir=\"s3cret\";\n\
                 listener.name.clients.scram-sha-256.sasl.jaas.config=\
                 {module}.scram.ScramLoginModule required;\n\
                 listener.name.clients.oauthbearer.sasl.jaas.config=\
                 {module}.oauthbearer.OAuthBearerLoginModule required \
                 unsecuredLoginStringClaim_sub=\"weir\";\n"
            ),
            Self::Tls(keys) => {
                let keys = keys.display();
                format!(
                    "ssl.keystore.type=PEM\nssl.truststore.type=PEM\nssl.client.auth=required\n\
                     ssl.keystore.location={keys}/broker.pem\n\
                     ssl.truststore.location={keys}/ca.crt\n"
                )
            }
        }
    }
}
