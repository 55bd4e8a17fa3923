"""Reads what Weir wrote with pandas, pyarrow and DuckDB, and holds all of it to one NDJSON file.

usage: read_back.py FOLDER [ENDPOINT BUCKET]

FOLDER has reference.ndjson and any number of other *.ndjson, *.json.gz and *.parquet files; objects of
the bucket are fetched into it. Each must hold the same records, with columns of the right names, order
and types. Prints how many records each reader found in each file.
"""

import gzip
import json
import pathlib
import sys

import boto3
import duckdb
import pandas
import pyarrow.parquet

# DeepTempo's canonical columns: in Arrow, in DuckDB, and the kind of NumPy's types in pandas.
CANONICAL = {
    "timestamp": ("int64", "BIGINT", "i"),
    "src_ip": ("string", "VARCHAR", "O"),
    "dest_ip": ("string", "VARCHAR", "O"),
    "src_port": ("int32", "INTEGER", "i"),
    "dest_port": ("int32", "INTEGER", "i"),
    "fwd_bytes": ("int64", "BIGINT", "i"),
    "bwd_bytes": ("int64", "BIGINT", "i"),
    "fwd_pkts": ("int64", "BIGINT", "i"),
    "bwd_pkts": ("int64", "BIGINT", "i"),
    "flow_dur": ("double", "DOUBLE", "f"),
    "protocol": ("int32", "INTEGER", "i"),
}


def hold(what, got, want):
    if got != want:
        sys.exit(f"{what}: found {got!r}, expected {want!r}")


def fetch(endpoint, bucket, folder):
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIAWEIRTESTS",
        aws_secret_access_key="kept-in-a-file-not-in-the-log",
    )
    for item in client.list_objects_v2(Bucket=bucket)["Contents"]:
        client.download_file(bucket, item["Key"], str(folder / item["Key"].replace("/", "+")))


def key(row):
    return row["flow_id"], row["slice"]


def bare(row):
    """A row without what is absent: in JSON a key is left out, in columns it is null."""
    return {name: plain(value) for name, value in row.items() if not absent(value)}


def absent(value):
    return value is None or (isinstance(value, float) and value != value) or value is pandas.NA


def plain(value):
    if hasattr(value, "tolist"):
        value = value.tolist()
    return value


def same(what, rows, reference, types=None):
    """Each row is that of the reference; numbers of columns with holes may have become doubles."""
    found = {key(row): row for row in map(bare, rows)}
    hold(f"{what}, records", (len(rows), len(found)), (len(reference), len(reference)))
    for name, want in reference.items():
        row = found[name]
        for column, value in want.items():
            got = row.get(column)
            # Objects are JSON text in columns.
            if isinstance(got, str) and not isinstance(value, str):
                got = json.loads(got)
            if got is None and value == [] and types is not None:
                got = []
            hold(f"{what}, {name}, {column}", got, value)
        hold(f"{what}, {name}, more", sorted(set(row) - set(want)), [])


def parquet(path, reference):
    table = pyarrow.parquet.read_table(path)
    names = list(CANONICAL)
    hold(f"{path.name}, first columns", table.column_names[: len(names)], names)
    for name, (arrow, duck, numpy) in CANONICAL.items():
        field = table.schema.field(name)
        hold(f"{path.name}, {name} in Arrow", (str(field.type), field.nullable), (arrow, False))
    same(f"{path.name} by pyarrow", table.to_pylist(), reference)

    frame = pandas.read_parquet(path)
    for name, (arrow, duck, numpy) in CANONICAL.items():
        kind = "O" if pandas.api.types.is_string_dtype(frame[name]) else frame[name].dtype.kind
        hold(f"{path.name}, {name} in pandas", kind, numpy)
    same(f"{path.name} by pandas", frame.to_dict("records"), reference)

    relation = duckdb.read_parquet(str(path))
    types = dict(zip(relation.columns, map(str, relation.types)))
    for name, (arrow, duck, numpy) in CANONICAL.items():
        hold(f"{path.name}, {name} in DuckDB", types[name], duck)
    same(f"{path.name} by DuckDB", duck_rows(relation), reference)


def duck_rows(relation):
    return [dict(zip(relation.columns, row)) for row in relation.fetchall()]


def lines(path, reference):
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as stream:
        same(f"{path.name} by json", [json.loads(line) for line in stream], reference)

    frame = pandas.read_json(path, lines=True, dtype=False)
    hold(f"{path.name}, first columns", list(frame.columns[: len(CANONICAL)]), list(CANONICAL))
    hold(f"{path.name} in pandas", len(frame), len(reference))
    sums = {name: sum(row[name] for row in reference.values()) for name in ("fwd_bytes", "timestamp")}
    for name, total in sums.items():
        hold(f"{path.name}, {name} in pandas", int(frame[name].sum()), total)

    relation = duckdb.read_json(str(path), format="newline_delimited", sample_size=-1)
    types = dict(zip(relation.columns, map(str, relation.types)))
    for name in CANONICAL:
        numeric = types[name] in ("BIGINT", "DOUBLE")
        hold(f"{path.name}, {name} in DuckDB", numeric, CANONICAL[name][2] != "O")
    got = relation.aggregate("count(*), sum(fwd_bytes), sum(timestamp)").fetchall()[0]
    want = (len(reference), sums["fwd_bytes"], sums["timestamp"])
    hold(f"{path.name} in DuckDB", tuple(map(int, got)), want)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    if len(sys.argv) > 2:
        fetch(*sys.argv[2:], folder)
    text = (folder / "reference.ndjson").read_text()
    reference = {key(row): row for row in map(json.loads, text.splitlines())}
    for path in sorted(folder.iterdir()):
        if path.name != "reference.ndjson":
            (parquet if path.suffix == ".parquet" else lines)(path, reference)
            print(path.name, len(reference))


main()
