"""Hand-made graphs: subgraphs, local functions, and the odd ways in which files are put together."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from ..graph import Graph
from ..inputs import floats
from ..registry import handmade


@handmade("hand_if", tags=("control-flow",), x=floats(1, 3, 6, 6))
def if_net(g: Graph, x: str) -> str:
    """Both branches of an If read a feature map from outside; each has weights of its own."""
    y = g.op("Relu", g.conv(x, 3, 14))
    condition = g.op("Squeeze", g.op("Greater", g.op("ReduceMean", x, keepdims=0), g.const(0.0)))
    branches = []
    for width in (10, 18):
        inner = g.nested()
        out = inner.conv(inner.op("Relu", inner.conv(y, 14, width)), width, 16)
        branches.append(helper.make_graph(inner.nodes, f"branch{width}", [], [g.state(out, [1, 16, 6, 6])]))
    z = g.op("If", condition, then_branch=branches[0], else_branch=branches[1])
    return g.classify(g.op("Relu", g.conv(g.op("Relu", z), 16, 20)), 20)


@handmade("hand_if_aside", tags=("control-flow",), x=floats(1, 3, 6, 6))
def if_aside(g: Graph, x: str) -> str:
    """An If on scalars beside a network that has nothing to do with it."""
    mean = g.op("ReduceMean", x, keepdims=0)
    branches = []
    for value in (0.5, 2.0):
        inner = g.nested()
        out = inner.op("Mul", mean, inner.const(value))
        branches.append(helper.make_graph(inner.nodes, f"branch{value:.0f}", [], [g.state(out, [])]))
    factor = g.op("If", g.op("Greater", mean, g.const(0.0)), then_branch=branches[0], else_branch=branches[1])
    y = g.op("Relu", g.conv(g.op("Relu", g.conv(x, 3, 14)), 14, 20))
    return g.op("Mul", g.classify(y, 20), g.op("Add", factor, g.const(1.0)))


@handmade("hand_loop", tags=("control-flow",), x=floats(2, 12))
def loop_net(g: Graph, x: str) -> str:
    """A Loop refines a state with weights from outside; every step's state is scanned out."""
    state = g.op("Relu", g.linear(x, 12, 16))
    inner = g.nested()
    old = "state_in"
    step = inner.op("Tanh", inner.linear(inner.op("Relu", inner.linear(old, 16, 22)), 22, 16))
    new = inner.op("Add", old, step)
    seen = inner.op("Identity", new)
    go = inner.op("Identity", "go_in")
    body = helper.make_graph(
        inner.nodes, "body",
        [g.state("i", [], TensorProto.INT64), g.state("go_in", [], TensorProto.BOOL), g.state(old, [2, 16])],
        [g.state(go, [], TensorProto.BOOL), g.state(new, [2, 16]), g.state(seen, [2, 16])],
    )  # fmt: skip
    last, every = g.ops("Loop", g.const(3), g.const(True), state, count=2, body=body)
    y = g.op("Add", last, g.op("ReduceMean", every, axes=[0], keepdims=0))
    return g.linear(g.op("Relu", g.linear(y, 16, 18)), 18, 5)


@handmade("hand_scan", tags=("control-flow",), x=floats(5, 2, 12))
def scan_net(g: Graph, x: str) -> str:
    """A Scan over time with a recurrent body, between two layers."""
    y = g.op("Relu", g.matmul(x, 12, 16))
    inner = g.nested()
    mixed = inner.op("Add", inner.matmul("h_in", 14, 14), inner.matmul("x_in", 16, 14))
    h = inner.op("Tanh", mixed)
    out = inner.op("Identity", h)
    body = helper.make_graph(
        inner.nodes, "body",
        [g.state("h_in", [2, 14]), g.state("x_in", [2, 16])],
        [g.state(h, [2, 14]), g.state(out, [2, 14])],
    )  # fmt: skip
    start = g.const(np.full((2, 14), 0.1))
    _, states = g.ops("Scan", start, y, count=2, body=body, num_scan_inputs=1)
    return g.matmul(g.op("Relu", g.matmul(states, 14, 18)), 18, 5)


