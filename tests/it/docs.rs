//! Generated pages are fresh; `WEIR_BLESS=1` writes them again (`make docs`).

use std::fs;
use std::path::Path;

use weir::config::{self, Config};

#[track_caller]
pub(crate) fn fresh(file: &str, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::write(&path, want).expect("written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == want, "{file} is not fresh: run `make docs`");
}

#[test]
fn metrics_page_is_fresh() {
    fresh("docs/metrics.md", &weir::metrics::table::markdown());
}

/// What stands in comments is as it would be written: names of keys, words, forms of values.
#[test]
fn what_the_shipped_configuration_shows_in_comments_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/weir.toml");
    let text = fs::read_to_string(path).expect("config/weir.toml");
    let is_line = |line: &str| {
        let key = line.split(" = ").next().filter(|key| *key != line).unwrap_or_default();
        let name = |c: char| c.is_ascii_alphanumeric() || "_.\"".contains(c);
        line.starts_with('[') || !key.is_empty() && key.chars().all(name)
    };
    let uncommented = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_line(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    let mut text: String = text.lines().map(uncommented).collect::<Vec<_>>().join("\n");
    let problems = loop {
        let Err(problems) = config::parse("weir.toml", &text) else { break Vec::new() };
        // A key that is shown twice, in two tables of one kind or with another value.
        let twice = problems.iter().find_map(|problem| {
            let line = problem.to_string();
            let (_, line) = line.split_once("weir.toml:")?;
            let number: usize = line.split(':').next()?.parse().ok()?;
            line.contains("duplicate key").then_some(number)
        });
        let Some(number) = twice else { break problems };
        text = (1..).zip(text.lines()).filter(|(at, _)| *at != number).fold(
            String::new(),
            |mut text, (_, line)| {
                text += line;
                text.push('\n');
                text
            },
        );
    };
    // Of some keys one is written in the place of another, and here are both.
    let both = ["instead of", "go together", "needs a user and a password"];
    let problems = problems.iter().map(ToString::to_string);
    let problems: Vec<String> =
        problems.filter(|problem| !both.iter().any(|words| problem.contains(words))).collect();
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn the_shipped_configuration_shows_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/weir.toml");
    let text = fs::read_to_string(path).expect("config/weir.toml");
    let shipped = config::parse("config/weir.toml", &text).expect("valid");
    let mut want = Config::default();
    want.rules.directories = vec!["rules".into()];
    want.output.files.clone_from(&shipped.output.files);
    assert_eq!(shipped, want, "values differ from the defaults");

    let shown = |key: &str| {
        text.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.split('=').next().is_some_and(|name| name.trim() == key)
        })
    };
    want.rules.placeholders = Some("placeholders.yml".into());
    want.input.capture = Some(config::Capture::default());
    want.site = vec![config::Site::default()];
    want.exporter = vec![config::Exporter::default()];
    want.rules.logsource = vec![config::Logsource::default()];
    want.rules.feed = vec![config::Feed::default()];
    want.rules.suppress = vec![config::Suppress::default()];
    let secret = || Some(config::Secret::Env(String::new()));
    let tls = config::output::KafkaTls {
        ca_file: Some("ca.pem".into()),
        certificate_file: Some("weir.pem".into()),
        key_file: Some("weir.key".into()),
        key_password: secret(),
        ..config::output::KafkaTls::default()
    };
    let sasl = config::output::KafkaSasl {
        password: secret(),
        token: secret(),
        ..config::output::KafkaSasl::default()
    };
    want.output.kafka = vec![config::output::Kafka {
        tls: Some(tls),
        sasl: Some(sasl),
        add: [("tenant".to_owned(), config::FieldValue::Integer(1))].into(),
        ..config::output::Kafka::default()
    }];
    want.detect.engine = Some(config::detect::Engine::default());
    want.output.s3 = vec![config::S3 {
        secret_access_key: Some(config::Secret::Env(String::new())),
        session_token: Some(config::Secret::Env(String::new())),
        credentials_file: Some("credentials".into()),
        ca_file: Some("ca.pem".into()),
        add: [("tenant".to_owned(), config::FieldValue::Integer(1))].into(),
        ..config::S3::default()
    }];
    let place = || Some(config::Secret::Env(String::new()));
    let tls = config::Tls {
        ca_file: Some("ca.pem".into()),
        certificate_file: Some("me.pem".into()),
        key_file: Some("me.key".into()),
        verify: true,
    };
    want.output.hec = vec![config::Hec { token: place(), tls, ..config::Hec::default() }];
    want.output.elasticsearch = vec![config::Elasticsearch {
        password: place(),
        api_key: place(),
        ..config::Elasticsearch::default()
    }];
    want.output.webhook = vec![config::Webhook {
        url_secret: place(),
        authorization: place(),
        ..config::Webhook::default()
    }];
    want.output.syslog = vec![config::Syslog::default()];
    want.output.ipfix = vec![config::Ipfix::default()];
    want.output.tee = vec![config::Tee::default()];
    let every = toml::Table::try_from(&want).expect("a table");
    let mut missing = Vec::new();
    let mut open = vec![toml::Value::Table(every)];
    while let Some(value) = open.pop() {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let leaf = !value.is_table()
                        && !value.as_array().is_some_and(|a| a.iter().any(toml::Value::is_table));
                    if shown(&key) {
                        continue;
                    } else if leaf {
                        missing.push(key);
                    } else {
                        open.push(value);
                    }
                }
            }
            toml::Value::Array(values) => open.extend(values),
            _ => {}
        }
    }
    assert_eq!(missing, Vec::<String>::new(), "keys that config/weir.toml does not show");
}

#[test]
fn config_page_is_fresh() {
    let text = include_str!("../../config/weir.toml");
    let page = format!(
        "# Configuration\n\nOne TOML file, by default `/etc/weir/weir.toml`. Every key has a default; an unknown \
         key, a wrong type and a\nvalue out of its bounds are refused with file, line and key (`weir check -c \
         FILE`). `weir config default`\nprints what follows, `weir config show -c FILE` the effective \
         values. This page is generated from\n`config/weir.toml`, which a test holds against the code. \
         SIGHUP takes over changes in `[rules]` and in `[model]`\nbut `pairs_max` and \
         `connections_max`; any other changed key is named and refused until a \
         restart.\n\n```toml\n{text}```\n"
    );
    fresh("docs/config.md", &page);
}
