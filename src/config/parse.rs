//! TOML text to a checked [`Config`]; every problem with its file, line and key.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, Problem, Written};

/// Parses and checks a configuration. `file` names it in the problems.
///
/// # Errors
/// One problem if the text is no TOML, or a key is unknown or of a wrong type; else every value
/// that is out of its bounds.
pub fn parse(file: &str, text: &str) -> Result<Config, Vec<Problem>> {
    parse_with(file, text, |_| Vec::new())
}

/// As [`parse`], with the problems that `check` finds: what only other layers can judge. It gives
/// key and message.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    file: &str,
    text: &str,
    check: impl FnOnce(&Config) -> Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    let at = |offset: usize| line_of(text, offset);
    let one = |line, key: String, message: String| {
        vec![Problem { file: file.to_owned(), line, key, message }]
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| at(span.start));
        one(line, String::new(), error.message().to_owned())
    })?;
    let deserializer = toml::Deserializer::from(table.clone());
    let config: Result<Config, _> = serde_path_to_error::deserialize(deserializer);
    let mut config = config.map_err(|error| {
        let key = error.path().to_string();
        let inner = error.inner();
        let span = inner.span().map(|span| at(span.start));
        let line = span.or_else(|| line_of_key(table.get_ref(), &key).map(at));
        one(line, key, in_plain_words(inner.message().trim()))
    })?;
    let mut problems = config.check();
    problems.extend(check(&config));
    locate(file, text, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let line = |key: &str| line_of_key(table.get_ref(), key).map(at);
    let line = |key: String| Some((line(&key).and_then(|line| line.try_into().ok())?, key));
    let lines = config.rules.named().filter_map(|(key, _)| line(key));
    let lines: Vec<(String, u32)> = lines.map(|(line, key)| (key, line)).collect();
    // Without one, nothing tells the configuration from one that was made otherwise.
    let file = if lines.is_empty() { String::new() } else { file.to_owned() };
    config.rules.written = Written { file, lines };
    Ok(config)
}

/// Gives `problems` the `file` and the lines of their keys in its `text`.
pub fn locate(file: &str, text: &str, problems: &mut [Problem]) {
    let Ok(table) = DeTable::parse(text) else { return };
    for problem in problems {
        file.clone_into(&mut problem.file);
        let offset = line_of_key(table.get_ref(), &problem.key);
        problem.line = offset.map(|offset| line_of(text, offset));
    }
}

/// The deserializer's message without the names of Rust's types.
fn in_plain_words(message: &str) -> String {
    const NUMBERS: [&str; 5] = ["usize", "u64", "u32", "u8", "i128"];
    let mut plain = message.replace("expected u16", "expected a whole number from 0 to 65535");
    for number in NUMBERS {
        plain = plain.replace(
            &format!("expected {number}"),
            "expected a whole number, not below 0 and not beyond the key's bound",
        );
    }
    plain.replace("invalid socket address syntax", "expected ADDRESS:PORT, as in 127.0.0.1:2055")
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

/// The offset of `key` (dotted, with `[index]` for arrays) in the parsed text; where the key
/// stands by default, that of the innermost table that is written down.
fn line_of_key(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut found = None;
    let mut place = Some(Place::Table(table));
    for step in steps(key) {
        let value: Option<&Spanned<DeValue<'_>>> = match place {
            Some(Place::Table(table)) => {
                let entry = table.iter().find(|(name, _)| name.get_ref() == step);
                found = entry.map(|(name, _)| name.span().start).or(found);
                entry.map(|(_, value)| value)
            }
            Some(Place::Array(values)) => {
                let value = step.parse::<usize>().ok().and_then(|index| values.get(index));
                found = value.map(|value| value.span().start).or(found);
                value
            }
            None => None,
        };
        place = match value.map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(Place::Table(table)),
            Some(DeValue::Array(values)) => Some(Place::Array(values)),
            _ => None,
        };
    }
    found
}

/// The names and indices that a dotted key leads through; what is quoted is one name.
fn steps(key: &str) -> Vec<&str> {
    let (mut steps, mut rest) = (Vec::new(), key);
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
            Some(quoted) => quoted,
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        steps.push(step.trim_end_matches(']'));
        rest = after.strip_prefix(['.', '[']).unwrap_or("");
    }
    steps
}

enum Place<'a, 'b> {
    Table(&'a DeTable<'b>),
    Array(&'a toml::de::DeArray<'b>),
}

