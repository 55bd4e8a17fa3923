//! What is wrong with a sink before anything is sent: `check` and the start say the same, with file, line
//! and key, and never the secret.

use crate::siem::tls::Certificates;
use crate::system::{Bench, free_ports};

/// Before the table of a sink: 12 lines.
const CONFIG: &str = "\
[sensor]
state_directory = \"state\"
[input.netflow]
listen = [\"127.0.0.1:{N}\"]
[admin]
listen = \"127.0.0.1:{A}\"
[rules]
directories = []
watch_s = 0
[spool]
directory = \"spool\"
bytes_max = 1048576
segment_bytes = 65536
";

/// Tables of a sink, each with what is said of it.
const WRONG: &[(&str, &str)] = &[
    (
        "[[output.hec]]\nurl = \"https://a:8088\"\ntoken = { file = \"none\" }\n",
        "weir.toml:16: output.hec[0].token: cannot read the secret in none: No such file",
    ),
    (
        "[[output.hec]]\nurl = \"https://a:8088\"\ntoken = { file = \"empty\" }\n",
        "weir.toml:16: output.hec[0].token: the secret in empty is empty",
    ),
    (
        "[[output.hec]]\nurl = \"https://a:8088\"\ntoken = { env = \"WEIR_NO_SUCH_SECRET\" }\n",
        "weir.toml:16: output.hec[0].token: no secret in the environment variable WEIR_NO_SUCH_SECRET",
    ),
    (
        "[[output.hec]]\nurl = \"https://a:8088\"\ntoken = { file = \"fifo\" }\n",
        "weir.toml:16: output.hec[0].token: cannot read the secret in fifo: it is no regular file",
    ),
    (
        "[[output.s3]]\nurl = \"s3://flows\"\ncredentials_file = \"fifo\"\n",
        "weir.toml:16: output.s3[0].credentials_file: fifo: it is no regular file",
    ),
    (
        "[[output.webhook]]\nurl_secret = { file = \"secret\" }\n",
        "weir.toml:15: output.webhook[0].url_secret: what stands there must be https://HOST",
    ),
    (
        "[[output.hec]]\nurl = \"https://a:8088\"\ntoken = { file = \"lines\" }\n",
        "weir.toml:16: output.hec[0].token: what stands there has more than a line",
    ),
    (
        "[[output.webhook]]\nurl = \"http://a/x\"\nheaders = { \"Content-Length\" = \"1\" }\n",
        "weir.toml:16: output.webhook[0].headers: `Content-Length` is the request's own",
    ),
    (
        "[[output.webhook]]\nurl = \"http://a:99999/x\"\n",
        "weir.toml:15: output.webhook[0].url: must have a port from 1 to 65535",
    ),
    (
        "[[output.elasticsearch]]\nurl = \"https://a:9200\"\ntls = { ca_file = \"secret\" }\n",
        "weir.toml:16: output.elasticsearch[0].tls.ca_file: secret: no items found: expected certificates \
         in PEM",
    ),
    (
        "[[output.syslog]]\naddress = \"a:6514\"\ntransport = \"tls\"\n\
         tls = { certificate_file = \"client.pem\", key_file = \"secret\" }\n",
        "weir.toml:17: output.syslog[0].tls.key_file: secret: no items found: expected a private key",
    ),
    (
        "[[output.syslog]]\naddress = \"a:6514\"\ntransport = \"tls\"\n\
         tls = { certificate_file = \"client.pem\", key_file = \"server.key\" }\n",
        "weir.toml:17: output.syslog[0].tls.key_file: TLS: ",
    ),
    (
        "[[output.kafka]]\nbrokers = [\"a:9092\"]\n\
         sasl = { username = \"weir\", password = { file = \"none\" } }\n",
        "weir.toml:16: output.kafka[0].sasl.password: cannot read the secret in none: No such file",
    ),
    (
        "[[output.kafka]]\nbrokers = [\"a:9092\"]\n[output.kafka.properties]\n\
         \"socket.max.fails\" = \"1\"\n\"no.such.thing\" = \"1\"\n",
        "weir.toml:18: output.kafka[0].properties.\"no.such.thing\": librdkafka has no such setting",
    ),
    (
        "[[output.kafka]]\nbrokers = [\"a:9092\"]\nproperties = { \"socket.max.fails\" = \"many\" }\n",
        "weir.toml:16: output.kafka[0].properties.\"socket.max.fails\": librdkafka refuses it: ",
    ),
    (
        "[[output.kafka]]\nbrokers = [\"a:9092\"]\n[output.kafka.tls]\nca_file = \"secret\"\n",
        "weir.toml:17: output.kafka[0].tls.ca_file: secret: no items found: expected certificates in PEM",
    ),
    (
        "[[output.kafka]]\nbrokers = [\"a:9092\"]\n[output.kafka.tls]\ncertificate_file = \"client.pem\"\n\
         key_file = \"secret\"\n",
        "weir.toml:18: output.kafka[0].tls.key_file: librdkafka makes no client of it: ",
    ),
    (
        "[[output.s3]]\nurl = \"s3://flows\"\ncredentials_file = \"secret\"\n",
        "weir.toml:16: output.s3[0].credentials_file: secret: no aws_access_key_id",
    ),
    (
        "[[output.s3]]\nurl = \"s3://flows\"\nca_file = \"none\"\n",
        "weir.toml:16: output.s3[0].ca_file: none: ",
    ),
    (
        "[detect.engine]\nbrokers = [\"a:9092\"]\nproperties = { \"no.such.thing\" = \"1\" }\n",
        "weir.toml:16: detect.engine.properties.\"no.such.thing\": librdkafka has no such setting",
    ),
];

fn bench(table: &str) -> Bench {
    let (netflow, admin) = free_ports();
    let text = CONFIG.replace("{N}", &netflow.to_string()).replace("{A}", &admin.to_string());
    let bench = Bench::new();
    bench.write("weir.toml", text + table).write("secret", "hunter2\n").write("empty", "\n");
    bench.write("lines", "hunter2\nhunter3\n");
    let fifo = std::process::Command::new("mkfifo").arg(bench.path("fifo")).status();
    assert!(fifo.expect("mkfifo").success());
    bench
}

#[test]
fn check_and_start_say_what_is_wrong_with_a_sink() {
    let Some(certificates) = Certificates::new() else { return };
    for (table, says) in WRONG {
        let bench = bench(table);
        for name in ["client.pem", "server.key"] {
            bench.write(name, std::fs::read(certificates.path(name)).expect("there"));
        }
        for command in ["check", "run"] {
            let ended = bench.weir(&format!("{command} -c weir.toml"), 3);
            let said =
                ended.err.lines().any(|line| line.trim_start_matches("weir: ").starts_with(says));
            assert!(said, "{command}\n{table}wanted {says}\n{}", ended.err);
            assert!(!ended.err.contains("hunter2"), "{}", ended.err);
        }
    }
}

#[test]
fn check_looks_at_the_spool_and_at_what_it_can_see() {
    let token = "token = { credential = \"hec\" }\n";
    let table = format!("[[output.hec]]\nurl = \"https://a:8088\"\n{token}");
    // Only the service manager hands over credentials: who looks from elsewhere is told so.
    let ended = bench(&table).weir("check -c weir.toml", 0);
    let says =
        "weir.toml:16: output.hec[0].token: no credential hec: $CREDENTIALS_DIRECTORY is not set";
    assert!(ended.err.contains(says) && ended.err.contains("not looked at"), "{}", ended.err);
    let ended = bench(&table).weir("run -c weir.toml", 3);
    assert!(ended.err.contains(says), "{}", ended.err);

    let table = "[[output.hec]]\nurl = \"https://a:8088\"\ntoken = { file = \"secret\" }\n";
    let with = |change: fn(&str) -> String| {
        let bench = bench(table);
        let text = change(&bench.read("weir.toml"));
        bench.write("weir.toml", text);
        bench
    };
    let ended =
        with(|text| text.replace("\"spool\"", "\"secret/spool\"")).weir("check -c weir.toml", 3);
    let says = "weir.toml:11: spool.directory: secret/spool: secret is not a directory";
    assert!(ended.err.contains(says), "{}", ended.err);
    let huge = |text: &str| text.replace("bytes_max = 1048576", "bytes_max = 70368744177664");
    let ended = with(huge).weir("check -c weir.toml", 0);
    assert!(ended.err.contains("spool.bytes_max: the spool in spool may take"), "{}", ended.err);
    let ended = with(str::to_owned).weir("check -c weir.toml", 0);
    assert!(
        !ended.err.contains("spool") && ended.out.contains("1 outputs (1 hec)"),
        "{}",
        ended.err
    );
}
