//! The files that rules are made of, as directories tell: what a change is noticed by, on any file
//! system, and without reading one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::feeds::Stamp;
use super::rules;
use crate::config::Config;

/// Octets of a file of git's that are read, at most.
const GIT_FILE_MAX: u64 = 64 << 20;
/// A lock of git's that is older was left behind by a process that is gone.
const LOCK_AGE_MAX: Duration = Duration::from_secs(60);

/// All files of the rules of a configuration, at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    /// By path; `None` for what cannot be found or read.
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// The git work trees that rules stand in.
    pub work_trees: Vec<WorkTree>,
    /// Whether git is about to write to one of them.
    pub busy: bool,
}

/// A git work tree.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
pub struct WorkTree {
    /// Its top folder.
    pub path: PathBuf,
    /// What HEAD stands at; `None` where that cannot be told.
    pub commit: Option<String>,
}

impl Listing {
    /// Lists the files that `config` names for rules, exclusions, placeholders and feeds. What cannot be listed is a part of
    /// the listing too: it may come back.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let mut listing = Self::default();
        let mut folders = BTreeSet::new();
        for directory in config.rules.directories.iter().chain(&config.rules.exclusions) {
            folders.insert(directory.clone());
            match rules::files(std::slice::from_ref(directory)) {
                Ok(found) => {
                    for file in found.files {
                        folders.extend(file.parent().map(Path::to_owned));
                        listing.add(file);
                    }
                    let unreadable = found.unreadable.into_iter();
                    listing.files.extend(unreadable.map(|one| (PathBuf::from(one.file), None)));
                }
                Err(_) => {
                    listing.files.insert(directory.clone(), None);
                }
            }
        }
        let feeds = config.rules.feed.iter().map(|feed| &feed.path);
        for file in feeds.chain(&config.rules.placeholders) {
            folders.extend(file.parent().map(Path::to_owned));
            listing.add(file.clone());
        }
        for path in tops(&folders) {
            let git = git_folder(&path);
            listing.busy |= git.as_deref().is_some_and(is_locked);
            let commit = git.as_deref().and_then(head);
            listing.work_trees.push(WorkTree { path, commit });
        }
        listing
    }

    fn add(&mut self, path: PathBuf) {
        let stamp = Stamp::of(&path).ok();
        self.files.insert(path, stamp);
    }
}

/// The work trees that `folders` stand in.
fn tops(folders: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut known: BTreeMap<PathBuf, Option<PathBuf>> = BTreeMap::new();
    let mut tops = BTreeSet::new();
    for folder in folders {
        let Ok(folder) = folder.canonicalize() else { continue };
        let mut passed = Vec::new();
        let mut top = None;
        for above in folder.ancestors() {
            if let Some(found) = known.get(above) {
                top.clone_from(found);
                break;
            }
            passed.push(above.to_owned());
            if above.join(".git").exists() {
                top = Some(above.to_owned());
                break;
            }
        }
        known.extend(passed.into_iter().map(|above| (above, top.clone())));
        tops.extend(top);
    }
    tops
}

/// Where git keeps what belongs to the work tree alone (gitrepository-layout(5)).
fn git_folder(top: &Path) -> Option<PathBuf> {
    let git = top.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = read(&git)?;
    Some(top.join(text.strip_prefix("gitdir:")?.trim()))
}

fn is_locked(git: &Path) -> bool {
    let written = fs::metadata(git.join("index.lock")).and_then(|meta| meta.modified());
    let age = |written| SystemTime::now().duration_since(written).unwrap_or_default();
    written.is_ok_and(|written| age(written) < LOCK_AGE_MAX)
}

/// The commit that HEAD stands at.
fn head(git: &Path) -> Option<String> {
    let head = read(&git.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return hash(&head) };
    if name.split('/').any(|part| part == "..") {
        return None;
    }
    let common = read(&git.join("commondir")).map(|common| git.join(common.trim()));
    let common = common.as_deref().unwrap_or(git);
    let loose = [git, common].iter().find_map(|folder| hash(&read(&folder.join(name))?));
    loose.or_else(|| {
        let packed = read(&common.join("packed-refs"))?;
        let entry = packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' '));
        hash(entry?)
    })
}

