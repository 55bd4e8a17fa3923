"""The shipped model as one ONNX graph: network, trees and their calibrated fusion, in operations of fixed shape.

Inputs `steps` float32 [batch, 32, F] and `stats` float32 [batch, S], raw as `features` gives them: the normalisation is
inside. Output `probabilities` float32 [batch, 6] in the order of `flows.CLASSES`.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .events import WINDOW
from .features import STAT_NAMES, STEP_NAMES
from .flows import CLASSES
from .net import Net
from .trees import Trees

OPSET = 13


class Graph:
    """Nodes and constants of a graph under construction; `op` returns the name of its result."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype=np.float32) -> str:
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype)), name))
        return name

    def ints(self, *value) -> str:
        return self.constant(value, np.int64)

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes) -> str:
        self.count += 1
        name = name or f"x{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, x: str, layer) -> str:
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return self.op("Add", self.op("MatMul", x, self.constant(w.T)), self.constant(b))

    def cut(self, x: str, axis: int, first: int, last: int) -> str:
        return self.op("Slice", x, self.ints(first), self.ints(last), self.ints(axis))


def _net(g: Graph, net: Net) -> str:
    """The network's class probabilities [batch, 6]."""
    valid = g.cut("steps", 2, 0, 1)
    x = g.op("Mul", g.op("Relu", g.linear("steps", net.step)), valid)
    padded = g.op("Pad", x, g.ints(0, 2, 0, 0, 0, 0))
    x = g.op("Concat", x, g.cut(padded, 1, 1, WINDOW + 1), g.cut(padded, 1, 0, WINDOW), axis=2)
    x = g.op("Relu", g.linear(x, net.look))
    blank = g.op("Mul", g.op("Sub", valid, g.constant(1.0)), g.constant(1e4))
    weight = g.op("Softmax", g.op("Add", g.linear(x, net.attend), blank), axis=1)
    pooled = g.op("MatMul", g.op("Transpose", weight, perm=[0, 2, 1]), x)
    width = net.look.out_features
    flat = g.op("Reshape", pooled, g.ints(-1, net.heads * width))
    last = g.op("Reshape", g.cut(x, 1, WINDOW - 1, WINDOW), g.ints(-1, width))
    h = g.op("Concat", flat, last, axis=1)
    h = g.op("Relu", g.linear(h, net.head[1]))
    return g.op("Softmax", g.linear(h, net.head[4]), axis=1)


def _trees(g: Graph, trees: Trees) -> str:
    """The trees' log odds [batch, 1]."""
    count, nodes = trees.feature.shape
    x = g.op("Gather", "stats", g.constant(trees.feature.reshape(-1), np.int64), axis=1)
    right = g.op("Greater", x, g.constant(trees.threshold.reshape(1, -1)))
    left = g.op("Sub", g.constant(1.0), g.op("Cast", right, to=TensorProto.FLOAT))
    left = g.op("Transpose", g.op("Reshape", left, g.ints(-1, count, nodes)), perm=[1, 0, 2])
    reached = g.op("MatMul", left, g.constant(trees.path))
    reached = g.op("Relu", g.op("Sub", reached, g.constant(trees.lefts[:, None, :] - 1.0)))
    each = g.op("MatMul", reached, g.constant(trees.value[:, :, None]))
    return g.op("ReduceSum", each, g.ints(0), keepdims=0)


def build(net: Net, trees: Trees, fusion: tuple[float, float, float]) -> onnx.ModelProto:
    """One graph: log odds of c2 or exfil = a trees + b network + c; the network shares out what is left among the classes."""
    a, b, c = fusion
    g = Graph()
    p = _net(g, net)
    hostile = np.array([[0, 1, 1, 0, 0, 0]], np.float32)
    bound = lambda x: g.op("Clip", x, g.constant(1e-6), g.constant(1.0))
    mine = bound(g.op("MatMul", p, g.constant(hostile.T)))
    rest = bound(g.op("MatMul", p, g.constant(1 - hostile.T)))
    odds = g.op("Sub", g.op("Log", mine), g.op("Log", rest))
    logit = g.op(
        "Add",
        g.op("Mul", _trees(g, trees), g.constant(a)),
        g.op("Add", g.op("Mul", odds, g.constant(b)), g.constant(c)),
    )
    score = g.op("Sigmoid", logit)
    up = g.op("MatMul", g.op("Div", score, mine), g.constant(hostile))
    down = g.op("MatMul", g.op("Div", g.op("Sub", g.constant(1.0), score), rest), g.constant(1 - hostile))
    shared = g.op("Mul", p, g.op("Add", up, down))
    g.op("Div", shared, g.op("MatMul", shared, g.constant(np.ones((len(CLASSES), 1)))), name="probabilities")
    batch = "batch"
    graph = helper.make_graph(
        g.nodes,
        "weir",
        [
            helper.make_tensor_value_info("steps", TensorProto.FLOAT, [batch, WINDOW, len(STEP_NAMES)]),
            helper.make_tensor_value_info("stats", TensorProto.FLOAT, [batch, len(STAT_NAMES)]),
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, len(CLASSES)])],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="weir", ir_version=8)
    onnx.checker.check_model(model)
    return model


def fuse(raw: np.ndarray, p: np.ndarray, fusion: tuple[float, float, float]) -> np.ndarray:
    """The graph's result, from the trees' log odds and the network's probabilities [n, 6]: the twin that tests compare."""
    a, b, c = fusion
    mine, rest = np.clip(p[:, 1] + p[:, 2], 1e-6, 1), np.clip(1 - p[:, 1] - p[:, 2], 1e-6, 1)
    s = 1 / (1 + np.exp(-(a * raw + b * (np.log(mine) - np.log(rest)) + c)))
    out = p * np.where(np.isin(np.arange(6), (1, 2)), (s / mine)[:, None], ((1 - s) / rest)[:, None])
    return out / out.sum(1, keepdims=True)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
