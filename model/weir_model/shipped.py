"""The shipped ONNX file, run by onnxruntime on one core."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime

from .features import features, ordinals, scoring_windows
from .flows import Flows

FILE = Path(__file__).resolve().parents[1] / "weir.onnx"


class Model:
    """The shipped ONNX file."""

    def __init__(self, path: Path = FILE):
        persistence = json.loads(path.with_suffix(".json").read_text())["persistence"]
        self.more = lambda number: persistence["log_odds"] * np.log(np.minimum(number, persistence["windows"]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, steps, stats) -> np.ndarray:
        run = lambda i: self.session.run(None, {"steps": steps[i : i + 4096], "stats": stats[i : i + 4096]})[0]
        return (
            np.concatenate([run(i) for i in range(0, len(stats), 4096)]) if len(stats) else np.zeros((0, 6), np.float32)
        )

    def persisted(self, p: np.ndarray, number: np.ndarray) -> np.ndarray:
        """The probabilities of windows of these numbers among their pair's, from 1 (FEATURES.md, section 7)."""
        score = np.clip(p[:, 1] + p[:, 2], 1e-6, 1 - 1e-6).astype(float)
        raised = 1 / (1 + np.exp(-(np.log(score / (1 - score)) + self.more(number))))
        hostile = np.isin(np.arange(p.shape[1]), (1, 2))
        return p * np.where(hostile, (raised / score)[:, None], ((1 - raised) / (1 - score))[:, None])

    def pairs(self, flows: Flows) -> np.ndarray:
        """Of each pair the largest score (c2 or exfil) of its windows; 0 for pairs that vanished."""
        w = scoring_windows(flows)
        p = self.persisted(self(*features(flows, w)), ordinals(w))
        out = np.zeros(int(flows.seq.max()) + 1)
        np.maximum.at(out, w.seq, (p[:, 1] + p[:, 2]).astype(float))
        return out
