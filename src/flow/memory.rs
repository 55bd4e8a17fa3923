//! What detection keeps on a flow's entry between calls.

use std::fmt;
use std::ops::Deref;

/// What detection keeps on a flow's entry: the rules that fired and when to look again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// Interned ids of the rules that fired, in the order of firing. A rule never fires twice.
    pub fired: Fired,
    /// Generation of the rule set that last looked at this flow; 0 before the first look.
    pub generation: u32,
    /// Interned id of the exclusion that keeps rules from the flow, as decided when it was opened,
    /// turned round, or met another rule set.
    pub excluded: Option<u16>,
    /// When the table must call [`FlowSink::woke`](super::FlowSink::woke).
    pub wake: Wake,
}

/// Ids that are held without an allocation.
const INLINE: usize = 6;

/// A bounded list of interned rule ids: a few in place, more on the heap, at most
/// [`Fired::MAX`]. Reads as a slice.
#[derive(Clone, Default)]
pub struct Fired {
    /// The first of them, while there are no more than fit.
    inline: [u32; INLINE],
    /// How many of `inline` are set; of no meaning once `heap` holds any.
    len: u8,
    heap: Vec<u32>,
}

impl Fired {
    /// Ids that one flow remembers, at most.
    pub const MAX: usize = 1_024;

    /// Appends `id`. Returns false, and changes nothing, if the list is full: a rule that cannot be
    /// remembered must not fire, else it would fire again and again. The caller counts it.
    #[must_use]
    pub fn push(&mut self, id: u32) -> bool {
        if self.len() >= Self::MAX {
            return false;
        }
        if self.heap.is_empty() {
            if let Some(place) = self.inline.get_mut(usize::from(self.len)) {
                *place = id;
                self.len += 1;
                return true;
            }
            self.heap.extend_from_slice(&self.inline);
        }
        self.heap.push(id);
        true
    }

    /// Forgets all of them, and gives the heap's memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Deref for Fired {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        if self.heap.is_empty() { &self.inline[..usize::from(self.len)] } else { &self.heap }
    }
}

impl PartialEq for Fired {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Fired {}

impl fmt::Debug for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Fired {
    type Item = &'a u32;
    type IntoIter = std::slice::Iter<'a, u32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Wake-up values of one flow: the next threshold that any rule uses, per cumulated counter.
///
/// The table compares the sum of both sides' raw (unscaled) counters, whatever the orientation, so
/// that an ordinary update costs one compare per counter: due is what has reached its value.
/// Whoever sets them divides by the sampling interval and makes sure that no threshold on one side
/// can be crossed before the sum gets there. `u64::MAX` never wakes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wake {
    /// Sum of the octets of both directions.
    pub octets: u64,
    /// Sum of the packets of both directions.
    pub packets: u64,
    /// Sum of the payload octets, or of the layer-2 octets, of both directions.
    pub other_octets: u64,
    /// Duration (last − first), in microseconds.
    pub duration_us: i64,
    /// Whether a TCP flag that was not seen before wakes the flow.
    pub on_new_flags: bool,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            octets: u64::MAX,
            packets: u64::MAX,
            other_octets: u64::MAX,
            duration_us: i64::MAX,
            on_new_flags: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_in_order_up_to_the_bound() {
        let mut fired = Fired::default();
        let mut want = Vec::new();
        for id in 0..u32::try_from(Fired::MAX).expect("small") {
            assert!(fired.push(id * 3));
            want.push(id * 3);
            assert_eq!(*fired, *want);
        }
        assert!(!fired.push(1));
        assert_eq!(*fired, *want);
        assert!(fired.contains(&3) && !fired.contains(&4));
        fired.clear();
        assert!(fired.is_empty() && fired == Fired::default());
    }
}
