//! Our own captures: each stands in `pcaps/README.md` with its SHA-256.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

#[test]
fn every_capture_stands_in_the_readme_with_its_sum() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let readme = fs::read_to_string(folder.join("README.md")).expect("pcaps/README.md");
    let mut captures = 0;
    for entry in fs::read_dir(&folder).expect("pcaps/") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.contains(".pcap") {
            continue;
        }
        let sum = Sha256::digest(fs::read(&path).expect("a capture"));
        let sum: String = sum.iter().map(|octet| format!("{octet:02x}")).collect();
        let row = readme.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let row = row.unwrap_or_else(|| panic!("{name} has no row in pcaps/README.md"));
        assert!(row.contains(&sum), "{name}: its sum is {sum}, but the row says {row}");
        captures += 1;
    }
    assert!(captures >= 10, "{captures} captures");
}