impl Config {
    /// The configuration as TOML, every key written out.
    ///
    /// # Panics
    /// Never: every field has a TOML form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("every field has a TOML form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let problems = parse("weir.toml", text).err().unwrap_or_default();
        let got: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(got.len(), want.len(), "{got:?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.starts_with(want), "\n got {got}\nwant {want}");
        }
    }

    #[test]
    fn problems_name_file_line_key_and_bound() {
        check("", &[]);
        check("[flow]\n\nidel = 3\n", &["weir.toml:3: flow.idel: unknown field `idel`"]);
        check("[flow]\nlinger_s = \"x\"\n", &["weir.toml:2: flow.linger_s: invalid type"]);
        check(
            "[sensor]\nworkers = -1\n",
            &[
                "weir.toml:2: sensor.workers: invalid value: integer `-1`, expected \"auto\", a number of \
               threads from 1 to 64, or a list of cores",
            ],
        );
        check(
            "[sensor]\nworkers = \"all\"\n",
            &["weir.toml:2: sensor.workers: invalid value: string \"all\", expected \"auto\""],
        );
        check("[sensor]\nworkers = [0, 1]\n", &[]);
        check(
            "[sensor]\nworkers = [1, 1]\npin = false\n",
            &[
                "weir.toml:2: sensor.workers: core 1 is named twice",
                "weir.toml:2: sensor.workers: names cores, so sensor.pin must be true",
            ],
        );
        check(
            "[admin]\nlisten = \"localhost:1\"\n",
            &["weir.toml:2: admin.listen: expected ADDRESS:PORT"],
        );
        check(
            "[sensor]\nname = \"\"\n[input.netflow]\nlisten = [\"[::]:1\", \"[::]:1\"]\n",
            &[
                "weir.toml:2: sensor.name: must not be empty",
                "weir.toml:4: input.netflow.listen[1]: `[::]:1` is used twice",
            ],
        );
        check(
            "[[model.allow]]\nports = [443, 70000]\n",
            &[
                "weir.toml:2: model.allow[0].ports[1]: invalid value: integer `70000`, expected a whole \
               number from 0 to 65535",
            ],
        );
        check("[flow\n", &["weir.toml:1: "]);
        check(
            "[sensor]\nworkers = 65\n[flow]\nlinger_s = 61\n",
            &[
                "weir.toml:2: sensor.workers: 65 is outside 1..=64",
                "weir.toml:4: flow.linger_s: 61 is outside 0..=60",
            ],
        );
        check(
            "[flow.packets]\nidle_timeout_s = 300\nactive_timeout_s = 120\n",
            &["weir.toml:2: flow.packets.idle_timeout_s: 300 must be at most \
               flow.packets.active_timeout_s (120)"],
        );
        check(
            "[[rules.suppress]]\nrule = \"a\"\n[[rules.suppress]]\nrule = \"A\"\n",
            &["weir.toml:4: rules.suppress[1].rule: `A` is used twice"],
        );
        check(
            "[[output.files]]\nname = \"a\"\n[[output.files]]\nname = \"a\"\n",
            &["weir.toml:4: output.files[1].name: `a` is used twice"],
        );
        check(
            "[[output.files]]\nrotate_bytes = 65536\nkeep_bytes = 131071\n\
             [[output.files]]\nname = \"b\"\ndurability = \"disk\"\nkeep_bytes = 67108863\n\
             [[output.files]]\nname = \"c\"\ndurability = \"disk\"\nkeep_bytes = 67108864\n",
            &[
                "weir.toml:3: output.files[0].keep_bytes: 131071 must be twice rotate_bytes (65536) at \
                 least, or 0",
                "weir.toml:7: output.files[1].keep_bytes: 67108863 must be twice spool.segment_bytes \
                 (33554432) at least, or 0",
            ],
        );
        check(
            "[[output.files]]\nname = \"a/b\"\n[[output.files]]\nname = \"a_b\"\n",
            &[
                "weir.toml:4: output.files[1].name: `a_b` would share the files of `a/b`: expected names \
               that differ in letters, digits, `.`, `-` or `_`",
            ],
        );
        check(
            "[rules]\nwatch_s = 3601\n[[rules.feed]]\nformat = \"csv\"\n",
            &[
                "weir.toml:2: rules.watch_s: 3601 is outside 0..=3600",
                "weir.toml:3: rules.feed[0].path: must name a file",
                "weir.toml:3: rules.feed[0].column: must name the column",
            ],
        );
        check(
            "[[rules.feed]]\npath = \"a\"\nid = \"x\"\ncolumn = \"ip\"\n\
             [[rules.feed]]\npath = \"b\"\nid = \"x\"\n",
            &[
                "weir.toml:4: rules.feed[0].column: has a meaning with format = \"csv\" only",
                "weir.toml:7: rules.feed[1].id: `x` is used twice",
            ],
        );
        check(
            "[sensor.fields]\ntenant = 1.5\n",
            &["weir.toml:2: sensor.fields.tenant: invalid type: floating point `1.5`, expected a \
               text, a whole number of 64 bits, true or false"],
        );
        check(
            "[sensor.fields]\nok = 1\nTenant = true\n",
            &["weir.toml:3: sensor.fields.Tenant: a name has 1 to 64 of a to z, 0 to 9 and `_`"],
        );
        check("[[exporter]]\naddress = \"10.0.0\"\n", &["weir.toml:2: exporter"]);
        check(
            "[[output.kafka]]\nbrokers = [\"a:1\"]\n[output.kafka.properties]\n\"socket.max.fails\" = \"1\"\n\
             \"linger.ms\" = \"5\"\n",
            &["weir.toml:5: output.kafka[0].properties.\"linger.ms\": has a key of its own"],
        );
    }

    #[test]
    fn the_default_is_valid_and_round_trips() {
        let config = Config::default();
        assert_eq!(parse("default", &config.to_toml()), Ok(config));
    }
}