fn read(path: &Path) -> Option<String> {
    let small = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= GIT_FILE_MAX);
    if small { fs::read_to_string(path).ok() } else { None }
}

/// SHA-1 or SHA-256 in hexadecimal digits.
fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    let is_hex = text.bytes().all(|octet| octet.is_ascii_hexdigit());
    (is_hex && [40, 64].contains(&text.len())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=weir", "-c", "user.email=weir@example.org"]);
        git.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE");
        let output = git.arg("-C").arg(folder).args(arguments).output().ok()?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).expect("text").trim().to_owned())
    }

    fn config(directory: &Path) -> Config {
        let mut config = Config::default();
        config.rules.directories = vec![directory.to_owned()];
        config
    }

    #[test]
    fn the_commit_of_a_work_tree_is_that_of_git() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let top = folder.path().canonicalize().expect("a folder").join("clone");
        fs::create_dir_all(top.join("rules/net")).expect("made");
        fs::write(top.join("rules/net/a.yml"), "title: A\n").expect("written");
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("SKIPPED: no git on this machine");
            return;
        }
        git(&top, &["init", "-q", "-b", "main"]);
        git(&top, &["add", "."]);
        git(&top, &["commit", "-q", "-m", "Add a rule"]);
        let want = git(&top, &["rev-parse", "HEAD"]);
        let config = config(&top.join("rules"));
        let trees = |config| Listing::of(config).work_trees;
        assert_eq!(trees(&config), [WorkTree { path: top.clone(), commit: want.clone() }]);
        git(&top, &["pack-refs", "--all"]);
        assert_eq!(trees(&config)[0].commit, want, "packed");
        git(&top, &["checkout", "-q", "--detach"]);
        assert_eq!(trees(&config)[0].commit, want, "detached");
        let second = folder.path().canonicalize().expect("a folder").join("second");
        git(&top, &["worktree", "add", "-q", "-b", "other", second.to_str().expect("text")]);
        let mut both = config.clone();
        both.rules.directories.push(second.join("rules"));
        let trees = trees(&both);
        assert_eq!((trees.len(), &trees[1].commit), (2, &want), "a linked work tree");
        assert!(!Listing::of(&both).busy);
        fs::write(top.join(".git/index.lock"), "").expect("written");
        assert!(Listing::of(&both).busy);
    }

    #[test]
    fn a_listing_tells_every_change() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let rules = folder.path().join("rules");
        fs::create_dir_all(rules.join(".git/x")).expect("made");
        fs::write(rules.join(".git/x/none.yml"), "none").expect("written");
        let mut config = config(&rules);
        config.rules.feed =
            vec![crate::config::Feed { path: folder.path().join("feed"), ..Default::default() }];
        let mut last = Listing::of(&config);
        assert_eq!(Listing::of(&config), last);
        type Step<'a> = (&'a str, Box<dyn Fn() -> std::io::Result<()> + 'a>);
        let at = |name: &str| rules.join(name);
        let steps: [Step<'_>; 6] = [
            ("added", Box::new(|| fs::write(at("a.yml"), "a"))),
            ("written", Box::new(|| fs::write(at("a.yml"), "ab"))),
            ("renamed", Box::new(|| fs::rename(at("a.yml"), at("b.yml")))),
            ("a feed", Box::new(|| fs::write(folder.path().join("feed"), "192.0.2.1\n"))),
            ("removed", Box::new(|| fs::remove_file(at("b.yml")))),
            ("all gone", Box::new(|| fs::remove_dir_all(&rules))),
        ];
        for (name, step) in steps {
            step().expect(name);
            let now = Listing::of(&config);
            assert_ne!(now, last, "{name}");
            last = now;
        }
        fs::create_dir(&rules).expect("made");
        fs::write(rules.join("notes.txt"), "no rule").expect("written");
        let empty = Listing::of(&config);
        fs::create_dir_all(rules.join(".git")).expect("made");
        fs::write(rules.join(".git/x.yml"), "none").expect("written");
        assert_eq!(Listing::of(&config).files, empty.files, "what git keeps is no rule");
    }
}
