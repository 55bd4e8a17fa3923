//! Hints to the processor and the kernel about memory. They change speed, never a result.

/// Asks the processor to fetch what `place` points to into its caches. Does nothing where the
/// target has no such instruction.
#[inline]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing architecturally and faults on no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _place = place;
}

/// Asks the kernel to back the room of `values` with huge pages where it can: fewer faults when it
/// is first touched, fewer misses of the translation cache later. Below a few huge pages it would
/// only waste memory, and nothing is asked.
pub fn huge_pages<T>(values: &Vec<T>) {
    const HUGE_OCTETS: usize = 2 << 20;
    let octets = values.capacity() * size_of::<T>();
    if octets < 2 * HUGE_OCTETS {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        let begin = values.as_ptr() as usize;
        let first = begin.next_multiple_of(HUGE_OCTETS);
        let end = (begin + octets) / HUGE_OCTETS * HUGE_OCTETS;
        // SAFETY: the range lies within the vector's own allocation, and the advice changes how
        // its pages are backed, not what they hold. A kernel that refuses loses nothing.
        unsafe {
            libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE);
        }
    }
}
