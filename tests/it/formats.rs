//! The documents of the formats are those of the tables in the code, and what is written is read by
//! others.

use std::path::Path;
use std::process::Command;

use weir::output::format::documents;

use crate::docs::fresh;
use crate::servers::{python, script};
use crate::system::Bench;

#[test]
fn the_documents_of_the_formats_are_fresh() {
    for (path, text) in documents() {
        fresh(&path, &text);
    }
}

/// A replay of recorded traffic in every format, against validators and readers that are not ours.
#[test]
fn others_read_what_is_written() {
    let Some(python) = python() else { return };
    let imports = "import jsonschema, ocsf_json_schema, google.protobuf, grpc_tools";
    let there = Command::new(python).args(["-c", imports]).output().expect("python");
    if !there.status.success() {
        eprintln!("SKIPPED: scripts/servers.sh did not install the readers of formats");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bench = Bench::new();
    let input = format!(
        "--quiet replay {} --rules {}",
        root.join("pcaps/mixed.pcap.zst").display(),
        root.join("config/rules").display()
    );
    for format in ["detectflow", "ecs", "ocsf", "protobuf"] {
        bench.weir(&format!("{input} --format {format} -o slices.{format}"), 0);
        if format != "protobuf" {
            bench.weir(&format!("{input} --format {format} --alerts alerts.{format}"), 0);
        }
    }
    let schemas = root.join("docs/schema");
    let folder = bench.path("");
    let said = script("formats.py", &[&schemas.to_string_lossy(), &folder.to_string_lossy()]);
    assert!(said.contains("ocsf slice 1639\nocsf alert 8\n"), "{said}");
}
