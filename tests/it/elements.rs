//! The table of information elements is what the registries say today.

#![allow(clippy::print_stdout, reason = "a test of vectors says what it ran")]

#[path = "../../examples/elements.rs"]
mod generator;

use crate::support::vectors;

#[test]
fn the_table_is_fresh() {
    let Some(folder) = vectors("iana") else { return };
    let want = generator::generate(&folder).expect("the registries are readable");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(generator::TABLE);
    let have = std::fs::read_to_string(path).expect("the table is checked in");
    assert!(have == want, "run: cargo run --example elements -- {}", folder.display());
    println!("elements: {} rows are fresh", want.matches("T::").count());
}
