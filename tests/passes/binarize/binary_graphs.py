"""Networks of signs to draw from: every number in them is a small multiple of a power of two, so that floats are exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model


@dataclass
class Graph:
    """Nodes and constants of a network under construction; those that are not ``plain`` are any floats."""

    rng: np.random.Generator
    plain: bool = True
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    serial: int = 0

    def name(self, stem: str) -> str:
        self.serial += 1
        return f"{stem}_{self.serial}"

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = self.name("c")
        if not self.plain and np.ndim(value) and np.asarray(value).dtype == np.float32:
            value = np.asarray(value) * self.rng.uniform(0.7, 1.3, np.shape(value)[:1] + (1,) * (np.ndim(value) - 1))
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        out = self.name(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [out], out, **attributes))
        return out

    def model(self, shape: list[int | str], output: str, opset: int = 17) -> Model:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        return from_proto(proto)


Sign = Callable[[Graph, str], str]


def _where_at_least(g: Graph, x: str) -> str:
    return g.node("Where", g.node("GreaterOrEqual", x, g.constant(0)), g.constant(1), g.constant(-1))


def _where_below(g: Graph, x: str) -> str:
    return g.node("Where", g.node("Less", x, g.constant(0)), g.constant(-1), g.constant(1))


def _twice_minus_one(g: Graph, x: str) -> str:
    truth = g.node("Cast", g.node("GreaterOrEqual", x, g.constant(0)), to=TensorProto.FLOAT)
    return g.node("Sub", g.node("Mul", truth, g.constant(2)), g.constant(1))


def _sign_of_sign(g: Graph, x: str) -> str:
    """Larq's: the sign of the sign and a little."""
    return g.node("Sign", g.node("Add", g.node("Sign", x), g.constant(0.125)))


def _clipped(g: Graph, x: str) -> str:
    return g.node("Clip", _where_at_least(g, x), g.constant(-1), g.constant(1))


def _zero_repaired(g: Graph, x: str) -> str:
    """PyTorch code that mends sign(0)."""
    zero = g.node("Equal", x, g.constant(0))
    return g.node("Where", zero, g.constant(1), g.node("Sign", x))


def _straight_through(g: Graph, x: str) -> str:
    """(sign - clip) + clip: the sign, with the gradient of the clip."""
    near = g.node("Clip", x, g.constant(-1), g.constant(1))
    return g.node("Add", g.node("Sub", _where_at_least(g, x), near), near)


def _not_less(g: Graph, x: str) -> str:
    """Brevitas: 2 (x >= 0) - 1 as a chain of logic."""
    truth = g.node("Not", g.node("Less", x, g.constant(0)))
    plus = g.node("Cast", truth, to=TensorProto.FLOAT)
    return g.node("Add", g.node("Mul", plus, g.constant(2)), g.constant(-1))


SIGNS: Mapping[str, Sign] = {
    "where_at_least": _where_at_least,
    "where_below": _where_below,
    "twice_minus_one": _twice_minus_one,
    "sign_of_sign": _sign_of_sign,
    "clipped": _clipped,
    "zero_repaired": _zero_repaired,
    "straight_through": _straight_through,
    "not_less": _not_less,
}


def falling(g: Graph, x: str) -> str:
    """-1 where x is positive."""
    return g.node("Where", g.node("Greater", x, g.constant(0)), g.constant(-1), g.constant(1))


def zero_or_one(g: Graph, x: str) -> str:
    """DoReFa's activations of one bit."""
    return g.node("Cast", g.node("GreaterOrEqual", x, g.constant(0)), to=TensorProto.FLOAT)


