//! `[[output.files]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Durability, FieldValue, Format, Full, Place, Report, Select, Table, Taking};

/// `[[output.files]]`: one set of rotating files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Name of the sink, in metrics, ledgers and file names; unique.
    pub name: String,
    /// Directory; made if absent.
    pub directory: PathBuf,
    /// What is written.
    pub select: Select,
    /// Fields that are written, by name; empty: all.
    pub fields: Vec<String>,
    /// How it is written.
    pub format: Format,
    /// Where records wait: in a queue in memory, or in the spool. Then each file has the records of
    /// one segment of the spool, whose `segment_bytes`, `segment_age_s` and `segment_idle_s` say how
    /// large and old it becomes; `rotate_s`, `rotate_bytes` and `queue_records_max` mean nothing.
    pub durability: Durability,
    /// Seconds after which a file is closed: 1 to 86,400.
    pub rotate_s: u32,
    /// Octets after which a file is closed: 64 KiB to 1 TiB.
    pub rotate_bytes: u64,
    /// Seconds after which a finished file is removed: 0 (never) to 3,153,600,000.
    pub keep_s: u64,
    /// Octets of all finished files of this sink, at most: 0 (any) to 1 PiB. The oldest go.
    pub keep_bytes: u64,
    /// Octets of the file system that are left free: 0 to 1 PiB.
    pub free_bytes: u64,
    /// What goes when the disk is full, or has less than `free_bytes` left: what comes, or the
    /// oldest finished files of this sink. With the spool before it, what comes waits there.
    pub full: Full,
    /// Records that may wait for this sink, at most: 1,024 to 10,000,000. More are shed.
    pub queue_records_max: usize,
    /// Fields of your own on every record of this sink, as in `[sensor.fields]`.
    pub add: BTreeMap<String, FieldValue>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            name: "files".into(),
            directory: "/var/lib/weir/flows".into(),
            select: Select::Slices,
            fields: Vec::new(),
            format: Format::Ndjson,
            durability: Durability::Memory,
            rotate_s: 300,
            rotate_bytes: 256 << 20,
            keep_s: 0,
            keep_bytes: 0,
            free_bytes: 0,
            full: Full::Newest,
            queue_records_max: 262_144,
            add: BTreeMap::new(),
        }
    }
}

impl Files {
    /// What is kept has room for two files of `octets`, the bound that `named` is.
    pub(super) fn keeps_two(
        &self,
        octets: u64,
        named: &str,
        key: &dyn Fn(&str) -> String,
        report: &mut Report,
    ) {
        let kept = self.keep_bytes;
        if kept > 0 && kept / 2 < octets {
            let message = format!("{kept} must be twice {named} ({octets}) at least, or 0");
            report.add(&key("keep_bytes"), message);
        }
    }
}

impl Table for Files {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn taking(&self) -> Taking<'_> {
        let Self { name, select, fields, add, .. } = self;
        let durability = Some(self.durability).filter(|&place| place == Durability::Disk);
        Taking { name, select: *select, fields, add, durability }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        if cfg!(not(feature = "spool")) && self.durability == Durability::Disk {
            report.add(&key("durability"), "this build has no feature `spool`".into());
        }
        report.within(&key("rotate_s"), self.rotate_s, 1..=86_400);
        report.within(&key("rotate_bytes"), self.rotate_bytes, 65_536..=1 << 40);
        // Behind the spool a file is a segment: `Output::check` compares with that.
        if self.durability == Durability::Memory {
            self.keeps_two(self.rotate_bytes, "rotate_bytes", key, report);
        }
        report.within(&key("keep_s"), self.keep_s, 0..=3_153_600_000);
        report.within(&key("keep_bytes"), self.keep_bytes, 0..=1 << 50);
        report.within(&key("free_bytes"), self.free_bytes, 0..=1 << 50);
        report.within(&key("queue_records_max"), self.queue_records_max, 1_024..=10_000_000);
        if let Some((name, message)) = self.format.fault(self, Place::Files) {
            report.add(&key(name), message);
        }
    }

    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        absolute(&mut self.directory);
    }
}
