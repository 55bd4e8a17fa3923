//! The commands as users run them: arguments, exit codes, errors that say where.

mod decode;
mod replay;
mod rules;

use clap::Command;

use crate::system::Bench;

/// Every command with its path: `rules check`.
fn commands() -> Vec<(String, Command)> {
    fn walk(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for below in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let path = format!("{path} {}", below.get_name()).trim().to_owned();
            if below.has_subcommands() {
                walk(below, &path, found);
            } else {
                found.push((path, below.clone()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&weir::cli::command(), "", &mut found);
    found
}

#[test]
fn the_commands_are_those_of_the_documentation() {
    let paths: Vec<String> = commands().into_iter().map(|(path, _)| path).collect();
    let want = [
        "run",
        "detect",
        "replay",
        "score",
        "decode",
        "exporters",
        "health",
        "top",
        "check",
        "rules check",
        "rules test",
        "spool list",
        "spool inspect",
        "spool replay",
        "spool drop",
        "config default",
        "config show",
        "completions",
        "man",
    ];
    assert_eq!(paths, want);
    let bench = Bench::new();
    let help = bench.weir("--help", 0).out;
    for path in want {
        let first = path.split(' ').next().expect("a name");
        assert!(help.contains(first), "{first}: {help}");
        let own = bench.weir(&format!("{path} --help"), 0).out;
        assert!(own.contains(&format!("Usage: weir {path}")), "{own}");
    }
    assert!(bench.weir("--version", 0).out.starts_with("weir 0."));
}

#[test]
fn the_manual_page_has_every_command_and_option() {
    let page = Bench::new().weir("man", 0).out.replace("\\-", "-");
    assert!(page.contains(".TH weir 8"), "{page}");
    for (path, command) in commands() {
        let start = format!(".SS \"weir {path}\"");
        let (_, section) = page.split_once(&start).unwrap_or_else(|| panic!("{path}: {page}"));
        let section = section.split(".SS ").next().expect("a section");
        for option in command.get_arguments().filter(|a| !a.is_hide_set() && !a.is_global_set()) {
            let name = match option.get_long() {
                Some(long) => format!("--{long}"),
                None => option.get_id().to_string().to_uppercase(),
            };
            let named = option.get_value_names().is_some_and(|names| {
                option.is_positional() && names.iter().all(|name| section.contains(name.as_str()))
            });
            assert!(named || section.contains(&name), "{path} {name}: {section}");
        }
    }
    for code in ["EXIT STATUS", "SIGHUP", "weir.toml"] {
        assert!(page.contains(code), "{code}: {page}");
    }
    assert!(!page.contains("weir-run(8)"), "names no page that there is not");
}

#[test]
fn completions_know_every_command_and_option() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.weir(&format!("completions {shell}"), 0).out;
        for (path, command) in commands() {
            let last = path.rsplit(' ').next().expect("a name");
            assert!(script.contains(last), "{shell}: {path}");
            for long in command.get_arguments().filter_map(|option| option.get_long()) {
                assert!(script.contains(long), "{shell}: {path} --{long}");
            }
        }
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let bench = Bench::new();
    for (args, says) in [
        ("", "Usage: weir"),
        ("fly", "unrecognized subcommand 'fly'"),
        ("replay", "<FILE>..."),
        ("replay a.pcap --workers 0", "0 is not in 1..=64"),
        ("replay a.pcap --workers 65", "65 is not in 1..=64"),
        ("replay a.pcap --speed 0", "expected a number from 0.001 to 1000000"),
        ("replay a.pcap --speed NaN", "expected a number from 0.001 to 1000000"),
        ("replay a.pcap --format xml", "possible values: ndjson, csv, parquet"),
        ("replay a.pcap --idle-timeout 0", "0 is not in 1..=86400"),
        ("replay a.pcap --active-timeout 86401", "86401 is not in 1..=86400"),
        ("replay a.pcap --netflow=65536", "65536 is not in 0..=65535"),
        ("replay a.pcap --select none", "possible values: slices, tagged, alerts"),
        ("decode a.pcap --exporter router", "router"),
        ("rules check", "<DIR>..."),
        ("rules test rules", "--events <FILE.jsonl>"),
        ("exporters --admin here", "invalid socket address"),
        ("-q -v config default", "cannot be used with"),
        ("completions tcsh", "possible values: bash"),
    ] {
        let ended = bench.weir(args, 2);
        assert!(ended.err.contains(says), "weir {args}: {}", ended.err);
        assert_eq!(ended.out, "", "weir {args}");
    }
}

/// A configuration that names folders in the bench.
const CONFIG: &str = r#"
[sensor]
state_directory = "state"
[rules]
directories = ["rules"]
[[output.files]]
name = "flows"
directory = "flows"
"#;

#[test]
fn a_configuration_that_is_valid_is_said_to_be() {
    let bench = Bench::new();
    bench.write("weir.toml", CONFIG).write("rules/one.yml", rules::TELNET);
    let ended = bench.weir("check -c weir.toml", 0);
    assert_eq!(ended.out, "weir.toml: valid; 1 rules, 1 outputs (1 files)\n");
    assert!(!bench.path("flows").exists(), "a check leaves nothing behind");
}

#[test]
fn a_check_names_rejected_rules_and_all_outputs() {
    let bench = Bench::new();
    let more = "[[output.syslog]]\nname = \"s\"\naddress = \"127.0.0.1:514\"\n[[output.tee]]\nname = \
                \"t\"\naddress = \"127.0.0.1:2056\"\n";
    let named = "[[rules.suppress]]\nrule = \"nosuch\"\n";
    let config = CONFIG.replace(
        "[\"rules\"]",
        "[\"rules\"]\nexclusions = [\"rules/exclusions\"]\nenable = [\n\"slip\"]",
    );
    bench.write("weir.toml", config + named + more);
    bench.write("rules/one.yml", rules::TELNET).write("rules/two.yml", rules::PROCESS);
    let exclusion = "title: E\nid: e\ndetection:\n  s:\n    dst_port: 1\n  condition: s\n";
    bench.write("rules/exclusions/e.yml", exclusion);
    let ended = bench.weir("-q check -c weir.toml", 0);
    assert_eq!(
        ended.out,
        "weir.toml: valid; 1 rules, 1 exclusions, 1 rejected, 3 outputs (1 files, 1 syslog, 1 tee)\n"
    );
    assert_eq!(ended.err.matches("rules/two.yml:3: Process (process): rejected").count(), 1);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    let ended = bench.weir("check -c weir.toml", 0);
    for says in [
        "weir.toml:8: warning: rules.enable[0]: `slip` is the id of no rule",
        "warning: rules.suppress[0].rule: `nosuch` is the id of no rule",
    ] {
        assert!(ended.err.contains(says), "{says}: {}", ended.err);
    }
    bench.write("rules/bad.yml", "title: Bad\ndetection: [\n");
    let ended = bench.weir("check -c weir.toml", 0);
    assert!(
        ended.err.contains("ERROR rules/bad.yml:3: Bad: rejected: not a Sigma rule"),
        "{}",
        ended.err
    );
    let ended = bench.weir("check --strict -c weir.toml", 3);
    for says in [
        "weir: rules/two.yml:3: Process (process): rejected",
        "weir: rules/bad.yml:3: Bad: rejected",
    ] {
        assert!(ended.err.contains(says), "{says}: {}", ended.err);
    }
}

#[test]
fn the_examples_of_configurations_are_valid_where_they_lie() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("an entry").path();
        let config = weir::service::load::config(&path);
        let config = config.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        weir::pipeline::rules::gather(&config)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert!(count >= 10, "{count} examples");
}

#[test]
fn errors_name_file_line_key_and_what_is_expected() {
    for (name, config, says) in [
        ("syntax", "[flow\n".to_owned(), "weir.toml:1: "),
        (
            "an unknown key",
            "[flow]\n\nlingers = 1\n".to_owned(),
            "weir.toml:3: flow.lingers: unknown field `lingers`, expected one of",
        ),
        (
            "a type",
            "[flow]\nlinger_s = \"x\"\n".to_owned(),
            "weir.toml:2: flow.linger_s: invalid type: string \"x\", expected",
        ),
        (
            "a bound",
            "[flow]\nlinger_s = 99\n".to_owned(),
            "weir.toml:2: flow.linger_s: 99 is outside 0..=60",
        ),
        (
            "two at once",
            "[flow]\nlinger_s = 99\nentries_max = 1\n".to_owned(),
            "weir.toml:3: flow.entries_max: 1 is outside 64..=100000000",
        ),
        (
            "a core that is not there",
            "[sensor]\nworkers = [4096]\n".to_owned(),
            "weir.toml:2: sensor.workers: core 4096 is none of this process's",
        ),
        (
            "no cores",
            "[sensor]\nworkers = []\n".to_owned(),
            "weir.toml:2: sensor.workers: 0 cores are not 1 to 64",
        ),
        (
            "nothing to read",
            "[sensor]\n[input.netflow]\nlisten = []\n".to_owned(),
            "weir.toml:3: input.netflow.listen: is empty, and there is no [input.capture]",
        ),
        (
            "a filter that is none",
            "[input.capture]\ninterface = \"lo\"\nfilter = \"udp porrt 1\"\n".to_owned(),
            "weir.toml:3: input.capture.filter: filter `udp porrt 1` does not compile",
        ),
        (
            "rules that are not there",
            CONFIG.replace("[\"rules\"]", "[\"none\"]"),
            "rules.directories: none: No such file or directory",
        ),
        (
            "an output that cannot be",
            CONFIG.replace("directory = \"flows\"", "directory = \"weir.toml/flows\""),
            "output.files[0].directory: weir.toml/flows: weir.toml is not a directory",
        ),
        (
            "state that cannot be",
            CONFIG.replace("\"state\"", "\"/proc/weir\""),
            "sensor.state_directory: /proc: ",
        ),
    ] {
        let bench = Bench::new();
        bench.write("weir.toml", config).write("rules/one.yml", rules::TELNET);
        let ended = bench.weir("check -c weir.toml", 3);
        let said = ended.err.lines().any(|line| {
            let line = line.strip_prefix("weir: ").unwrap_or(line);
            // Of the configuration's own keys the file and the line come first.
            let key = line.strip_prefix("weir.toml:").and_then(|line| line.split_once(": "));
            line.starts_with(says) || key.is_some_and(|(_, key)| key.starts_with(says))
        });
        assert!(said, "{name}: wanted {says}\n{}", ended.err);
        assert_eq!(ended.out, "", "{name}");
    }
    let ended = Bench::new().weir("check -c none.toml", 3);
    assert!(ended.err.starts_with("weir: none.toml: No such file"), "{}", ended.err);
}

#[test]
fn a_sensor_that_cannot_start_says_why() {
    let bench = Bench::new();
    bench.write("weir.toml", "[input.netflow]\nlisten = []\n[admin]\n[rules]\ndirectories = []\n");
    let ended = bench.weir("run -c weir.toml", 3);
    assert!(ended.err.contains("no input: input.netflow.listen is empty"), "{}", ended.err);
    let ended = bench.weir("run -c none.toml", 3);
    assert!(ended.err.contains("none.toml: No such file"), "{}", ended.err);
    let ended = bench.weir("exporters --admin 127.0.0.1:1", 3);
    assert!(ended.err.contains("no running sensor answers at 127.0.0.1:1"), "{}", ended.err);
}

#[test]
fn configurations_are_shown_whole() {
    let bench = Bench::new();
    let default = bench.weir("config default", 0).out;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/weir.toml");
    assert_eq!(default, std::fs::read_to_string(shipped).expect("the shipped configuration"));
    bench.write("default.toml", &default);
    let shown = bench.weir("config show -c default.toml", 0).out;
    bench.write("shown.toml", &shown);
    let again = bench.weir("config show -c shown.toml", 0).out;
    assert_eq!(shown, again, "what is shown is a configuration, and the same");
    bench.write("small.toml", "[flow]\nlinger_s = 9\n");
    let small = bench.weir("config show -c small.toml", 0).out;
    assert!(small.contains("linger_s = 9") && small.contains("entries_max = 1000000"), "{small}");
    let wrong = bench.write("wrong.toml", "x = 1").weir("config show -c wrong.toml", 3);
    assert!(wrong.err.contains("wrong.toml:1: x: unknown field"), "{}", wrong.err);
}

#[test]
fn diagnostics_are_text_or_json_and_may_be_quiet() {
    let bench = Bench::new();
    bench.write("r/b.yml", rules::PROCESS).write("e.jsonl", "{}\n");
    bench.write("r/a.yml", rules::TELNET);
    let text = bench.weir("rules test r --events e.jsonl", 0).err;
    assert!(
        text.contains(" ERROR r/b.yml:3: Process (process): rejected: its log source"),
        "{text}"
    );
    let json = bench.weir("--log-format json rules test r --events e.jsonl", 0).err;
    let line: serde_json::Value = serde_json::from_str(json.trim()).expect(&json);
    assert_eq!(line["level"], "ERROR");
    // A rule that is rejected is something that went wrong; a note on one that loads is not.
    let quiet = bench.weir("-q rules test r --events e.jsonl", 0).err;
    assert!(quiet.lines().count() == 1 && quiet.contains("r/b.yml:3: "), "{quiet}");
    std::fs::remove_file(bench.path("r/a.yml")).expect("removed");
    bench
        .write("r/b.yml", format!("status: deprecated\n{}", rules::TELNET))
        .write("weir.toml", CONFIG.replace("\"rules\"", "\"r\""));
    let noted = bench.weir("check -c weir.toml", 0).err;
    assert!(noted.contains(" WARN r/b.yml:1: Telnet: warning: "), "{noted}");
    assert_eq!(bench.weir("-q check -c weir.toml", 0).err, "");
}
