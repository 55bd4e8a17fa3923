//! The generated documents are those of the table in the code.

use weir::decode::text::Role;
use weir::output::Stream;
use weir::output::schema::{json_schema, markdown};

use crate::docs::fresh;

#[test]
fn the_schema_documents_are_fresh() {
    fresh("docs/schema.md", &markdown());
    fresh("docs/schema/slice.schema.json", &json_schema(Stream::Slices));
    fresh("docs/schema/alert.schema.json", &json_schema(Stream::Alerts));
}

const CSV_HEAD: &str = "\
# Flows as CSV

<!-- Made from src/decode/text by tests/it/schema.rs (WEIR_BLESS=1 writes it): do not edit. -->

`weir replay` reads CSV in the columns of DeepMITRE, in DeepTempo's canonical NetFlow schema, in
any of the aliases below, and in what Weir itself writes. Columns of other names are ignored, but
for `scenario`, by which `weir score` keeps flows apart that have addresses in common: its cells are
compared as they stand, and empty ones are of no scenario. The `class` that it gives is `c2` or `exfil` from
the score on at which the configuration's `model.alerts_per_1000_hosts_day` is met: another budget
gives other classes, and the same scores.

The same may come as Parquet (model/README.md has its columns), compressed by zstd, snappy, gzip, lz4
or not at all.

- **Header.** Required. Names are compared without case and outer blanks, ` ` and `-` as `_`. Of
  several aliases of a column the first of its list wins. A header that lacks a required column is
  refused, and the error names what is missing and what was found.
- **Form.** RFC 4180; the delimiter is the one of comma, semicolon and tab that the header has
  most of. LF, CR LF or CR; a byte order mark and empty lines are skipped. A row has at most
  65,536 octets, and so has a quoted cell, which may span lines within that bound. A quote that is
  not closed takes the rows after it into its cell, up to the next quote or the end of the file.
- **Time.** `YYYY-MM-DD` or `YYYY/MM/DD`, a blank or `T`, `HH:MM:SS`, then optionally a fraction
  and `Z` or an offset; without one it is UTC. Or a number since the epoch: below 1e11 seconds,
  below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Each value is judged by
  itself, since a stream cannot be read twice.
- **Numbers.** `443`, `443.0` and `4.43e2` are the same whole number. Octets and packets are at
  most 9223372036854775807; absent or empty ones are 0, but for `fwd_bytes`.
- **Protocol.** A number or a name; 0 if there is no such column, and the sequence model goes by the
  ports. Ports may be empty for protocols without ports; of ICMP they are type and code.
- **Direction.** With a column for the way back, a row is a biflow whose source is the initiator.
  Without, it is one direction, and the other may be another row.
- **Unknown.** The sampling interval, the exporter, TCP flags.

A row that does not fit is skipped and counted under `row_too_long`, `cell_count`, `missing_value`,
`bad_value` or, where the file ends within quotes, `unclosed_quote`; the error names the row's first
line, column, value and what was expected, or the line on which the quote was opened. The input
clock is the row's end: start plus duration.

| column | required | names, the first that is there wins |
|---|---|---|
";

#[test]
fn the_documents_of_csv_input_are_fresh() {
    let mut text = CSV_HEAD.to_owned();
    for role in Role::ALL {
        let required = if role.required() { "yes" } else { "" };
        let aliases = role.aliases().join("`, `");
        text += &format!("| `{}` | {required} | `{aliases}` |\n", role.name());
    }
    text += "\nThe unit of the duration follows from its column's name: `_ms`, `_us`, `_ns` and \
             the names that spell them out; seconds otherwise.\n";
    fresh("docs/csv-input.md", &text);
}
