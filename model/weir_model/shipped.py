"""The shipped ONNX file, run by onnxruntime on one core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from .features import features, scoring_windows
from .flows import Flows

FILE = Path(__file__).resolve().parents[1] / "weir.onnx"


class Model:
    """The shipped ONNX file."""

    def __init__(self, path: Path = FILE):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, steps, stats) -> np.ndarray:
        run = lambda i: self.session.run(None, {"steps": steps[i : i + 4096], "stats": stats[i : i + 4096]})[0]
        return (
            np.concatenate([run(i) for i in range(0, len(stats), 4096)]) if len(stats) else np.zeros((0, 6), np.float32)
        )

    def pairs(self, flows: Flows) -> np.ndarray:
        """Of each pair the largest score (c2 or exfil) of its windows; 0 for pairs that vanished."""
        w = scoring_windows(flows)
        p = self(*features(flows, w))
        out = np.zeros(int(flows.seq.max()) + 1)
        np.maximum.at(out, w.seq, (p[:, 1] + p[:, 2]).astype(float))
        return out
