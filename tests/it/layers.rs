//! Imports point one way: from what does I/O to what is pure, never back.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules with their layer; a module may know only modules of lower layers.
const LAYERS: &[(&str, u8)] = &[
    ("time", 0),
    ("net", 0),
    ("mem", 0),
    ("sync", 0),
    ("config", 1),
    ("metrics", 1),
    ("flow", 2),
    ("decode", 3),
    ("detect", 4),
    ("input", 5),
    ("output", 5),
    ("api", 5),
    ("pipeline", 6),
    ("service", 7),
    ("cli", 8),
];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

pub(crate) fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Modules of the crate that `text` names, by `crate::module` or inside `crate::{...}`.
fn mentions(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    code.match_indices("crate::").map(|(at, m)| word(&code[at + m.len()..])).collect()
}

#[test]
fn imports_point_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut back = Vec::new();
    for file in &files {
        let place = file.strip_prefix(&src).expect("below src");
        let module = place.iter().next().expect("a first part").to_string_lossy();
        let module = module.trim_end_matches(".rs");
        let Some(rank) = layer(module) else {
            assert!(["lib", "main"].contains(&module), "{module} has no layer: add it to LAYERS");
            continue;
        };
        for to in mentions(&fs::read_to_string(file).expect("text")) {
            let target = layer(&to);
            assert!(target.is_some(), "{}: crate::{to} has no layer", place.display());
            if to != module && target >= Some(rank) {
                back.push(format!("{} imports {to}", place.display()));
            }
        }
    }
    assert!(files.len() > 10, "the walk found the sources");
    assert_eq!(back, Vec::<String>::new(), "imports that point back or sideways");
}

#[test]
fn the_core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let banned = [
        "Instant::now",
        "SystemTime::now",
        "std::net::Udp",
        "std::net::Tcp",
        "std::fs",
        "thread::",
        "RandomState",
        "rand::",
    ];
    let mut found = Vec::new();
    for module in ["flow", "decode", "detect"] {
        let mut files = Vec::new();
        rust_files(&src.join(module), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("text");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in banned.iter().filter(|word| code.contains(**word)) {
                found.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new(), "clocks, files, threads or randomness in the core");
}
