//! What one rule set has that another has not.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::correlate::Correlation;
use super::exclusions::Exclusion;
use super::expr::Expr;
use super::reason::Reason;
use super::report::Rejected;
use super::ruleset::{Rule, RuleSet};
use crate::detect::RuleMeta;

/// The difference of two rule sets, each rule, correlation and exclusion by its id and title, in the
/// order of the sets. A filter shows in the rules that it changes.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Changes {
    /// In the new one only.
    pub added: Vec<Change>,
    /// In the old one only: removed, disabled, or rejected now.
    pub removed: Vec<Change>,
    /// In both, and not the same.
    pub changed: Vec<Change>,
}

/// A rule that is not the same as before.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[expect(missing_docs, reason = "the names are the rule's")]
pub struct Change {
    pub id: String,
    pub title: String,
}

/// What of a set may change.
#[derive(Clone, Copy)]
enum Part<'a> {
    Rule(&'a Rule),
    Correlation(&'a Correlation),
    Exclusion(&'a Exclusion),
}

impl<'a> Part<'a> {
    fn all(set: &'a RuleSet) -> impl Iterator<Item = Self> {
        let rules = set.rules().iter().map(Self::Rule);
        let correlations = set.correlations().iter().map(|of| Self::Correlation(of));
        rules.chain(correlations).chain(set.exclusions().iter().map(Self::Exclusion))
    }

    fn change(self) -> Change {
        let (id, title) = match self {
            Self::Rule(Rule { meta, .. }) | Self::Correlation(Correlation { meta, .. }) => {
                (&meta.id, meta.title.clone())
            }
            Self::Exclusion(exclusion) => (&exclusion.meta.id, exclusion.meta.title.to_string()),
        };
        Change { id: id.clone(), title }
    }

    /// Its id, and whether it is of an exclusion: these have ids of their own.
    fn key(self) -> (bool, String) {
        (matches!(self, Self::Exclusion(_)), self.change().id.to_lowercase())
    }

    fn is_same(self, new: Self) -> bool {
        let meta = |a: &RuleMeta, b: &RuleMeta| {
            (&a.id, &a.title, a.level, &a.author, &a.link, &a.tags)
                == (&b.id, &b.title, b.level, &b.author, &b.link, &b.tags)
        };
        match (self, new) {
            (Self::Rule(a), Self::Rule(b)) => meta(&a.meta, &b.meta) && same(a, b),
            (Self::Correlation(a), Self::Correlation(b)) => meta(&a.meta, &b.meta) && a.is_same(b),
            (Self::Exclusion(a), Self::Exclusion(b)) => {
                let names = |of: &Exclusion| (of.meta.id.clone(), Arc::clone(&of.meta.title));
                names(a) == names(b) && digest(a.condition()) == digest(b.condition())
            }
            _ => false,
        }
    }
}

impl Changes {
    /// What changed from `old` to `new`. Where a rule stands is no part of it.
    #[must_use]
    pub fn between(old: &RuleSet, new: &RuleSet) -> Self {
        let mut before: HashMap<_, Part<'_>> =
            Part::all(old).map(|part| (part.key(), part)).collect();
        let mut changes = Self::default();
        for part in Part::all(new) {
            match before.remove(&part.key()) {
                None => changes.added.push(part.change()),
                Some(old) if !old.is_same(part) => changes.changed.push(part.change()),
                Some(_) => {}
            }
        }
        let gone = Part::all(old).filter(|part| before.contains_key(&part.key()));
        changes.removed.extend(gone.map(Part::change));
        changes
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What `new` does not have of `old` because it was rejected: rules, correlations, filters and
/// exclusions in force, by id, or by title where the rejected document has no id. What is too broken to
/// have either is told by its file, if that held one that is gone now.
#[must_use]
pub fn lost<'a>(old: &RuleSet, new: &'a RuleSet) -> Vec<&'a Rejected> {
    let rejected = &new.report().rejected;
    if rejected.is_empty() {
        return Vec::new();
    }
    let (before, after) = (Names::of(old), Names::of(new));
    let off: HashSet<&str> = new.report().off.iter().map(String::as_str).collect();
    let is_gone = |id: &String| !after.ids.contains(id) && !off.contains(&**id);
    let gone = before.files.iter().filter(|(_, id)| is_gone(id));
    let gone: HashSet<&str> = gone.map(|(file, _)| *file).collect();
    // As many as were rejected before of that file, for the like reason, took nothing's place; the
    // reasons' texts have lines, which move.
    let like = |r: &Rejected, other: &Rejected| {
        (&r.file, &r.title, r.reason.reason()) == (&other.file, &other.title, other.reason.reason())
    };
    let count = |all: &[Rejected], r: &Rejected| all.iter().filter(|other| like(r, other)).count();
    let is_old = |r: &Rejected| count(rejected, r) <= count(&old.report().rejected, r);
    let held = |r: &Rejected| {
        let of = |file: &&str| {
            let below = file.strip_prefix(&*r.file);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        is_nameless(r) && gone.iter().any(of) && !is_old(r)
    };
    let is_lost = |r: &&Rejected| before.have(r) && !after.have(r) || held(r);
    rejected.iter().filter(is_lost).collect()
}

/// The files that hold no document any more, each with how many rules, correlations, filters and exclusions
/// of `old` it held.
#[must_use]
pub fn emptied(old: &RuleSet, new: &RuleSet) -> Vec<(String, usize)> {
    let empty = &new.report().empty;
    if empty.is_empty() {
        return Vec::new();
    }
    let before = Names::of(old).files;
    let held = |file: &String| before.iter().filter(|(of, _)| of == file).count();
    let emptied = empty.iter().map(|file| (file.clone(), held(file)));
    emptied.filter(|(_, held)| *held > 0).collect()
}

/// Whether the document does not say which rule it is: it has no title either, or is too broken for what
/// it says to count.
fn is_nameless(rejected: &Rejected) -> bool {
    use Reason::{NotUtf8, Syntax, TooLarge, Unreadable};
    let broken =
        matches!(rejected.reason, Syntax(_) | TooLarge { .. } | NotUtf8(_) | Unreadable(_));
    rejected.id.is_empty() && (broken || rejected.title.is_empty())
}

/// Ids (in lower case) and titles of all that a set holds, and in which file each id stands.
struct Names<'a> {
    ids: HashSet<String>,
    titles: HashSet<&'a str>,
    files: Vec<(&'a str, String)>,
}

impl<'a> Names<'a> {
    fn of(set: &'a RuleSet) -> Self {
        let rules = set.rules().iter().map(|rule| &rule.meta);
        let rules = rules.chain(set.correlations().iter().map(|correlation| &correlation.meta));
        let rules = rules.map(|meta| (&*meta.id, &*meta.title, &*meta.file));
        let exclusions = set.exclusions().iter().map(|exclusion| &*exclusion.meta);
        let exclusions = exclusions.map(|meta| (&*meta.id, &*meta.title, &*meta.file));
        let filters = set.filters().iter();
        let filters = filters.map(|filter| (&*filter.id, &*filter.title, &*filter.file));
        let mut names = Self { ids: HashSet::new(), titles: HashSet::new(), files: Vec::new() };
        for (id, title, file) in rules.chain(exclusions).chain(filters) {
            let id = id.to_lowercase();
            names.files.push((file, id.clone()));
            names.ids.insert(id);
            names.titles.insert(title);
        }
        names
    }

    fn have(&self, rejected: &Rejected) -> bool {
        match rejected.id.is_empty() {
            true => !rejected.title.is_empty() && self.titles.contains(&*rejected.title),
            false => self.ids.contains(&rejected.id.to_lowercase()),
        }
    }
}

fn same(old: &Rule, new: &Rule) -> bool {
    let kind = (old.class, old.silent, old.taps) == (new.class, new.silent, new.taps);
    let condition = || match (old.indicators(), new.indicators()) {
        // A million intervals are compared, not written out.
        (Some(a), Some(b)) => a == b && outline(old) == outline(new),
        (None, None) => digest(old.condition()) == digest(new.condition()),
        _ => false,
    };
    kind && condition()
}

/// The words of the condition, which tell the filters of a feed's rule apart.
fn outline(rule: &Rule) -> Vec<(String, String, bool)> {
    let mut words = Vec::new();
    rule.condition().leaves(&mut |leaf| {
        words.push((leaf.name.clone(), leaf.words.clone(), leaf.negated));
    });
    words
}

/// A hash of the condition as it is written out for debugging, which shows all of it.
fn digest(condition: &Expr) -> u64 {
    struct Sink(DefaultHasher);
    impl Write for Sink {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut sink = Sink(DefaultHasher::new());
    write!(sink, "{condition:?}").expect("a hasher takes everything");
    sink.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::sigma::{Interner, Options, Source};

    fn set(rules: &[(&str, &str)]) -> RuleSet {
        let head = |id: &str| format!("title: T {id}\nid: {id}\n");
        let body = |value: &str| match value.strip_prefix("count ") {
            Some(count) => format!(
                "correlation: {{type: event_count, rules: [c], timespan: 1m, condition: {{gte: \
                 {count}}}}}\n"
            ),
            None if value.starts_with("not") => {
                format!("filter: {{rules: any, s: {{dst_port: 9}}, condition: {value}}}\n")
            }
            None => format!(
                "logsource: {{category: firewall}}\ndetection:\n  s: {value}\n  condition: s\n"
            ),
        };
        let source = |(id, value): &(&str, &str)| Source {
            file: format!("{id}.yml"),
            text: head(id) + &body(value),
        };
        let sources: Vec<Source> = rules.iter().map(source).collect();
        RuleSet::compile(&sources, &Options::default(), &mut Interner::default())
    }

    fn ids(of: &[Change]) -> Vec<&str> {
        of.iter().map(|change| &*change.id).collect()
    }

    #[test]
    fn each_rule_is_added_removed_changed_or_the_same() {
        let old = set(&[
            ("a", "{dst_port: 1}"),
            ("b", "{dst_port: 2}"),
            ("c", "{src_ip: 10.0.0.1}"),
            ("x", "count 3"),
            ("y", "count 3"),
        ]);
        let new = set(&[
            ("d", "{dst_port: 4}"),
            ("b", "{dst_port: 3}"),
            ("c", "{src_ip: 10.0.0.1}"),
            ("x", "count 4"),
            ("z", "count 3"),
        ]);
        let changes = Changes::between(&old, &new);
        assert_eq!(ids(&changes.added), ["d", "z"]);
        assert_eq!(ids(&changes.removed), ["a", "y"]);
        assert_eq!(ids(&changes.changed), ["b", "x"]);
        assert_eq!(changes.added[0].title, "T d");
        let exclusion = |id: &str, port: u16| {
            let text = format!(
                "title: E {id}\nid: {id}\ndetection: {{s: {{dst_port: {port}}}, condition: s}}\n"
            );
            Source { file: "e.yml".to_owned(), text }
        };
        let with = |exclusions: &[Source]| {
            let options = Options { exclusions: exclusions.to_vec(), ..Options::default() };
            RuleSet::compile(&[], &options, &mut Interner::default())
        };
        let old = with(&[exclusion("a", 1), exclusion("b", 2), exclusion("c", 3)]);
        let new = with(&[exclusion("c", 4), exclusion("b", 2), exclusion("d", 3)]);
        let of = Changes::between(&old, &new);
        assert_eq!(
            (ids(&of.added), ids(&of.removed), ids(&of.changed)),
            (vec!["d"], vec!["a"], vec!["c"])
        );
        assert!(Changes::between(&old, &old.clone()).is_empty());
    }

    #[test]
    fn what_rejection_takes_from_a_set_is_lost() {
        let old =
            [("a", "{dst_port: 1}"), ("c", "{dst_port: 2}"), ("x", "count 3"), ("f", "not s")];
        let with = |id: &'static str, value: &'static str| {
            let each = old.iter().map(|&(at, v)| (at, if at == id { value } else { v }));
            set(&each.collect::<Vec<_>>())
        };
        for (name, new, want) in [
            ("nothing", with("a", "{dst_port: 3}"), &[][..]),
            ("a rule", with("a", "{dst_port: 70000}"), &["a"]),
            ("a base and its correlation", with("c", "{dst_port: x}"), &["c", "x"]),
            ("a correlation", with("x", "count 0.5"), &["x"]),
            ("a filter", with("f", "not t"), &["f"]),
            ("removed", set(&old[..3]), &[]),
            ("new and rejected", set(&[&old[..], &[("n", "{dst_port: x}")]].concat()), &[]),
            ("twice", set(&[&old[..], &[("a", "{dst_port: 1}")]].concat()), &[]),
            ("broken, with a comment", with("a", "{dst_port: [}  # why"), &["a"]),
            ("new and broken", set(&[&old[..], &[("n", "{dst_port: [")]].concat()), &[]),
        ] {
            let lost: Vec<&str> = lost(&set(&old), &new).iter().map(|r| &*r.id).collect();
            assert_eq!(lost, want, "{name}: {}", new.report());
        }
    }

    /// A document of a collection that cannot be read takes those behind it not away, and what is broken
    /// can be turned off.
    #[test]
    fn what_stands_behind_a_broken_document_stays() {
        let global = "action: global\nlogsource: {category: firewall}\n---\n";
        let rule = |id: &str, s: &str| {
            format!("title: T {id}\nid: {id} # its id\ndetection: {{s: {s}, condition: s}}\n---\n")
        };
        let set = |parts: &[(&str, &str)], off: &[&str]| {
            let parts = parts.iter().map(|(id, s)| rule(id, s)).collect::<String>();
            let source = Source { file: "r.yml".to_owned(), text: global.to_owned() + &parts };
            let disable = off.iter().map(|&id| id.to_owned()).collect();
            let options = Options { disable, ..Options::default() };
            RuleSet::compile(&[source], &options, &mut Interner::default())
        };
        let (good, broken) = ("{dst_port: 1}", "{dst_port: [}");
        let old = set(&[("a", good), ("c", good)], &[]);
        for (name, parts, off, want) in [
            ("a new one before", &[("n", broken), ("a", good), ("c", good)][..], &[][..], &[][..]),
            ("a new one between", &[("a", good), ("n", broken), ("c", good)], &[], &[]),
            ("one in force", &[("a", broken), ("c", good)], &[], &["a"]),
            ("both", &[("a", broken), ("c", broken)], &[], &["a", "c"]),
            ("turned off", &[("a", broken), ("c", good)], &["A"], &[]),
        ] {
            let new = set(parts, off);
            let found: Vec<&str> = lost(&old, &new).iter().map(|r| &*r.id).collect();
            assert_eq!(found, want, "{name}: {}", new.report());
            let kept = parts.iter().filter(|(_, s)| *s == good).count();
            assert_eq!(new.rules().len(), kept, "{name}: {}", new.report());
            assert_eq!(new.report().disabled, off.len(), "{name}: {}", new.report());
        }
    }

    /// A rule file `file` with the rule `id` on `port`.
    fn file(file: &str, id: &str, port: u16) -> Source {
        let text = format!(
            "title: T {id}\nid: {id}\nlogsource: {{category: firewall}}\ndetection: {{s: \
             {{dst_port: {port}}}, condition: s}}\n"
        );
        Source { file: file.to_owned(), text }
    }

    fn ports(set: &RuleSet) -> Vec<String> {
        let mut words = Vec::new();
        for rule in set.rules() {
            rule.condition().leaves(&mut |leaf| words.push(leaf.words.clone()));
        }
        words
    }

    #[test]
    fn what_is_in_force_keeps_its_id_from_newcomers() {
        let old = RuleSet::compile(
            &[file("b.yml", "R", 1), file("c.yml", "c", 3)],
            &Options::default(),
            &mut Interner::default(),
        );
        let options = Options { in_force: Arc::new(old.in_force()), ..Options::default() };
        let load =
            |sources: &[Source]| RuleSet::compile(sources, &options, &mut Interner::default());
        let broken = Source {
            text: file("b.yml", "R", 1).text.replace("s}", "t}"),
            ..file("b.yml", "R", 1)
        };
        let c = || file("c.yml", "c", 3);
        let with = |more: &str| Source {
            text: file("b.yml", "R", 1).text + more,
            ..file("b.yml", "R", 1)
        };
        for (name, sources, want, says) in [
            (
                "earlier",
                vec![file("a.yml", "r", 2), file("b.yml", "R", 1), c()],
                vec!["is 1", "is 3"],
                "a.yml:2",
            ),
            (
                "later",
                vec![file("b.yml", "R", 1), file("bb.yml", "r", 2), c()],
                vec!["is 1", "is 3"],
                "bb.yml:2",
            ),
            ("moved", vec![file("a.yml", "r", 1), c()], vec!["is 1", "is 3"], ""),
            (
                "another in its file",
                vec![file("a.yml", "r", 2), file("b.yml", "x", 1), c()],
                vec!["is 1", "is 3", "is 2"],
                "",
            ),
            (
                "broken meanwhile, and later",
                vec![broken.clone(), file("bb.yml", "r", 2), c()],
                vec!["is 3"],
                "bb.yml:2",
            ),
            (
                "no YAML meanwhile, and later",
                vec![with("x: [\n"), file("bb.yml", "r", 2), c()],
                vec!["is 3"],
                "bb.yml:2",
            ),
            ("broken meanwhile", vec![file("a.yml", "r", 2), broken, c()], vec!["is 3"], "a.yml:2"),
        ] {
            let new = load(&sources);
            let report = new.report().to_string();
            assert_eq!(ports(&new), want, "{name}: {report}");
            let dup = new.report().rejected.iter().find(|r| r.reason.reason() == "duplicate_id");
            let at = dup.map_or(String::new(), |r| format!("{}:{}", r.file, r.line));
            assert_eq!(at, says, "{name}: {report}");
            let in_words = report.contains("its id is that of the rule at b.yml:");
            assert_eq!(in_words, !says.is_empty(), "{name}: {report}");
            let broken = name.contains("meanwhile");
            assert_eq!(lost(&old, &new).is_empty(), !broken, "{name}: {report}");
        }
        // At a start the first file has it, and the other is named.
        let start = [file("a.yml", "r", 2), file("b.yml", "R", 1)];
        let start = RuleSet::compile(&start, &Options::default(), &mut Interner::default());
        assert_eq!(ports(&start), ["is 2"]);
        assert_eq!(start.report().rejected[0].file, "b.yml");
    }

    #[test]
    fn files_that_hold_nothing_any_more_are_told() {
        let set = |files: &[(&str, &str)]| {
            let source = |(name, text): &(&str, &str)| Source {
                file: (*name).to_owned(),
                text: if *text == "rule" { file(name, name, 1).text } else { (*text).to_owned() },
            };
            let sources: Vec<Source> = files.iter().map(source).collect();
            RuleSet::compile(&sources, &Options::default(), &mut Interner::default())
        };
        let old = set(&[("a", "rule"), ("b", "rule"), ("c", "# nothing\n")]);
        assert_eq!(old.report().empty, ["c"]);
        assert!(old.report().to_string().contains("c: warning: it holds no rule"));
        for (new, want) in [
            (set(&[("a", "rule"), ("b", "rule")]), &[][..]),
            (set(&[("a", "rule")]), &[]),
            (set(&[("a", ""), ("b", "rule"), ("c", "")]), &["a"]),
            (set(&[("a", "---\n# title: T\n"), ("b", "\n---\n")]), &["a", "b"]),
        ] {
            let emptied: Vec<String> =
                emptied(&old, &new).into_iter().map(|(file, _)| file).collect();
            assert_eq!(emptied, want, "{}", new.report());
        }
    }

    #[test]
    fn what_has_no_name_is_told_by_its_file() {
        let rule = |id: &str| {
            format!(
                "title: T {id}\nid: {id}\nlogsource: {{category: firewall}}\ndetection: {{s: \
                 {{dst_port: 1}}, condition: s}}\n"
            )
        };
        let set = |files: &[(&str, String)]| {
            let source = |(file, text): &(&str, String)| Source {
                file: (*file).to_owned(),
                text: text.clone(),
            };
            let sources: Vec<Source> = files.iter().map(source).collect();
            RuleSet::compile(&sources, &Options::default(), &mut Interner::default())
        };
        let both = format!("{}---\n{}", rule("b"), rule("c"));
        let old = [("d/a.yml", rule("a")), ("d/b.yml", both.clone())];
        let with = |file: &str, text: String| {
            let mut files = old.to_vec();
            files.retain(|(at, _)| *at != file);
            files.push((if file == "d/a.yml" { "d/a.yml" } else { "d/b.yml" }, text));
            set(&files)
        };
        let broken = "title: [\n".to_owned();
        let added = [&old[..], &[("d/n.yml", broken.clone())]].concat();
        for (name, new, want) in [
            ("new", set(&added), 0),
            ("the whole file", with("d/a.yml", broken.clone()), 1),
            ("beside those in force", with("d/b.yml", format!("{both}---\n{broken}")), 0),
            ("in the place of one", with("d/b.yml", format!("{}---\n{broken}", rule("b"))), 1),
            ("removed", set(&old[..1]), 0),
        ] {
            let lost = lost(&set(&old), &new);
            assert_eq!(lost.len(), want, "{name}: {lost:?}");
        }
        // A neighbour that never loaded is no reason to keep what is taken out or turned off.
        let process = format!(
            "{}---\n{}",
            rule("b"),
            rule("x").replace("firewall", "process_creation").replace("id: x\n", "")
        );
        let beside = |text: String| set(&[("d/b.yml", text)]);
        let before = beside(process.clone());
        let removed = beside(process.split_once("---\n").expect("two").1.to_owned());
        assert_eq!(lost(&before, &removed), Vec::<&Rejected>::new());
        let nameless = format!("{}---\ntitle: [\n", rule("b"));
        let before = beside(nameless.clone());
        assert_eq!(lost(&before, &beside("title: [\n".to_owned())), Vec::<&Rejected>::new());
        let source = Source { file: "d/b.yml".to_owned(), text: nameless };
        let options = Options { disable: vec!["B".to_owned()], ..Options::default() };
        let off = RuleSet::compile(&[source], &options, &mut Interner::default());
        assert_eq!(lost(&set(&[("d/b.yml", rule("b"))]), &off), Vec::<&Rejected>::new());
        let unreadable = |file: &str| Rejected {
            file: file.to_owned(),
            line: 1,
            title: String::new(),
            id: String::new(),
            reason: Reason::Unreadable("no".to_owned()),
        };
        for (file, want) in [("d", 1), ("d/a.yml", 1), ("d/a", 0), ("e", 0)] {
            let unreadable = vec![unreadable(file)];
            let options = Options { unreadable, ..Options::default() };
            let new = RuleSet::compile(&[], &options, &mut Interner::default());
            assert_eq!(lost(&set(&old), &new).len(), want, "{file}");
        }
    }
}
