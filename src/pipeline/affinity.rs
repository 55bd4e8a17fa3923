//! Pinning threads to cores, and their priority.

#![expect(unsafe_code, reason = "sched_setaffinity has no safe form in std")]

use std::io;

/// Pins the calling thread to the `index`th of the cores that this process may use, modulo their
/// number. Fails where the service's sandbox forbids it; that costs speed, never correctness.
///
/// # Errors
/// The operating system's.
pub fn pin(index: usize) -> io::Result<usize> {
    // SAFETY: all-zero is an empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let octets = size_of::<libc::cpu_set_t>();
    // SAFETY: `allowed` has room for `octets` octets; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, octets, &raw mut allowed) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let all = libc::CPU_SETSIZE as usize;
    // SAFETY: each index is below CPU_SETSIZE.
    let cores: Vec<usize> =
        (0..all).filter(|&core| unsafe { libc::CPU_ISSET(core, &allowed) }).collect();
    let core = *cores
        .get(index.checked_rem(cores.len()).unwrap_or(0))
        .ok_or_else(|| io::Error::other("no core is allowed"))?;
    // SAFETY: `core` is below CPU_SETSIZE, and the set is initialised.
    let result = unsafe {
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut one);
        libc::sched_setaffinity(0, octets, &raw const one)
    };
    if result == 0 { Ok(core) } else { Err(io::Error::last_os_error()) }
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

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
