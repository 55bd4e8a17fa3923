//! The rules that fired on a flow before, asked for many times in one look at it.

/// So many are looked through one by one: that takes no longer than a table.
const FEW: usize = 32;
/// Places of the table, of 16 KiB on the stack; at most half of them are taken.
const PLACES: usize = 4_096;

/// The interned ids of rules that do not fire again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Already<'a> {
    list: &'a [u32],
    /// Ids and one, by hash; the next free place takes one whose own is taken. Without it, the list
    /// is looked through.
    table: Option<&'a [u32; PLACES]>,
}

impl Already<'_> {
    /// Calls `f` with the ids of `list`, made ready to be asked for often. Allocates nothing.
    #[inline]
    pub(super) fn with<R>(list: &[u32], f: impl FnOnce(Already<'_>) -> R) -> R {
        if list.len() <= FEW || list.len() > PLACES / 2 {
            return f(Already { list, table: None });
        }
        many(list, f)
    }

    #[inline]
    pub(super) fn contains(&self, uid: u32) -> bool {
        let Some(table) = self.table else { return self.list.contains(&uid) };
        let mut at = place(uid);
        while table[at] != 0 {
            if table[at] == uid + 1 {
                return true;
            }
            at = (at + 1) % PLACES;
        }
        false
    }
}

#[cold]
#[inline(never)]
fn many<R>(list: &[u32], f: impl FnOnce(Already<'_>) -> R) -> R {
    let mut table = [0; PLACES];
    for &uid in list {
        let mut at = place(uid);
        while table[at] != 0 {
            at = (at + 1) % PLACES;
        }
        table[at] = uid + 1;
    }
    f(Already { list, table: Some(&table) })
}

/// Of the upper bits of a product, which all of `uid` has a part in.
const fn place(uid: u32) -> usize {
    (uid.wrapping_mul(0x9e37_79b1) >> 20) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_what_is_in_the_list(
            list in prop::collection::hash_set(0..6_000_u32, 0..3_000), asked in prop::collection::vec(0..6_000_u32, 100),
        ) {
            let list: Vec<u32> = list.into_iter().collect();
            Already::with(&list, |already| {
                for uid in asked.iter().chain(&list[..list.len().min(100)]) {
                    assert_eq!(already.contains(*uid), list.contains(uid), "{uid}");
                }
            });
        }
    }
}
