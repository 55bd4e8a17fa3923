//! What several test modules share.

use std::path::PathBuf;

/// The folder `group` of the test vectors: under `WEIR_VECTORS`, else under `shared/data` beside
/// the checkout. Says that the test was skipped, and returns `None`, where it is absent.
pub(crate) fn vectors(group: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WEIR_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let folder = root.join(group);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no vectors at {}", folder.display());
    None
}
