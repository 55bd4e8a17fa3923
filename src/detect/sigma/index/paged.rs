//! A cell for each value of a small domain, in pages of which equal ones are kept once: a table of
//! ports in which a few are special stays in the first cache.

use std::collections::HashMap;
use std::hash::Hash;

/// Cells of a page.
const PAGE: usize = 256;

/// The table.
#[derive(Debug)]
pub(super) struct Paged<T> {
    /// Of each page where its cells begin.
    begins: Box<[u32]>,
    cells: Box<[T]>,
}

impl<T: Copy + Default + Eq + Hash> Paged<T> {
    /// `cells` by value, from 0.
    pub fn new(mut cells: Vec<T>) -> Self {
        cells.resize(cells.len().next_multiple_of(PAGE), T::default());
        let mut kept = Vec::new();
        let mut known: HashMap<&[T], u32> = HashMap::new();
        let begin = |page| {
            *known.entry(page).or_insert_with(|| {
                let begin = u32::try_from(kept.len()).expect("fewer than 2^32 cells");
                kept.extend_from_slice(page);
                begin
            })
        };
        let begins = cells.chunks(PAGE).map(begin).collect();
        Self { begins, cells: kept.into() }
    }

    /// The cell of `value`; `None` past the last page.
    #[inline]
    pub fn get(&self, value: u128) -> Option<T> {
        let value = usize::try_from(value).ok()?;
        let begin = *self.begins.get(value / PAGE)?;
        self.cells.get(begin as usize + value % PAGE).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_what_a_plain_table_holds() {
        for size in [1, 2, 255, 256, 257, 0x1_0000] {
            let plain: Vec<u32> = (0..size).map(|v| u32::from(v % 1_000 == 7)).collect();
            let paged = Paged::new(plain.clone());
            for (value, cell) in (0..).zip(&plain) {
                assert_eq!(paged.get(value), Some(*cell), "{value} of {size}");
            }
            let past = plain.len().next_multiple_of(PAGE) as u128;
            assert_eq!((paged.get(past), paged.get(u128::MAX)), (None, None));
            assert!(paged.cells.len() <= 200 * PAGE, "equal pages are kept once");
        }
    }
}
