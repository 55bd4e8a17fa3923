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

/// As [`prefetch`], of every cache line of a value.
#[inline]
pub fn prefetch_all<T>(place: *const T) {
    const LINE_OCTETS: usize = 64;
    let begin: *const u8 = place.cast();
    for line in (0..size_of::<T>()).step_by(LINE_OCTETS) {
        prefetch(begin.wrapping_add(line));
    }
}

/// Takes the room of `values`, which holds nothing yet, from the kernel: each page is touched, so that
/// none has to be cleared when a value is put there. In huge pages where it can.
pub fn take_room<T>(values: &mut Vec<T>) {
    const PAGE_OCTETS: usize = 4_096;
    let room = values.spare_capacity_mut();
    let (begin, octets) = (room.as_mut_ptr().cast::<u8>(), size_of_val(room));
    huge_pages_around(begin as usize, octets);
    for offset in (0..octets).step_by(PAGE_OCTETS) {
        // SAFETY: the octet lies in room that is the vector's own and holds no value.
        unsafe { begin.add(offset).write_volatile(0) };
    }
}

/// Asks for huge pages wherever `begin..begin + octets` lies, also where it shares one with its
/// neighbours on the heap: they are backed otherwise, and hold what they held.
fn huge_pages_around(begin: usize, octets: usize) {
    const WORTH_OCTETS: usize = 64 << 10;
    if octets < WORTH_OCTETS {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        let first = begin / HUGE_OCTETS * HUGE_OCTETS;
        let end = (begin + octets).next_multiple_of(HUGE_OCTETS);
        // SAFETY: the advice changes how pages are backed, not what they hold, whosever they are;
        // where nothing is mapped, or a kernel refuses, nothing is changed.
        unsafe {
            libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _begin = begin;
}

/// Octets of a huge page.
#[cfg(target_os = "linux")]
const HUGE_OCTETS: usize = 2 << 20;

/// Asks the kernel to back the room of `values`, which will fill slowly from its start, with huge pages
/// where it can: fewer faults when it is first touched, fewer misses of the translation cache later.
/// Its first [`SPARSE_OCTETS`] stay ordinary, whatever an allocator asked for: where few values come,
/// huge pages would be memory for nothing.
pub fn fills_slowly<T>(values: &Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        const PAGE_OCTETS: usize = 4_096;
        let begin = values.as_ptr() as usize;
        let end = begin + values.capacity() * size_of::<T>();
        let huge = (begin + SPARSE_OCTETS).next_multiple_of(HUGE_OCTETS);
        let last = end / HUGE_OCTETS * HUGE_OCTETS;
        let ordinary = if huge < last { huge } else { end / PAGE_OCTETS * PAGE_OCTETS };
        let first = begin.next_multiple_of(PAGE_OCTETS);
        advise(first, ordinary, libc::MADV_NOHUGEPAGE);
        // What the allocator wrote at the start of its block may have taken a huge page already.
        if values.is_empty() {
            advise(first, ordinary, libc::MADV_DONTNEED);
        }
        advise(huge, last, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _values = values;
}

/// Octets at the start of room that fills slowly for which huge pages are not worth it.
#[cfg(target_os = "linux")]
const SPARSE_OCTETS: usize = 512 << 10;

/// Advises the kernel on pages `begin..end`, if there are any, of one allocation.
#[cfg(target_os = "linux")]
fn advise(begin: usize, end: usize, advice: libc::c_int) {
    if begin < end {
        // SAFETY: the range lies within an allocation of the caller's own that holds no value where
        // pages are given back; other advice changes how pages are backed, not what they hold. A
        // kernel that refuses loses nothing.
        unsafe {
            libc::madvise(begin as *mut libc::c_void, end - begin, advice);
        }
    }
}
