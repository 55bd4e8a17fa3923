//! What the kernel tells of this process's threads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Microseconds that each thread was ready to run and had no core: what other work on the host took of
/// it. By its name without `weir-`; the kernel cuts names to 15 octets, and threads of one name add up.
/// Empty where the kernel does not tell (`schedstat` of a task, see the kernel's
/// Documentation/scheduler/sched-stats.rst).
pub(super) fn run_delays_us() -> BTreeMap<String, u64> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let mut delays = BTreeMap::new();
    for (name, delay) in tasks.flatten().filter_map(|task| of(&task.path())) {
        *delays.entry(name).or_default() += delay;
    }
    delays
}

fn of(task: &Path) -> Option<(String, u64)> {
    let name = fs::read_to_string(task.join("comm")).ok()?;
    let name = name.trim();
    let name = name.strip_prefix("weir-").unwrap_or(name).to_owned();
    Some((name, delay_us(&fs::read_to_string(task.join("schedstat")).ok()?)?))
}

/// The second figure: nanoseconds on a run queue.
fn delay_us(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse::<u64>().ok().map(|nanos| nanos / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_figure_is_the_wait() {
        for (told, want) in [
            ("81234567 4500999 17\n", Some(4_500)),
            ("0 0 0\n", Some(0)),
            ("1", None),
            ("", None),
            ("1 x 2", None),
        ] {
            assert_eq!(delay_us(told), want, "{told:?}");
        }
    }

    #[test]
    fn threads_of_the_sensor_are_told_by_name() {
        let (run, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("weir-reader-7".into());
        let thread = thread.spawn(move || wait.recv()).expect("a thread");
        let told = Path::new("/proc/self/schedstat").exists();
        let mut known = false;
        // The thread names itself when it begins to run.
        while told && !known {
            known = run_delays_us().contains_key("reader-7");
        }
        drop(run);
        drop(thread.join());
        assert_eq!(known, told);
    }
}
