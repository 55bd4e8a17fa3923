//! `weir spool`: what waits on disk for which sink, and moving a sink's cursor.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::Failure;
use super::args::{LogFormat, SpoolCommand, SpoolPlace};
use crate::output::spool::operator::{self, FrameReport, Goal, Moved, SegmentReport, Survey};
use crate::time::Micros;

pub(super) fn run(command: &SpoolCommand) -> Result<(), Failure> {
    match command {
        SpoolCommand::List { verify, place, format } => {
            let survey = operator::survey(&directory(place)?, *verify)?;
            tell(*format, &survey, || listed(&survey))
        }
        SpoolCommand::Inspect { segments, records, place, format } => {
            let directory = directory(place)?;
            let segments = match segments.is_empty() {
                false => segments.clone(),
                true => {
                    let survey = operator::survey(&directory, false)?;
                    survey.segments.iter().map(|segment| segment.number).collect()
                }
            };
            if let Some(select) = *records {
                let mut out = io::BufWriter::new(io::stdout().lock());
                for segment in segments {
                    operator::records(&directory, segment, select, &mut out)?;
                }
                return Ok(out.flush()?);
            }
            let mut frames = Vec::new();
            for segment in segments {
                frames.extend(operator::frames(&directory, segment)?);
            }
            tell(*format, &frames, || inspected(&frames))
        }
        SpoolCommand::Replay { sink, segment, since, place, format } => {
            let goal = goal(*segment, *since);
            let moved = operator::replay(&directory(place)?, sink, goal)?;
            tell(*format, &moved, || told(&moved, "will be delivered again"))
        }
        SpoolCommand::Drop { sink, segment, until, place, format, .. } => {
            let goal = goal(*segment, *until);
            let moved = operator::discard(&directory(place)?, sink, goal)?;
            tell(*format, &moved, || told(&moved, "dropped: they will never be delivered"))
        }
    }
}

fn directory(place: &SpoolPlace) -> Result<PathBuf, Failure> {
    match &place.directory {
        Some(directory) => Ok(directory.clone()),
        None => Ok(super::load(&place.config)?.spool.directory),
    }
}

fn goal(segment: Option<u64>, time: Option<Micros>) -> Goal {
    match (segment, time) {
        (Some(segment), _) => Goal::Segment(segment),
        (None, Some(time)) => Goal::Time(time),
        (None, None) => Goal::End,
    }
}

fn tell<T: Serialize>(
    format: LogFormat,
    what: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let text = match format {
        LogFormat::Json => {
            let mut json = serde_json::to_string(what).map_err(io::Error::from)?;
            json.push('\n');
            json
        }
        LogFormat::Text => text(),
    };
    super::print(text.as_bytes())
}

fn instant(micros: Option<Micros>) -> String {
    let stamp = micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros.0).ok());
    stamp.map_or_else(|| "-".to_owned(), |stamp| format!("{stamp:.3}"))
}