def small(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Multiples of 1/4 between -2 and 2."""
    return rng.integers(-8, 9, shape).astype(np.float32) / 4


def scales(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.choice(np.array([-2, -1, -0.5, 0, 0.5, 1, 2], np.float32), shape)


def signs(rng: np.random.Generator, *shape: int, ternary: bool = False) -> np.ndarray:
    return rng.choice(np.array([-1, 0, 1] if ternary else [-1, 1], np.float32), shape)


def _batch_norm(g: Graph, x: str, channels: int) -> str:
    parts = (scales(g.rng, channels), small(g.rng, channels), small(g.rng, channels), np.full(channels, 4))
    return g.node("BatchNormalization", x, *(g.constant(p) for p in parts), epsilon=0.0)


def _per_channel(op: str, values: Callable[..., np.ndarray]) -> Callable[[Graph, str, int], str]:
    return lambda g, x, channels: g.node(op, x, g.constant(values(g.rng, channels, 1, 1)))


STEPS: Mapping[str, Callable[[Graph, str, int], str]] = {
    "BatchNormalization": _batch_norm,
    "Add": _per_channel("Add", small),
    "Sub": _per_channel("Sub", small),
    "Mul": _per_channel("Mul", scales),
    "Div": lambda g, x, channels: g.node("Div", x, g.constant(2)),
    "PRelu": _per_channel("PRelu", scales),
    "Relu": lambda g, x, channels: g.node("Relu", x),
    "Clip": lambda g, x, channels: g.node("Clip", x, g.constant(-3), g.constant(3)),
    "LeakyRelu": lambda g, x, channels: g.node("LeakyRelu", x, alpha=0.25),
    "Neg": lambda g, x, channels: g.node("Neg", x),
    "Tanh": lambda g, x, channels: g.node("Tanh", x),
}


_FLOATS = ("Where", "Conv", "Add", "MaxPool", *STEPS)
SIZE = 21
"""Height and width of the input: three blocks leave some of it."""


@dataclass(frozen=True)
class Net:
    """A drawn network, an input for it, and how many of its layers are made of signs."""

    model: Model = field(repr=False)
    x: np.ndarray = field(repr=False)
    layers: int
    operators: str


def _weights(draw: Any, g: Graph, rows: np.ndarray) -> str:
    """Signs as a constant, scaled, or worked out in the graph as training code does."""
    kind = draw(st.sampled_from(["plain", "scaled", "where", "sign", "straight", "int8"]))
    scale = 2.0 ** g.rng.integers(-2, 3, (len(rows), *[1] * (rows.ndim - 1))).astype(np.float32)
    if kind == "plain":
        return g.constant(rows)
    if kind == "scaled":
        return g.constant(rows * scale)
    if kind == "int8":
        return g.node("Cast", g.constant(rows, np.int8), to=TensorProto.FLOAT)
    real = g.constant(rows * g.rng.choice(np.array([0.25, 0.5, 0.75], np.float32), rows.shape))
    if kind == "straight":
        near = g.node("Clip", real, g.constant(-1), g.constant(1))
        return g.node("Add", g.node("Sub", g.node("Sign", real), near), near)
    if kind == "sign" or (rows == 0).any():
        return g.node("Mul", g.node("Sign", real), g.constant(scale))
    return g.node("Mul", _where_at_least(g, real), g.constant(scale))


@st.composite
def nets(draw: Any, plain: bool = True) -> Net:
    """Convolutions of signs, with all that may stand between and beside them."""
    g = Graph(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), plain)
    channels = draw(st.sampled_from([3, 8, 16, 33]))
    start, x = channels, "x"
    count = draw(st.integers(1, 3))
    for _ in range(count):
        x, channels = _block(draw, g, x, channels)
    x = g.node("Identity", x)
    inputs = g.rng.integers(-16, 17, (2, start, SIZE, SIZE)).astype(np.float32) / 8
    if not plain:
        inputs += g.rng.standard_normal(inputs.shape).astype(np.float32)
    model = g.model(["N", start, SIZE, SIZE], x)
    inner = [
        n.output[0] for n in model.graph.node if n.op_type in _FLOATS and n.output[0] != model.graph.output[0].name
    ]
    for name in draw(st.lists(st.sampled_from(inner), max_size=2, unique=True)) if draw(st.booleans()) else []:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return Net(model, inputs, count, " ".join(n.op_type for n in model.graph.node))


def _block(draw: Any, g: Graph, x: str, channels: int) -> tuple[str, int]:
    before = x
    if draw(st.booleans()):
        x = g.node("Add", x, g.constant(small(g.rng, channels, 1, 1)))
    for step in draw(st.lists(st.sampled_from(sorted({*STEPS} - {"Tanh", "PRelu", "Neg"})), max_size=1)):
        x = STEPS[step](g, x, channels)
    form = SIGNS[draw(st.sampled_from(sorted(SIGNS)))]
    pool_first, pool_last = draw(st.sampled_from([(False, False), (False, False), (True, False), (False, True)]))
    if pool_first:
        x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1])
        x = _batch_norm(g, x, channels) if draw(st.booleans()) else x
    x = form(g, x)
    if pool_last:
        x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    border = draw(st.sampled_from([None, None, -1.0, 0.0, 1.0]))
    if border is not None:
        pads = g.constant([0, 0, 1, 0, 0, 0, 1, 2], np.int64)
        x = g.node("Pad", x, pads, g.constant(border))
    groups = draw(st.sampled_from([1, 1, channels])) if channels % 2 else draw(st.sampled_from([1, 2]))
    outputs = draw(st.sampled_from([5, 8, 32])) if groups == 1 else 2 * channels
    kernel = draw(st.sampled_from([(3, 3)] if groups == channels else [(3, 3), (3, 2), (5, 1)]))
    rows = signs(g.rng, outputs, channels // groups, *kernel, ternary=draw(st.booleans()) and draw(st.booleans()))
    weight = _weights(draw, g, rows)
    bias = [g.constant(small(g.rng, outputs))] if draw(st.booleans()) else []
    around = [draw(st.integers(0, 1)) if border is None else 0 for _ in range(4)]
    x = g.node(
        "Conv",
        x,
        weight,
        *bias,
        pads=around,
        strides=[draw(st.integers(1, 2)) if before == "x" else 1, 1],
        dilations=[1, draw(st.integers(1, 2))],
        group=groups,
    )
    for step in draw(st.lists(st.sampled_from(sorted(STEPS)), max_size=3)):
        x = STEPS[step](g, x, outputs)
    if draw(st.booleans()) and outputs == channels:
        x = g.node("Add", x, g.node("GlobalMaxPool", before))
    return x, outputs
