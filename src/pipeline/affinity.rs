//! Cores: which there are, which worker goes where, and the priority of threads.

#![expect(unsafe_code, reason = "sched_setaffinity has no safe form in std")]

use std::io;
use std::path::Path;

use crate::config::Workers;
use crate::net::SHARDS;

/// A core that this process may use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Core {
    /// Which of its physical core's threads it is, from 0.
    sibling: usize,
    /// Its node of memory (NUMA), counted from the one that is wanted.
    node: usize,
    /// The operating system's number.
    number: usize,
}

/// The core of each worker; `None` for each that goes where the kernel puts it.
///
/// One thread of each physical core comes first, of one node of memory before the next, from `near`
/// on (the node of the interface that is read): second threads share the caches of the first. Where
/// there are more cores than workers the first is left to readers and interrupts. What a worker
/// allocates lies on its own node, as it touches it first.
///
/// # Errors
/// If the configuration names a core that this process may not use.
pub fn place(workers: &Workers, pin: bool, near: Option<usize>) -> io::Result<Vec<Option<usize>>> {
    let order = order(near);
    let count = match workers {
        Workers::Auto => order.len().saturating_sub(1).clamp(1, SHARDS),
        Workers::Count(count) => *count,
        Workers::Cores(wanted) => {
            if let Some(core) = wanted.iter().find(|core| !order.contains(core)) {
                let message = format!("sensor.workers: core {core} is none of this process's");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            return Ok(wanted.iter().copied().map(Some).collect());
        }
    };
    Ok(if pin && !order.is_empty() { assign(&order, count) } else { vec![None; count] })
}

/// `count` workers on the cores of `order`.
fn assign(order: &[usize], count: usize) -> Vec<Option<usize>> {
    let spared = usize::from(order.len() > count);
    order[spared..].iter().cycle().take(count).copied().map(Some).collect()
}

/// The cores that this process may use, the best for a worker first.
fn order(near: Option<usize>) -> Vec<usize> {
    let mut cores: Vec<Core> = allowed().into_iter().map(|core| topology(core, near)).collect();
    cores.sort_unstable();
    cores.into_iter().map(|core| core.number).collect()
}

/// What the kernel says of a core; one of a kind where it says nothing.
fn topology(number: usize, near: Option<usize>) -> Core {
    let place = format!("/sys/devices/system/cpu/cpu{number}");
    let siblings = std::fs::read_to_string(format!("{place}/topology/thread_siblings_list"));
    let sibling = numbers(&siblings.unwrap_or_default()).iter().position(|&n| n == number);
    let node =
        std::fs::read_dir(&place).into_iter().flatten().flatten().find_map(|entry| {
            entry.file_name().to_str()?.strip_prefix("node")?.parse::<usize>().ok()
        });
    let node = node.unwrap_or(0);
    let node = if Some(node) == near { 0 } else { node + 1 };
    Core { sibling: sibling.unwrap_or(0), node, number }
}

/// The numbers of a list such as `0-3,8`; none of one that is not understood.
fn numbers(list: &str) -> Vec<usize> {
    let part = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse().ok()?)
    };
    list.trim().split(',').filter_map(part).flatten().collect()
}

/// The node of memory that `interface` hangs on, if it is a device that tells.
#[must_use]
pub fn node_of(interface: &str) -> Option<usize> {
    let place = Path::new("/sys/class/net").join(interface).join("device/numa_node");
    // -1 where there is but one.
    std::fs::read_to_string(place).ok()?.trim().parse().ok()
}

/// The cores that this process may use.
fn allowed() -> Vec<usize> {
    // SAFETY: all-zero is an empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let octets = size_of::<libc::cpu_set_t>();
    // SAFETY: `allowed` has room for `octets` octets; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, octets, &raw mut allowed) } != 0 {
        return Vec::new();
    }
    let all = libc::CPU_SETSIZE as usize;
    // SAFETY: each index is below CPU_SETSIZE.
    (0..all).filter(|&core| unsafe { libc::CPU_ISSET(core, &allowed) }).collect()
}

/// Pins the calling thread to `core`. Fails where the service's sandbox forbids it; that costs
/// speed, never correctness.
///
/// # Errors
/// The operating system's.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `core` is below CPU_SETSIZE, the set is initialised, and 0 is the calling thread.
    let result = unsafe {
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut one);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the calling thread yield to others: for work that may take its time beside the workers'.
/// Where that is refused, it goes on as before.
pub fn step_back() {
    // SAFETY: no memory is involved; 0 is the calling thread (setpriority(2), "C library/kernel
    // differences").
    let refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) } != 0;
    if refused {
        tracing::debug!(error = %io::Error::last_os_error(), "cannot lower a thread's priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        for (list, want) in
            [("0\n", vec![0]), ("0-2,8", vec![0, 1, 2, 8]), ("", vec![]), ("x,3", vec![3])]
        {
            assert_eq!(numbers(list), want, "{list}");
        }
    }

    #[test]
    fn a_core_is_spared_for_readers_where_there_is_one() {
        let some = |cores: &[usize]| cores.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(assign(&[4], 1), some(&[4]));
        assert_eq!(assign(&[4, 5], 1), some(&[5]));
        assert_eq!(assign(&[4, 5, 6], 2), some(&[5, 6]));
        assert_eq!(assign(&[4, 5], 2), some(&[4, 5]));
        assert_eq!(assign(&[4, 5], 3), some(&[4, 5, 4]));
    }

    #[test]
    fn physical_cores_come_before_their_second_threads_and_near_memory_before_far() {
        let core = |sibling, node, number| Core { sibling, node, number };
        let mut cores =
            [core(1, 0, 8), core(0, 1, 4), core(0, 0, 1), core(0, 0, 0), core(1, 1, 12)];
        cores.sort_unstable();
        assert_eq!(cores.map(|core| core.number), [0, 1, 4, 8, 12]);
    }

    #[test]
    fn workers_are_pinned_to_cores_that_the_process_may_use() {
        let cores = allowed();
        let placed = place(&Workers::Auto, true, None).expect("cores");
        assert_eq!(placed.len(), cores.len().saturating_sub(1).clamp(1, SHARDS));
        assert!(placed.iter().flatten().all(|core| cores.contains(core)), "{placed:?} {cores:?}");
        assert_eq!(place(&Workers::Count(3), false, None).expect("any"), [None, None, None]);
        let first = cores[0];
        let listed = place(&Workers::Cores(vec![first]), true, None).expect("allowed");
        assert_eq!(listed, [Some(first)]);
        let error = place(&Workers::Cores(vec![4_096]), true, None).expect_err("no such core");
        assert_eq!(error.to_string(), "sensor.workers: core 4096 is none of this process's");
        std::thread::spawn(move || {
            pin(first).expect("allowed");
            assert_eq!(allowed(), [first]);
        })
        .join()
        .expect("pinned");
    }
}