@handmade("hand_function", opset=18, x=floats(2, 3, 6, 6))
def function_net(g: Graph, x: str) -> str:
    """A local function (x * sigmoid(x) with an attribute, and a nested one) called with different widths."""
    g.domains["zoo"] = 1
    opsets = [helper.make_opsetid("", g.opset), helper.make_opsetid("zoo", 1)]
    scaled = helper.make_node("Constant", [], ["b"])
    scaled.attribute.add(name="value_float", ref_attr_name="beta", type=1)
    nodes = [
        scaled,
        helper.make_node("Mul", ["x", "b"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["g"]),
        helper.make_node("Mul", ["x", "g"], ["y"]),
    ]
    g.functions.append(helper.make_function("zoo", "Gate", ["x"], ["y"], nodes, opsets, ["beta"]))
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Gate", ["c"], ["y"], domain="zoo", beta=1.5),
    ]
    g.functions.append(helper.make_function("zoo", "Block", ["x", "w", "b"], ["y"], nodes, opsets))
    y, inside = x, 3
    for width in (14, 20):
        y = g.op("Block", y, g.weight(width, inside, 3, 3), g.vector(width), domain="zoo")
        g.known.append(g.state(y, [2, width, 6, 6]))
        inside = width
    y = g.op("Gate", g.conv(y, 20, 16), domain="zoo", beta=1.0)
    g.known.append(g.state(y, [2, 16, 6, 6]))
    return g.classify(y, 16)


@handmade("hand_initializer_inputs", x=floats(2, 3, 6, 6))
def initializer_inputs(g: Graph, x: str) -> str:
    """Every weight is listed among the graph's inputs, too, as old exporters did."""
    y = g.op("Relu", g.conv(x, 3, 14))
    y = g.op("Relu", g.conv(g.op("Add", y, g.conv(y, 14, 14)), 14, 20))
    y = g.classify(y, 20)
    for constant in g.constants:
        g.inputs.append(g.state(constant.name, list(constant.dims), constant.data_type))
    return y


@handmade("hand_shared_constants", x=floats(1, 3, 6, 6))
def shared_constants(g: Graph, x: str) -> str:
    """Unrelated layers of equal width share one bias, one scale and one slope, as after removing duplicates."""
    bias, scale, slope = g.vector(16), g.scale(16, 1, 1), g.const(np.full((16, 1, 1), 0.2))

    def layer(y: str, inside: int) -> str:
        y = g.op("Conv", y, g.weight(16, inside, 3, 3), bias, pads=[1] * 4)
        return g.op("PRelu", g.op("Mul", y, scale), slope)

    y = layer(x, 3)
    z = layer(g.op("Relu", g.conv(y, 16, 22)), 22)
    y = layer(g.op("Concat", y, z, axis=1), 32)
    return g.classify(y, 16)


@handmade("hand_weight_read_twice", x=floats(2, 14))
def weight_read_twice(g: Graph, x: str) -> str:
    """One matrix in Gemm as it is, transposed, in MatMul, as rows of an embedding, and squared element by element."""
    weight = g.weight(22, 14)
    y = g.op("Relu", g.op("Gemm", x, weight, g.vector(22), transB=1))
    z = g.op("Tanh", g.op("MatMul", y, weight))
    z = g.op("Relu", g.op("MatMul", z, g.op("Transpose", weight)))
    row = g.op("Gather", weight, g.op("ArgMax", y, axis=1, keepdims=0), axis=0)
    energy = g.op("Sqrt", g.op("ReduceSum", g.op("Mul", weight, weight), g.const([0]), keepdims=0))
    y = g.op("Concat", g.linear(z, 22, 10), g.op("Mul", row, energy), axis=1)
    return g.linear(g.op("Relu", y), 24, 5)


