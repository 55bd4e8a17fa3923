"""`weir score` against this code, over the recorded captures: two implementations, one score for each pair."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))

import numpy as np
import pandas as pd
import pytest

from weir_model import data
from weir_model.shipped import Model


def weir() -> Path:
    """The binary that was built last."""
    built = [path for path in (HERE.parent / "target").glob("*/weir") if path.is_file()]
    if not built:
        pytest.skip("no binary: make build")
    return max(built, key=lambda path: path.stat().st_mtime)


def test_weir_scores_every_pair_as_python_does(tmp_path):
    out = tmp_path / "scores.parquet"
    files = sorted(data.CAPTURES.glob("flows-*.parquet"))
    subprocess.run([weir(), "--quiet", "score", *files, "-o", out], check=True)
    rows = pd.read_parquet(out)
    rows["pair"] = [tuple(sorted(pair)) for pair in zip(rows.src_ip, rows.dest_ip)]
    of_weir = rows.groupby(["scenario", "pair"]).score.max().to_numpy()

    of_python = Model().pairs(data.captured().flows)
    assert len(of_weir) == len(of_python) > 200
    assert np.abs(np.sort(of_weir) - np.sort(of_python)).max() < 1e-4
