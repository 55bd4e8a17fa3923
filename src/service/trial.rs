//! A model that a user points the sensor at is tried in a process of its own before it is loaded.
//!
//! What runs a graph is a large library, and a damaged or odd graph can make it panic, overflow its
//! stack or take all memory. The first of these ends the process in a release build, the others in any:
//! a sensor must not end because a file of weights changed. So the binary starts itself once
//! more, hands the ONNX file's octets over, and looks how that ends. What the other process survived
//! is loaded here, from the same octets.

use crate::config::Config;
use crate::pipeline::sequences::{self, Book, LoadModelError};

/// Loads the model that `config` wants, once it was tried.
///
/// # Errors
/// [`LoadModelError`]: also what the graph does to the process that loads it.
pub fn book(config: &Config) -> Result<Option<Book>, LoadModelError> {
    sequences::book(config, attempt)
}

/// There is none to try without the feature.
#[cfg(not(feature = "model"))]
fn attempt(_: &[u8]) -> Result<(), String> {
    Ok(())
}

#[cfg(feature = "model")]
pub use own::{COMMAND, run};

#[cfg(feature = "model")]
use own::attempt;

#[cfg(feature = "model")]
mod own {
    use std::io::{self, Read, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use crate::detect::sequence::{Model, ModelError};

    /// This binary, also after an upgrade put another in its place.
    const BINARY: &str = "/proc/self/exe";
    /// The first argument of the process that does the work; no command for users.
    pub const COMMAND: &str = "try-model";
    /// Longer than this no loading takes; the shipped model's takes a tenth of a second.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// How often it is looked whether the process has ended.
    const LOOK: Duration = Duration::from_millis(5);
    /// Address space of the process, in octets.
    const SPACE_MAX: u64 = 8 << 30;
    /// No thread that loads a model in the sensor has less stack, in octets.
    const STACK: usize = 3 << 19;
    /// Octets of what the process says that are kept.
    const SAID_MAX: u64 = 64 << 10;
    /// How the process ends when it refuses the model: whoever loads it will do so, too, and say why.
    const REFUSED: i32 = 3;

    /// Tries `onnx` in a process of its own. An error is what that process came to; a graph that is
    /// merely refused is none.
    pub(super) fn attempt(onnx: &[u8]) -> Result<(), String> {
        let failed =
            |error: io::Error| format!("it cannot be tried in a process of its own: {error}");
        let mut child = Command::new(BINARY)
            .arg(COMMAND)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let said = child.stderr.take().map(|stderr| thread::spawn(move || read(stderr)));
        if let Some(mut stdin) = child.stdin.take() {
            // One that has ended takes nothing more: how it ended tells.
            drop(stdin.write_all(onnx));
        }
        let ended = wait(&mut child).map_err(failed)?;
        let said = said.and_then(|reader| reader.join().ok()).unwrap_or_default();
        let Some(status) = ended else {
            return Err(format!("loading it takes longer than {} s", PATIENCE.as_secs()));
        };
        if status.success() || status.code() == Some(REFUSED) {
            return Ok(());
        }
        Err(format!("it ends the process that loads it ({}){}", ending(status), reason(&said)))
    }

    /// How `child` ended; `None` if it was ended, as it took too long.
    fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(LOOK);
        }
    }

    /// What comes, up to a bound, and takes the rest.
    fn read(mut from: impl Read) -> String {
        let mut kept = Vec::new();
        let all = from.by_ref().take(SAID_MAX).read_to_end(&mut kept);
        drop(all.and_then(|_| io::copy(&mut from, &mut io::sink())));
        String::from_utf8_lossy(&kept).into_owned()
    }

    fn ending(status: ExitStatus) -> String {
        let code = || format!("exit code {}", status.code().unwrap_or_default());
        status.signal().map_or_else(code, |signal| format!("signal {signal}"))
    }

    /// What a panic said, or else the runtime last, behind a colon.
    fn reason(said: &str) -> String {
        let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let panicked = lines.clone().skip_while(|line| !line.contains(" panicked at ")).nth(1);
        panicked.or_else(|| lines.next_back()).map_or_else(String::new, |line| format!(": {line}"))
    }

    /// The process's side: tries the ONNX file on standard input. Whether the model can be used; the
    /// error is told to standard error.
    ///
    /// # Errors
    /// If standard input cannot be read, or no thread be started.
    pub fn run() -> io::Result<Result<(), ModelError>> {
        bound();
        let mut onnx = Vec::new();
        io::stdin().read_to_end(&mut onnx)?;
        let thread = thread::Builder::new().name(COMMAND.to_owned()).stack_size(STACK);
        let trial = thread.spawn(move || Model::attempt(&onnx))?;
        trial.join().map_err(|_| io::Error::other("the graph made what runs it panic"))
    }

    /// Bounds memory, and leaves no core; where the service manager forbids that, its own bounds hold.
    fn bound() {
        for (resource, most) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_AS, SPACE_MAX)] {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: the pointer is to a value that lives through the call, which only reads it.
            let _refused = unsafe { libc::setrlimit(resource, &raw const limit) };
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_reason_is_that_of_the_panic() {
            let panic = "\nthread 'try-model' (7) panicked at tract/src/ops.rs:77:31:\nindex 9 of 3\n\
                         note: run with `RUST_BACKTRACE=1`\nweir: it panicked\n";
            let overflow = "\nthread 'x' has overflowed its stack\nfatal runtime error: overflow\n";
            for (said, want) in [
                (panic, ": index 9 of 3"),
                (overflow, ": fatal runtime error: overflow"),
                ("memory allocation of 9 bytes failed\n", ": memory allocation of 9 bytes failed"),
                ("", ""),
            ] {
                assert_eq!(reason(said), want);
            }
        }

        #[test]
        fn how_a_process_ends_is_told() {
            let ended =
                |command: &str| Command::new("sh").args(["-c", command]).status().expect("a shell");
            assert_eq!(ending(ended("kill -ABRT $$")), "signal 6");
            assert_eq!(ending(ended("exit 70")), "exit code 70");
        }
    }
}