@handmade("hand_scale_from_shape", x=floats("batch", 6, 12))
def scale_from_shape(g: Graph, x: str) -> str:
    """Attention whose scale is computed from the width that Shape reports: pruning must not change it."""
    h = g.op("Relu", g.matmul(x, 12, 20))

    def heads(y: str, count: int) -> str:
        return g.op("Transpose", g.op("Reshape", y, g.const([0, 6, count, 8])), perm=[0, 2, 1, 3])

    q, k, v = (heads(g.matmul(h, 20, 32), 4) for _ in range(3))
    width = g.op("Cast", g.op("Gather", g.op("Shape", q), g.const(3)), to=1)
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
    weights = g.op("Softmax", g.op("Div", scores, g.op("Sqrt", width)), axis=-1)
    y = g.op("Transpose", g.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    batch = g.op("Slice", g.op("Shape", x), g.const([0]), g.const([1]))
    y = g.op("Reshape", y, g.op("Concat", batch, g.const([6]), g.const([-1]), axis=0))
    channels = g.op("Cast", g.op("Gather", g.op("Shape", h), g.const(-1)), to=1)
    y = g.op("Add", g.matmul(y, 32, 20), g.op("Div", h, channels))
    return g.matmul(g.op("ReduceMean", y, axes=[1], keepdims=0), 20, 5)


@handmade("hand_shape_arithmetic", x=floats("batch", 3, "height", "width"))
def shape_arithmetic(g: Graph, x: str) -> str:
    """Everything but the channels is symbolic; shapes are taken apart, halved, joined and reshaped to."""
    y = g.op("Relu", g.conv(x, 3, 24))
    shape = g.op("Shape", y)
    batch, channels, height, width = (g.op("Gather", shape, g.const([i])) for i in range(4))
    group = g.op("Div", channels, g.const([2]))
    y = g.op("Reshape", y, g.op("Concat", batch, g.const([2]), group, height, width, axis=0))
    y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3, 4]), shape)
    y = g.op("Relu", g.conv(y, 24, 18))
    area = g.op("Mul", height, width)
    y = g.op("Reshape", y, g.op("Concat", batch, g.const([18]), area, axis=0))
    y = g.op("ReduceMean", y, axes=[2], keepdims=0)
    return g.matmul(g.op("Add", y, g.op("ConstantOfShape", g.op("Shape", y))), 18, 5)


@handmade("hand_channels_last", x=floats(2, 8, 8, 3))
def channels_last(g: Graph, x: str) -> str:
    """As TensorFlow exports look: NHWC outside, transposes around convolutions, normalization as Mul and Add."""

    def conv(y: str, inside: int, out: int, stride: int = 1) -> str:
        y = g.op("Transpose", y, perm=[0, 3, 1, 2])
        weight, pads = g.weight(out, inside, 3, 3), [0, 0, 1, 1] if stride == 2 else [1] * 4
        y = g.op("Transpose", g.op("Conv", y, weight, strides=[stride] * 2, pads=pads), perm=[0, 2, 3, 1])
        return g.op("Add", g.op("Mul", y, g.scale(out)), g.vector(out))

    y = g.op("Relu", conv(x, 3, 14, 2))
    y = g.op("Relu", g.op("Add", y, conv(g.op("Relu", conv(y, 14, 20)), 20, 14)))
    y = g.op("Concat", y, g.op("Relu", conv(y, 14, 10)), axis=3)
    gate = g.op("Sigmoid", g.matmul(g.op("ReduceMean", y, axes=[1, 2], keepdims=1), 24, 24))
    y = g.op("ReduceMean", g.op("Mul", y, gate), axes=[1, 2], keepdims=0)
    return g.matmul(y, 24, 5)


@handmade("hand_passed_through", x=floats(2, 3, 6, 6), y=floats(2, 16))
def passed_through(g: Graph, x: str, y: str) -> tuple[str, ...]:
    """Outputs that are an input, a weight, an inner tensor and a plain result."""
    table = g.vector(16)
    inner = g.op("Relu", g.conv(x, 3, 14))
    z = g.op("Add", g.classify(g.conv(inner, 14, 20), 20, 16), g.op("Mul", y, table))
    return g.linear(g.op("Relu", g.linear(z, 16, 18)), 18, 5), g.op("Identity", y), inner, g.op("Identity", table)


@handmade("hand_dead_ends", x=floats(2, 3, 6, 6))
def dead_ends(g: Graph, x: str) -> str:
    """Nodes and weights that lead nowhere, and split parts that nobody reads."""
    y = g.op("Relu", g.conv(x, 3, 18))
    g.op("Softmax", g.conv(y, 18, 18), axis=1)
    g.vector(7)
    a, _, b = g.ops("Split", y, g.const([6, 5, 7]), count=3, axis=1)
    y = g.conv(g.op("Concat", a, b, axis=1), 13, 16)
    return g.classify(g.op("Relu", y), 16)


@handmade("hand_one_channel", x=floats(2, 1, 6, 6))
def one_channel(g: Graph, x: str) -> str:
    """Widths of one everywhere except in two places."""
    y = g.op("Sigmoid", g.conv(x, 1, 1))
    y = g.op("Relu", g.conv(g.op("Mul", g.conv(y, 1, 18), y), 18, 12))
    return g.classify(g.op("Add", g.conv(y, 12, 1), x), 1, 3)
