//! Logins and TLS.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;
use weir::config::output::{Kafka as Settings, KafkaMechanism, KafkaSasl, KafkaTls, Secret};

use super::{Slices, deliver, fails, slices, target};
use crate::servers::kafka::{Doors, Kafka, create};

fn sasl(mechanism: KafkaMechanism, password: &Path) -> Option<KafkaSasl> {
    let password = Some(Secret::File(password.to_owned()));
    Some(KafkaSasl { mechanism, username: "weir".into(), password, token: None })
}

#[test]
fn logins_are_taken_and_a_wrong_password_is_told() {
    let Some(kafka) = Kafka::start(Doors::Sasl, None) else { return };
    let folder = TempDir::new().expect("a folder");
    let [right, wrong, token] = ["right", "wrong", "token"].map(|name| folder.path().join(name));
    std::fs::write(&right, "s3cret\n").expect("written");
    std::fs::write(&wrong, "guess").expect("written");
    let mut admin = kafka.client();
    admin.set("security.protocol", "sasl_plaintext").set("sasl.mechanism", "PLAIN");
    admin.set("sasl.username", "weir").set("sasl.password", "s3cret");
    create(&admin, "guarded", 1, &[]);

    let slices = slices();
    let with = |sasl| Settings {
        brokers: vec![kafka.brokers()],
        topic: "guarded".into(),
        timeout_s: 5,
        sasl,
        ..Settings::default()
    };
    let mut number = 0;
    for mechanism in [KafkaMechanism::Plain, KafkaMechanism::ScramSha256] {
        number += 1;
        let unit = Slices::new(&slices[..10], number);
        assert_eq!(deliver(&mut target(&with(sasl(mechanism, &right))), &unit).dead, []);
        let (reason, message) = fails(&mut target(&with(sasl(mechanism, &wrong))), &unit);
        assert_eq!(reason, "login", "{message}");
        assert!(message.to_lowercase().contains("authentication failed"), "{message}");
        assert!(!message.contains("guess"), "{message}");
    }

    // TLS where there is none, and no login where one is wanted: told with what to set.
    let right = with(sasl(KafkaMechanism::Plain, &right));
    let over = Settings { tls: Some(KafkaTls::default()), ..right.clone() };
    for (settings, wants) in [
        (over, "expected a listener that speaks TLS, and this one does not"),
        (Settings { sasl: None, ..right }, "`tls` or `sasl`"),
    ] {
        number += 1;
        let (_, message) = fails(&mut target(&settings), &Slices::new(&slices[..10], number));
        let unanswered = message.contains("whether the listener wants `tls` or `sasl`");
        assert!(message.contains(wants) || unanswered, "{message}");
        assert!(message.contains(&kafka.brokers()), "{message}");
    }

    // An unsigned JWT, as the broker's own validator for tests takes it.
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    let claims = |left: u64| {
        let (iat, exp) = (now.as_secs(), now.as_secs() + left);
        format!("{{\"sub\":\"weir\",\"iat\":{iat},\"exp\":{exp}}}")
    };
    let jwt = |left| format!("{}.{}.", part("{\"alg\":\"none\"}".to_owned()), part(claims(left)));
    std::fs::write(&token, jwt(600)).expect("written");
    let oauth = KafkaSasl {
        mechanism: KafkaMechanism::Oauthbearer,
        token: Some(Secret::File(token)),
        ..KafkaSasl::default()
    };
    let unit = Slices::new(&slices[..10], 9);
    assert_eq!(deliver(&mut target(&with(Some(oauth))), &unit).dead, []);
}

/// A certification authority, the broker's and a client's certificates.
pub(super) fn keys(folder: &Path) -> bool {
    const SCRIPT: &str = r#"
set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=weir-ca -keyout ca.key -out ca.crt
for who in broker client; do
    openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $who.key -out $who.csr
    printf 'subjectAltName=IP:127.0.0.1\n' >$who.ext
    openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
        -extfile $who.ext -out $who.crt
    openssl pkcs8 -topk8 -nocrypt -in $who.key -out $who.p8
    cat $who.p8 $who.crt >$who.pem
done
"#;
    let ran = Command::new("bash").args(["-c", SCRIPT]).current_dir(folder).output();
    ran.is_ok_and(|output| output.status.success())
}

#[test]
fn tls_is_verified_and_shows_our_certificate() {
    let folder = TempDir::new().expect("a folder");
    if !keys(folder.path()) {
        return eprintln!("SKIPPED: no openssl on this machine");
    }
    let doors = Doors::Tls(folder.path().to_owned());
    let Some(kafka) = Kafka::start(doors, None) else { return };
    let path = |name: &str| Some(folder.path().join(name));
    let ours = KafkaTls {
        ca_file: path("ca.crt"),
        certificate_file: path("client.crt"),
        key_file: path("client.p8"),
        ..KafkaTls::default()
    };
    let mut admin = kafka.client();
    admin.set("security.protocol", "ssl");
    for (name, file) in [
        ("ssl.ca.location", "ca.crt"),
        ("ssl.certificate.location", "client.crt"),
        ("ssl.key.location", "client.p8"),
    ] {
        admin.set(name, folder.path().join(file).display().to_string());
    }
    create(&admin, "private", 1, &[]);
    let slices = slices();
    let with = |tls| Settings {
        brokers: vec![kafka.brokers()],
        topic: "private".into(),
        timeout_s: 3,
        tls: Some(tls),
        ..Settings::default()
    };
    let unit = Slices::new(&slices[..10], 0);
    assert_eq!(deliver(&mut target(&with(ours.clone())), &unit).dead, []);
    // Without the authority the broker is a stranger; without a certificate we are.
    let stranger = KafkaTls { ca_file: None, ..ours.clone() };
    let (reason, message) = fails(&mut target(&with(stranger)), &unit);
    assert_eq!(reason, "tls", "{message}");
    assert!(message.contains("set tls.ca_file"), "{message}");
    let plain = Settings { tls: None, ..with(ours.clone()) };
    let (_, message) = fails(&mut target(&plain), &unit);
    assert!(message.contains("`tls` or `sasl`"), "{message}");
    let nobody = KafkaTls { certificate_file: None, key_file: None, ..ours };
    let (reason, message) = fails(&mut target(&with(nobody)), &unit);
    assert!(["tls", "unreachable"].contains(&reason), "{reason}: {message}");
}
