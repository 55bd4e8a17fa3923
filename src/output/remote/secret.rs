//! Secrets, read from where the configuration says they are.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::Secret;

/// Octets that a secret may have.
const OCTETS_MAX: u64 = 64 << 10;

/// A secret's value. It is never shown: printing gives `***`.
#[derive(Clone, Eq, PartialEq)]
pub struct Revealed(String);

impl Revealed {
    /// The value, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The environment variable is not there, or not UTF-8.
    #[error(
        "no secret in the environment variable {0}: it is not set for this process, or is not UTF-8"
    )]
    Env(String),
    /// systemd passed no credentials.
    #[error("no credential {0}: $CREDENTIALS_DIRECTORY is not set (LoadCredential= in the unit)")]
    NoCredentials(String),
    /// There is nothing but white space.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

/// Reads the file at `path`. What is no file may keep whoever reads it waiting, or have no end.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut octets = Vec::new();
    file.take(OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > OCTETS_MAX {
        let message = format!("it has more than {OCTETS_MAX} octets, which no secret has");
        return Err(io::Error::other(message));
    }
    Ok(octets)
}

/// Reads `secret`, without line ends after it.
///
/// # Errors
/// [`SecretError`]; it names the place, never the value.
pub fn reveal(secret: &Secret) -> Result<Revealed, SecretError> {
    let text = |octets| String::from_utf8(octets).map_err(|_| io::Error::other("it is not UTF-8"));
    let file = |path: PathBuf| {
        read(&path).and_then(text).map_err(|error| SecretError::File { path, error })
    };
    let (text, place) = match secret {
        Secret::File(path) => (file(path.clone())?, path.display().to_string()),
        Secret::Env(name) => {
            let text = std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?;
            (text, name.clone())
        }
        Secret::Credential(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
            let directory = directory.ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
            let path = PathBuf::from(directory).join(name);
            (file(path)?, format!("the credential {name}"))
        }
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() { Err(SecretError::Empty(place)) } else { Ok(Revealed(text.into())) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_is_read_and_not_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        fs::write(&path, "hunter2\n").expect("room");
        let secret = reveal(&Secret::File(path.clone())).expect("a secret");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        fs::write(&path, "\n").expect("room");
        for (place, want) in [
            (Secret::File(path), "is empty"),
            (Secret::File("/dev/zero".into()), "in /dev/zero: it is no regular file"),
            (Secret::File("/".into()), "in /: it is no regular file"),
            (Secret::File("/no/such".into()), "cannot read the secret in /no/such"),
            (
                Secret::Env("WEIR_NO_SUCH".into()),
                "environment variable WEIR_NO_SUCH: it is not set",
            ),
        ] {
            let error = reveal(&place).expect_err("none").to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn what_has_no_end_or_waits_is_no_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.expect("mkfifo").success());
        let error = reveal(&Secret::File(fifo)).expect_err("nobody writes").to_string();
        assert!(error.contains("fifo: it is no regular file"), "{error}");
        let path = directory.path().join("long");
        fs::write(&path, vec![b'a'; 65_536]).expect("room");
        let secret = reveal(&Secret::File(path.clone())).expect("a long one");
        assert_eq!(secret.expose().len(), 65_536);
        fs::write(&path, vec![b'a'; 65_537]).expect("room");
        let error = reveal(&Secret::File(path)).expect_err("longer").to_string();
        assert!(error.contains("long: it has more than 65536 octets"), "{error}");
    }
}
