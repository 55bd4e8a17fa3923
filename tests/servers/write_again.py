"""Writes slices.parquet and flows.parquet in FOLDER again, as others do.

usage: write_again.py FOLDER

NAME.pandas.parquet comes of pandas' default writer, NAME.duckdb.parquet of DuckDB's, and
NAME.brotli.parquet is compressed by a codec that Weir does not read.
"""

import pathlib
import sys

import duckdb
import pandas

folder = pathlib.Path(sys.argv[1])
for name in ("slices", "flows"):
    path = folder / f"{name}.parquet"
    frame = pandas.read_parquet(path)
    frame.to_parquet(folder / f"{name}.pandas.parquet")
    frame.to_parquet(folder / f"{name}.brotli.parquet", compression="brotli")
    rows = duckdb.read_parquet(str(path))
    rows.write_parquet(str(folder / f"{name}.duckdb.parquet"))
