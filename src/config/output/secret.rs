//! Passwords, keys and tokens: where they are, never what they are.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Where a secret is read from when it is needed. The configuration never holds the secret itself,
/// so no log, dump or error message of it can show one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// `{ file = "/etc/weir/kafka.password" }`: a file's content without its last line end.
    File(PathBuf),
    /// `{ env = "KAFKA_PASSWORD" }`: an environment variable.
    Env(String),
    /// `{ credential = "kafka" }`: a credential of systemd (`LoadCredential=`).
    Credential(String),
}

impl Secret {
    /// Whether its name can be one. A credential is a file in one folder, and no other.
    fn is_a_place(&self) -> bool {
        match self {
            Self::File(path) => !path.as_os_str().is_empty(),
            Self::Env(name) => !name.is_empty() && !name.contains(['=', '\0']),
            Self::Credential(name) => {
                !name.is_empty() && !name.starts_with('.') && !name.contains('/')
            }
        }
    }

    /// Calls `absolute` with its path, if it has one.
    pub fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        if let Self::File(path) = self {
            absolute(path);
        }
    }
}

const EXPECTED: &str =
    "the place of a secret: { file = \"PATH\" }, { env = \"NAME\" } or { credential = \"NAME\" }";

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Place;
        impl<'de> Visitor<'de> for Place {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            /// Somebody wrote the secret itself: it must not come up in the message.
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Secret, E> {
                Err(E::custom(format!("expected {EXPECTED}")))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                let place = map.next_entry::<String, String>()?;
                let secret = match place {
                    Some((kind, path)) if kind == "file" => Secret::File(path.into()),
                    Some((kind, name)) if kind == "env" => Secret::Env(name),
                    Some((kind, name)) if kind == "credential" => Secret::Credential(name),
                    _ => return Err(de::Error::custom(format!("expected {EXPECTED}"))),
                };
                match map.next_key::<String>()? {
                    None if secret.is_a_place() => Ok(secret),
                    _ => Err(de::Error::custom(format!("expected {EXPECTED}"))),
                }
            }
        }
        deserializer.deserialize_any(Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Table {
        password: Secret,
    }

    #[test]
    fn a_secret_is_a_place_and_never_shown() {
        let table = |text: &str| toml::from_str::<Table>(text);
        let places = [
            ("password = { file = \"/a/b\" }", Secret::File("/a/b".into())),
            ("password = { env = \"NAME\" }", Secret::Env("NAME".into())),
            ("password = { credential = \"kafka\" }", Secret::Credential("kafka".into())),
        ];
        for (text, want) in places {
            let read = table(text).expect(text);
            assert_eq!(read.password, want);
            let again = toml::to_string(&read).expect("TOML");
            assert_eq!(table(&again).expect("what was written"), read);
        }
        for text in [
            "password = \"hunter2\"",
            "password = { plain = \"hunter2\" }",
            "password = { file = \"a\", env = \"hunter2\" }",
            "password = {}",
            "password = { file = \"\" }",
            "password = { env = \"hunter2=\" }",
            "password = { credential = \"../hunter2\" }",
        ] {
            let error = table(text).expect_err(text).to_string();
            let message = error.lines().last().unwrap_or_default();
            assert!(message.contains("the place of a secret"), "{error}");
            assert!(!message.contains("hunter2"), "{error}");
        }
    }
}