/// Columns as wide as what stands in them, all but the first to the right.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| name.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    let head = head.iter().map(|&name| name.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn listed(survey: &Survey) -> String {
    let octets: u64 = survey.segments.iter().map(|segment| segment.octets).sum();
    let mut text = format!(
        "spool {}: {} segments, {octets} octets{}\n",
        survey.id,
        survey.segments.len(),
        if survey.running { "; a sensor runs on it" } else { "" },
    );
    let row = |segment| segment_row(segment, survey.verified);
    let segments: Vec<_> = survey.segments.iter().map(row).collect();
    if !segments.is_empty() {
        text.push('\n');
        let head = [
            "segment",
            "state",
            "first",
            "last",
            "octets",
            "slices",
            "tagged",
            "alerts",
            "damaged",
            "lost",
            "unfinished",
        ];
        text.push_str(&table(&head, &segments));
    }
    let sinks = survey.sinks.iter().map(|sink| {
        let select = format!("{:?}", sink.select).to_lowercase();
        let cursor = &sink.cursor;
        let gaps = cursor.gaps.iter().map(|&(first, last)| match last {
            u64::MAX => format!("{first}-"),
            _ => format!("{first}-{last}"),
        });
        let gaps = gaps.collect::<Vec<_>>().join(",");
        vec![
            sink.sink.clone(),
            select,
            format!("{}+{}", cursor.segment, cursor.offset),
            sink.waiting.to_string(),
            sink.lost.to_string(),
            instant(sink.oldest),
            if gaps.is_empty() { "-".to_owned() } else { gaps },
        ]
    });
    let sinks: Vec<_> = sinks.collect();
    text.push('\n');
    let head = ["sink", "takes", "cursor", "waiting", "lost", "oldest", "passes over"];
    text.push_str(&table(&head, &sinks));
    if !survey.verified && !segments.is_empty() {
        text.push_str("\ndamaged: `-` was not looked for; --verify reads every payload\n");
    }
    if survey.running {
        text.push_str(
            "\nwhat the sensor holds in memory is not here: see `delivery` of its /readyz (`spool.queued`, \
             and sinks with durability = \"memory\")\n",
        );
    }
    for cursor in &survey.unreadable {
        let what = "a cursor that cannot be read, so that everything is delivered again";
        writeln!(text, "\n{what}: {cursor}").expect("a string takes all");
    }
    for broken in &survey.broken {
        writeln!(text, "\nkept aside, cannot be read: {broken}").expect("a string takes all");
    }
    text
}

fn segment_row(segment: &SegmentReport, verified: bool) -> Vec<String> {
    // A header that is gone is seen without reading payloads; that none is damaged is not.
    let damaged = match segment.damaged {
        0 if !verified => "-".to_owned(),
        damaged => damaged.to_string(),
    };
    vec![
        segment.number.to_string(),
        if segment.sealed { "sealed" } else { "open" }.to_owned(),
        instant(segment.first),
        instant(segment.last),
        segment.octets.to_string(),
        segment.sums.slices.to_string(),
        segment.sums.tagged.to_string(),
        segment.sums.alerts.to_string(),
        damaged,
        segment.lost.to_string(),
        segment.unfinished.to_string(),
    ]
}

fn inspected(frames: &[FrameReport]) -> String {
    let rows = frames.iter().map(|frame| {
        vec![
            frame.segment.to_string(),
            frame.offset.to_string(),
            frame.kind.to_owned(),
            instant(frame.written),
            frame.records.to_string(),
            frame.tagged.to_string(),
            frame.octets.to_string(),
            frame.raw.to_string(),
            if frame.whole { "whole" } else { "damaged" }.to_owned(),
        ]
    });
    let head =
        ["segment", "offset", "kind", "written", "records", "tagged", "octets", "raw", "payload"];
    table(&head, &rows.collect::<Vec<_>>())
}

fn told(moved: &Moved, what: &str) -> String {
    let Moved { sink, from, to, records } = moved;
    if from == to {
        let (segment, offset) = (from.segment, from.offset);
        return format!(
            "{sink}: nothing to do: nothing waits there; its cursor stays at segment {segment} offset \
             {offset}\n"
        );
    }
    format!(
        "{sink}: from segment {} offset {} to segment {} offset {}: {records} records {what}\n",
        from.segment, from.offset, to.segment, to.offset
    )
}

/// A time as RFC 3339 has it.
pub(super) fn time(text: &str) -> Result<Micros, String> {
    let stamp: Result<jiff::Timestamp, _> = text.parse();
    stamp.map(|stamp| Micros(stamp.as_microsecond())).map_err(|_| {
        "expected a time with its zone, such as 2026-11-25T14:00:00Z (RFC 3339)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_wide_as_their_cells() {
        let rows =
            [vec!["a".to_owned(), "1000".to_owned()], vec!["bcd".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["x", "no"], &rows), "x      no\na    1000\nbcd     2\n");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time("1970-01-01T00:00:01.5Z"), Ok(Micros(1_500_000)));
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Ok(Micros(0)));
        assert!(time("yesterday").expect_err("no time").contains("RFC 3339"));
    }
}
