//! What `make install` puts in place, and what systemd thinks of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::system::{Bench, binary, has};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The units in `bench`, with the binary and configuration that are there.
fn units(bench: &Bench) -> [PathBuf; 2] {
    bench.write("weir.toml", "");
    let unit = |name: &str| {
        let shipped = fs::read_to_string(root().join("systemd").join(name)).expect(name);
        let here = shipped
            .replace("/usr/bin/weir", &binary().display().to_string())
            .replace("/etc/weir/weir.toml", &bench.path("weir.toml").display().to_string())
            // There is no such page on a machine without Weir.
            .replace("man:weir(8)", "https://example.org/weir");
        bench.write(name, here).path(name)
    };
    ["weir.service", "weir.socket"].map(unit)
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    if !has("systemd-analyze") {
        return;
    }
    let bench = Bench::new();
    let units = units(&bench);
    let output = Command::new("systemd-analyze").arg("verify").args(&units).output().expect("runs");
    let said = text(&output);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("weir")).collect();
    assert_eq!(ours, Vec::<&str>::new(), "{said}");
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_service_is_exposed_little() {
    if !has("systemd-analyze") {
        return;
    }
    let bench = Bench::new();
    let [service, _] = units(&bench);
    let mut analyze = Command::new("systemd-analyze");
    let output = analyze.args(["security", "--offline=yes", "--no-pager"]).arg(service).output();
    let said = text(&output.expect("runs"));
    let Some((_, score)) = said.split_once("Overall exposure level for ") else {
        eprintln!("SKIPPED: this systemd-analyze scores no files: {said}");
        return;
    };
    let score = score.split(": ").nth(1).and_then(|text| text.split(' ').next());
    let score: f64 = score.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    println!("exposure {score}");
    assert!(score <= 1.5, "{said}");
}

/// Runs `scripts/install.sh` and wants it to succeed.
#[track_caller]
fn install(bench: &Bench, what: &str) -> String {
    let destination = bench.path("");
    let destination = destination.to_str().expect("text").trim_end_matches('/');
    let mut script = Command::new(root().join("scripts/install.sh"));
    script.args([what, destination, "/usr", "/etc", "/usr/lib/systemd"]);
    let output = script.output().expect("runs");
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

const BINARY: &str = "usr/bin/weir";
const CONFIG: &str = "etc/weir/weir.toml";
const FILES: &[&str] = &[
    "usr/lib/systemd/system/weir.service",
    "usr/lib/systemd/system/weir.socket",
    "usr/lib/sysusers.d/weir.conf",
    "usr/lib/sysctl.d/60-weir.conf",
    "usr/share/man/man8/weir.8",
    "usr/share/bash-completion/completions/weir",
    "usr/share/zsh/vendor-completions/_weir",
    "usr/share/fish/vendor_completions.d/weir.fish",
    "usr/share/weir/rules/clear_text.yml",
    "usr/share/weir/drop-ins/credentials.conf",
    "usr/share/weir/drop-ins/live-capture.conf",
    "usr/share/weir/drop-ins/xdp-capture.conf",
    "usr/share/weir/drop-ins/tee.conf",
    "usr/share/weir/model/weir.onnx",
    "usr/share/doc/weir/operate.md",
];

/// All files and links below `folder`, as paths from there.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.symlink_metadata().expect("there").is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below").to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn installation_puts_everything_in_place_and_takes_it_away() {
    let bench = Bench::new();
    let binary = binary();
    install(&bench, binary.to_str().expect("text"));
    for file in FILES {
        let path = bench.path(file);
        assert!(path.metadata().is_ok_and(|meta| meta.len() > 0), "{file}");
        let mode = path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode & 0o133, 0, "{file} has mode {mode:o}");
    }
    let mode = bench.path(BINARY).metadata().expect("the binary").permissions().mode() & 0o777;
    assert_eq!(mode, 0o755);
    let shipped = fs::read_to_string(root().join("config/weir.toml")).expect("the configuration");
    assert_eq!(bench.read(CONFIG), shipped);
    let rules = fs::read_link(bench.path("etc/weir/rules/shipped")).expect("a link");
    assert_eq!(rules, Path::new("/usr/share/weir/rules"));
    let count = |folder: PathBuf| fs::read_dir(folder).expect("rules").count();
    assert_eq!(count(bench.path("usr/share/weir/rules")), count(root().join("config/rules")));
    let own = Command::new(bench.path(BINARY)).arg("--version").output().expect("runs");
    assert!(own.status.success());
    let check = bench.weir("rules check usr/share/weir/rules", 0);
    assert!(check.out.contains(" 0 rejected, 0 disabled; "), "{}", check.out);

    install(&bench, "--remove");
    let left: Vec<PathBuf> = tree(&bench.path(""));
    assert_eq!(left, [Path::new(CONFIG)], "only what is the operator's stays");
    install(&bench, "--remove");
}

#[test]
fn installation_keeps_what_is_the_operators() {
    let bench = Bench::new();
    bench.write(CONFIG, "# mine\n").write("etc/weir/rules/mine.yml", "title: Mine\n");
    let binary = binary();
    let said = install(&bench, binary.to_str().expect("text"));
    assert!(said.contains("weir.toml stands; the new default is "), "{said}");
    assert_eq!(bench.read(CONFIG), "# mine\n");
    assert_eq!(bench.read("etc/weir/rules/mine.yml"), "title: Mine\n");
    let shipped = fs::read_to_string(root().join("config/weir.toml")).expect("the configuration");
    assert_eq!(bench.read("etc/weir/weir.toml.new"), shipped);
    // Over itself, as an update does.
    install(&bench, binary.to_str().expect("text"));
    assert_eq!(bench.read(CONFIG), "# mine\n");
}

/// Numbers that two files state agree.
#[test]
fn units_and_configuration_agree() {
    let unit = |name: &str| fs::read_to_string(root().join("systemd").join(name)).expect(name);
    let config = fs::read_to_string(root().join("config/weir.toml")).expect("the configuration");
    let (service, socket) = (unit("weir.service"), unit("weir.socket"));
    assert!(socket.contains("ListenDatagram=2055") && config.contains("0.0.0.0:2055"));
    assert!(service.contains("StateDirectory=weir") && config.contains("\"/var/lib/weir\""));
    for command in ["ExecStart=/usr/bin/weir run -c ", "ExecReload=/usr/bin/weir check -c "] {
        assert!(service.contains(command), "{command}");
    }
    assert!(service.contains("\nCapabilityBoundingSet=\n"), "no capability");
    for name in ["drop-ins/live-capture.conf", "drop-ins/xdp-capture.conf", "drop-ins/tee.conf"] {
        assert!(unit(name).contains("AmbientCapabilities=CAP_NET_RAW"), "{name}");
    }
}
