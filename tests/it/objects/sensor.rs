//! The sensor as it is run: the example, and credentials of the instance that it runs on.

use super::{all, listed, server};
use crate::servers::s3::{ACCESS_KEY, Kind, SECRET_KEY};
use crate::siem::examples::{example, run, send};
use crate::siem::server::{Answer, Server};
use crate::system::{Bench, Sensor, free_ports, weir};

#[test]
fn the_example_runs() {
    for kind in [Kind::Moto, Kind::S3sFs] {
        let Some(s3) = server(kind) else { return };
        let bench = Bench::new();
        let keys = format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        );
        bench.write("aws-credentials", keys);
        let endpoint = s3.endpoint();
        let config = example("s3.toml", &[("https://minio.example:9000", &endpoint)]);
        let sensor = run(&bench, &config);
        for sink in ["lake", "lake-alerts"] {
            let name = format!("weir_output_records_acknowledged_total{{sink=\"{sink}\"}}");
            sensor.reaches(&name, 1.0);
        }
        let (_, log) = sensor.stop();
        assert!(!log.contains(SECRET_KEY), "{log}");
        let listed = listed(&s3);
        assert_eq!(all(&listed).len(), 2, "{kind:?}: a slice and its alert: {listed:?}");
        for (object, end) in listed.objects.iter().zip([".lake.json.gz", ".lake-alerts.parquet"]) {
            assert!(object.key.starts_with("streaming/north/"), "{object:?}");
            assert!(object.key.ends_with(end) || listed.objects.len() == 2, "{object:?}");
        }
    }
}

/// IMDSv2: a token by PUT, then the role's name, then its keys.
#[test]
fn an_instance_signs_with_the_keys_of_its_role() {
    let Some(s3) = server(Kind::S3sFs) else { return };
    let keys = format!(
        r#"{{"AccessKeyId": "{ACCESS_KEY}", "SecretAccessKey": "{SECRET_KEY}", "Token": "t",
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
            "Expiration": "2099-01-01T00:00:00Z"}}"#
    );
    let metadata = Server::any(move |request| match (&*request.method, &*request.path) {
        ("PUT", "/latest/api/token") => Answer::new(200, "token"),
        _ if request.headers.get("x-aws-ec2-metadata-token").is_none_or(|t| t != "token") => {
            Answer::new(401, "")
        }
        ("GET", "/latest/meta-data/iam/security-credentials/") => Answer::new(200, "role"),
        ("GET", "/latest/meta-data/iam/security-credentials/role") => Answer::new(200, &*keys),
        _ => Answer::new(404, ""),
    });
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("rules")).expect("made");
    let more = format!(
        "[flow.netflow]\nidle_timeout_s = 1\n[spool]\ndirectory = \"spool\"\nsegment_idle_s = 1\n\
         [[output.s3]]\nname = \"lake\"\nurl = \"s3://lake\"\nendpoint = \"{}\"\n",
        s3.endpoint()
    );
    let ports = free_ports();
    Sensor::configure(&bench, &more, ports);
    let mut command = weir();
    command.env("AWS_METADATA_ENDPOINT", metadata.url());
    let sensor = Sensor::spawn(command, &bench, ports).ready();
    send(&sensor);
    sensor.reaches("weir_output_records_acknowledged_total{sink=\"lake\"}", 1.0);
    sensor.stop();
    assert_eq!(all(&listed(&s3)).len(), 1);
}

/// Neither keys nor an instance: told as such, not ready, and the flow waits.
#[test]
fn a_sensor_without_credentials_says_so_and_is_not_ready() {
    let metadata = Server::any(|_| Answer::new(404, ""));
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("rules")).expect("made");
    let more = "[flow.netflow]\nidle_timeout_s = 1\n[spool]\ndirectory = \"spool\"\n\
                segment_idle_s = 1\nstop_s = 0\n\
                [[output.s3]]\nname = \"lake\"\nurl = \"s3://lake\"\n";
    let ports = free_ports();
    Sensor::configure(&bench, more, ports);
    let mut command = weir();
    command.env("AWS_METADATA_ENDPOINT", metadata.url());
    let sensor = Sensor::spawn(command, &bench, ports).ready();
    send(&sensor);
    sensor.says("no credentials, neither configured nor");
    let (status, body) = sensor.get("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("no credentials"), "{body}");
    let (ledgers, _) = sensor.stop();
    assert_eq!(ledgers["sinks"]["lake"]["spooled"], 1, "{ledgers}");
}
