//! Rules of the house that a reader should not have to check.

use std::fs;
use std::path::Path;

use crate::layers::rust_files;

const CODE_LINES_MAX: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_tell_one_story() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let mut long = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        if text.lines().take(8).any(|line| line.contains("enerated ")) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().map(str::trim_start);
        let lines = code.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        if lines > CODE_LINES_MAX {
            long.push(format!("{}: {lines} lines of code", file.display()));
        }
    }
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn nothing_is_left_unfinished() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["X", "XX"].concat()];
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| {
                line.contains(&format!("{mark}:")) || line.contains(&format!("{mark} "))
            }) {
                found.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn unsafe_code_says_why_it_is_safe() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let mut bare = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let opens = line.contains("unsafe {") || line.trim_start().starts_with("unsafe impl");
            let start = index.saturating_sub(4);
            let said = lines[start..=index].iter().any(|line| line.contains("SAFETY:"));
            if opens && !said {
                bare.push(format!("{}:{}", file.display(), index + 1));
            }
        }
    }
    assert_eq!(bare, Vec::<String>::new());
}

/// Every invariant of ARCHITECTURE.md names its test in backquotes after "held by".
#[test]
fn invariants_name_tests_that_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        rust_files(&root().join(folder), &mut sources);
    }
    let sources: String =
        sources.iter().map(|file| fs::read_to_string(file).expect("text")).collect();
    let mut invariants = 0;
    for line in text.split("*Invariant:*").skip(1) {
        let sentence = line.split("\n\n").next().unwrap_or_default();
        let held = sentence.split("held by").nth(1);
        let held = held.unwrap_or_else(|| panic!("no `held by` in: {sentence}"));
        for name in held.split('`').skip(1).step_by(2) {
            let name = name.rsplit("::").next().unwrap_or(name);
            assert!(sources.contains(&format!("fn {name}(")), "no test `{name}`: {sentence}");
            invariants += 1;
        }
    }
    assert!(invariants >= 5, "{invariants} invariants");
}
