"""Readings of TFLite operators, one small function each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from onnx import helper

from ...graph.registry import registers
from .graph import Graph, Order, Unread, channels_first, plain
from .parse import Op

Reading = Callable[[Op, Graph], None]
TABLE: dict[str, Reading] = {}
reads = registers(TABLE)

ALIKE: Mapping[str, str] = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "RELU": "Relu",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}
PAIRS: Mapping[str, str] = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
    "EQUAL": "Equal",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
    "FLOOR_MOD": "Mod",
}
REDUCTIONS: Mapping[str, str] = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}


def _alike(name: str, op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit(name, [x]), order)


def _together(numbers: tuple[int, ...], graph: Graph) -> Order | None:
    """The order of the largest of the operands that are computed; None where ranks differ too much for one."""
    rank = max(len(graph.shape(n)) for n in numbers)
    held = [
        (np.prod(graph.shape(n)), -k, graph.held(n)[1])
        for k, n in enumerate(numbers)
        if graph.tensor(n).data is None and len(graph.shape(n)) == rank
    ]
    return max(held)[2] if held else None


def _stretched(number: int, order: Order, graph: Graph) -> str:
    """An operand of a lower rank with axes in front, then in an order."""
    shape, missing = graph.shape(number), len(order) - len(graph.shape(number))
    if not missing:
        return graph.read(number, order)
    if order == plain(len(order)) or not shape:
        return graph.read(number)
    full = (1,) * missing + shape
    return graph.ordered(graph.emit("Reshape", [graph.read(number), graph.ints(full)]), plain(len(full)), order)


def _pairs(name: str, op: Op, graph: Graph) -> None:
    order = _together(op.inputs, graph) or plain(len(graph.shape(op.outputs[0])))
    x, y = (_stretched(n, order, graph) for n in op.inputs)
    graph.give(op.outputs[0], graph.act(op, graph.emit(name, [x, y])), order)


def _reduction(name: str, op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    rank = len(order)
    axes = [int(a) % rank for a in graph.known(op.inputs[1]).reshape(-1)]
    at = graph.ints([order.index(a) for a in axes])
    made = graph.emit(name, [x, at], keepdims=1)
    if op.options.get("keepDims"):
        return graph.give(op.outputs[0], made, order)
    kept = [a for a in order if a not in axes]
    ranks = {a: k for k, a in enumerate(sorted(kept))}
    squeezed = graph.emit("Squeeze", [made, at])
    graph.give(op.outputs[0], squeezed, tuple(ranks[a] for a in kept))
    return None


for _code, _name in ALIKE.items():
    reads(_code)(partial(_alike, _name))
for _code, _name in PAIRS.items():
    reads(_code)(partial(_pairs, _name))
for _code, _name in REDUCTIONS.items():
    reads(_code)(partial(_reduction, _name))


def _padding(op: Op, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[dict[str, Any], list[int]]:
    """Attributes of a window over two axes, and its dilations."""
    strides = [op.options["strideH"], op.options["strideW"]]
    gaps = [op.options.get("dilationHFactor", 1), op.options.get("dilationWFactor", 1)]
    if min(*strides, *gaps, *kernel) < 1:
        raise Unread("its strides or its window are not positive")
    pads = [0, 0, 0, 0]
    if op.options["padding"] == 0:
        for k in range(2):
            span = (kernel[k] - 1) * gaps[k] + 1
            total = max(0, (-(-size[k] // strides[k]) - 1) * strides[k] + span - size[k])
            pads[k], pads[k + 2] = total // 2, total - total // 2
    return {"strides": strides, "pads": pads, "kernel_shape": list(kernel)}, gaps


def _images(op: Op, number: int, graph: Graph) -> tuple[str, tuple[int, ...]]:
    """An operand with channels first, and its two lengths."""
    shape = graph.shape(number)
    if len(shape) != 4:
        raise Unread(f"its input has {len(shape)} axes")
    return graph.read(number, channels_first(4)), shape[1:3]


def _bias(op: Op, place: int, graph: Graph) -> list[str]:
    return [graph.read(op.inputs[place])] if len(op.inputs) > place and op.inputs[place] >= 0 else []


@reads("CONV_2D")
def conv(op: Op, graph: Graph) -> None:
    x, size = _images(op, op.inputs[0], graph)
    _, high, wide, deep = graph.shape(op.inputs[1])
    attributes, gaps = _padding(op, size, (high, wide))
    group = graph.shape(op.inputs[0])[3] // deep
    operands = [x, graph.read(op.inputs[1], (0, 3, 1, 2)), *_bias(op, 2, graph)]
    made = graph.emit("Conv", operands, dilations=gaps, group=group, **attributes)
    graph.give(op.outputs[0], graph.act(op, made), channels_first(4))


@reads("DEPTHWISE_CONV_2D")
def depthwise(op: Op, graph: Graph) -> None:
    x, size = _images(op, op.inputs[0], graph)
    _, high, wide, _ = graph.shape(op.inputs[1])
    attributes, gaps = _padding(op, size, (high, wide))
    operands = [x, graph.read(op.inputs[1], (3, 0, 1, 2)), *_bias(op, 2, graph)]
    group = graph.shape(op.inputs[0])[3]
    made = graph.emit("Conv", operands, dilations=gaps, group=group, **attributes)
    graph.give(op.outputs[0], graph.act(op, made), channels_first(4))


@reads("TRANSPOSE_CONV")
def transposed(op: Op, graph: Graph) -> None:
    """What padding leaves of the whole output follows from its shape."""
    x, size = _images(op, op.inputs[2], graph)
    kernel, strides = graph.shape(op.inputs[1])[1:3], [op.options["strideH"], op.options["strideW"]]
    out = graph.shape(op.outputs[0])[1:3]
    full = [(n - 1) * s + k for n, s, k in zip(size, strides, kernel, strict=True)]
    total = [max(0, f - o) for f, o in zip(full, out, strict=True)]
    begins = [t // 2 for t in total]
    ends = [t - b for t, b in zip(total, begins, strict=True)]
    extra = [max(0, o - f) for f, o in zip(full, out, strict=True)]
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        raise Unread("its output is larger than its windows reach")
    operands = [x, graph.read(op.inputs[1], (3, 0, 1, 2)), *_bias(op, 3, graph)]
    made = graph.emit("ConvTranspose", operands, strides=strides, pads=[*begins, *ends], output_padding=extra)
    graph.give(op.outputs[0], graph.act(op, made), channels_first(4))


@reads("MAX_POOL_2D")
def max_pool(op: Op, graph: Graph) -> None:
    _pool("MaxPool", op, graph)


@reads("AVERAGE_POOL_2D")
def average_pool(op: Op, graph: Graph) -> None:
    _pool("AveragePool", op, graph)


def _pool(name: str, op: Op, graph: Graph) -> None:
    x, size = _images(op, op.inputs[0], graph)
    attributes, _ = _padding(op, size, (op.options["filterHeight"], op.options["filterWidth"]))
    graph.give(op.outputs[0], graph.act(op, graph.emit(name, [x], **attributes)), channels_first(4))


@reads("FULLY_CONNECTED")
def connected(op: Op, graph: Graph) -> None:
    """Shapes: x (..., K), weight (N, K)."""
    if op.options.get("weightsFormat", 0):
        raise Unread("its weights are shuffled")
    shape, width = graph.shape(op.inputs[0]), graph.shape(op.inputs[1])
    x = graph.read(op.inputs[0])
    if len(shape) != 2 and not op.options.get("keepNumDims"):
        rows = int(np.prod(shape)) // width[1]
        x, shape = graph.reshape(x, (rows, width[1]), shape), (rows, width[1])
    bias = _bias(op, 2, graph)
    if len(shape) == 2:
        made = graph.emit("Gemm", [x, graph.read(op.inputs[1]), *bias], transB=1)
    else:
        made = graph.emit("MatMul", [x, graph.read(op.inputs[1], (1, 0))])
        made = graph.emit("Add", [made, *bias]) if bias else made
    graph.give(op.outputs[0], graph.act(op, made))


@reads("BATCH_MATMUL")
def matmul(op: Op, graph: Graph) -> None:
    sides = []
    for number, turned in zip(op.inputs, (op.options["adjX"], op.options["adjY"]), strict=True):
        rank = len(graph.shape(number))
        order = (*range(rank - 2), rank - 1, rank - 2) if turned else plain(rank)
        sides.append(graph.read(number, order))
    graph.give(op.outputs[0], graph.emit("MatMul", sides))


@reads("CONCATENATION")
def concat(op: Op, graph: Graph) -> None:
    rank = len(graph.shape(op.outputs[0]))
    order = _together(op.inputs, graph) or plain(rank)
    axis = order.index(op.options["axis"] % rank)
    made = graph.emit("Concat", [graph.read(n, order) for n in op.inputs], axis=axis)
    graph.give(op.outputs[0], graph.act(op, made), order)


@reads("SPLIT")
def split(op: Op, graph: Graph) -> None:
    _parts(op, graph, op.inputs[1], int(graph.known(op.inputs[0]).reshape(())))


@reads("SPLIT_V")
def split_v(op: Op, graph: Graph) -> None:
    _parts(op, graph, op.inputs[0], int(graph.known(op.inputs[2]).reshape(())))


def _parts(op: Op, graph: Graph, number: int, axis: int) -> None:
    x, order = graph.held(number)
    axis %= len(order)
    lengths = graph.ints([graph.shape(o)[axis] for o in op.outputs])
    made = graph.emit("Split", [x, lengths], outputs=len(op.outputs), axis=order.index(axis))
    for k, output in enumerate(op.outputs):
        graph.give(output, f"{made}:{k}" if k else made, order)


def _cut(graph: Graph, number: int, spans: list[tuple[int, int, int]]) -> tuple[str, Order]:
    """Stretches (begin, end, step) of the TFLite axes; whole axes stay, however long they are."""
    x, order = graph.held(number)
    cuts = [
        (order.index(axis), *span)
        for axis, (span, length) in enumerate(zip(spans, graph.shape(number), strict=True))
        if span != (0, length, 1)
    ]
    if not cuts:
        return x, order
    axes, begins, ends, steps = zip(*sorted(cuts), strict=True)
    return graph.emit("Slice", [x, *(graph.ints(v) for v in (begins, ends, axes, steps))]), order


@reads("SLICE")
def slice_(op: Op, graph: Graph) -> None:
    begins, sizes = (graph.known(n).reshape(-1).tolist() for n in op.inputs[1:3])
    shape = graph.shape(op.inputs[0])
    spans = [(b, n if s < 0 else b + s, 1) for b, s, n in zip(begins, sizes, shape, strict=True)]
    graph.give(op.outputs[0], *_cut(graph, op.inputs[0], spans))


@reads("STRIDED_SLICE")
def strided_slice(op: Op, graph: Graph) -> None:
    options = op.options
    if options["ellipsisMask"] or options["newAxisMask"] or options["offset"]:
        raise Unread("its masks put in axes")
    begins, ends, steps = (graph.known(n).reshape(-1).tolist() for n in op.inputs[1:4])
    spans = []
    for k, length in enumerate(graph.shape(op.inputs[0])):
        if k >= len(begins):
            spans.append((0, length, 1))
            continue
        begin = None if options["beginMask"] >> k & 1 else begins[k]
        end = None if options["endMask"] >> k & 1 else ends[k]
        if options["shrinkAxisMask"] >> k & 1:
            end = None if begin == -1 else (begin or 0) + 1
        low, high, step = slice(begin, end, steps[k]).indices(length)
        spans.append((low, high if step > 0 or high >= 0 else -(2**31), step))
    made, order = _cut(graph, op.inputs[0], spans)
    gone = [k for k in range(len(order)) if options["shrinkAxisMask"] >> k & 1]
    if gone:
        made = graph.emit("Squeeze", [made, graph.ints([order.index(a) for a in gone])])
        ranks = {a: k for k, a in enumerate(a for a in sorted(order) if a not in gone)}
        order = tuple(ranks[a] for a in order if a not in gone)
    graph.give(op.outputs[0], made, order)


@reads("GATHER")
def gather(op: Op, graph: Graph) -> None:
    if op.options.get("batchDims"):
        raise Unread("it has batch axes")
    axis = op.options["axis"] % len(graph.shape(op.inputs[0]))
    graph.give(op.outputs[0], graph.emit("Gather", [graph.read(n) for n in op.inputs], axis=axis))


@reads("GATHER_ND")
def gather_nd(op: Op, graph: Graph) -> None:
    at = graph.emit("Cast", [graph.read(op.inputs[1])], to=7)
    graph.give(op.outputs[0], graph.emit("GatherND", [graph.read(op.inputs[0]), at]))


@reads("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def reshape(op: Op, graph: Graph) -> None:
    before, after = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    if np.prod(before) != np.prod(after):
        raise Unread("its shape is known only when it runs")
    graph.give(op.outputs[0], graph.reshape(graph.read(op.inputs[0]), after, before))


@reads("TRANSPOSE")
def transpose(op: Op, graph: Graph) -> None:
    """Nothing moves: the axes get other names."""
    x, order = graph.held(op.inputs[0])
    perm = graph.known(op.inputs[1]).reshape(-1).tolist()
    graph.give(op.outputs[0], x, tuple(perm.index(axis) for axis in order))


@reads("TILE")
def tile(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    times = graph.known(op.inputs[1]).reshape(-1)
    graph.give(op.outputs[0], graph.emit("Tile", [x, graph.ints([int(times[a]) for a in order])]), order)


@reads("BROADCAST_TO")
def broadcast(op: Op, graph: Graph) -> None:
    shape = graph.ints(graph.shape(op.outputs[0]))
    graph.give(op.outputs[0], graph.emit("Expand", [graph.read(op.inputs[0]), shape]))


def _pads(op: Op, order: Order, graph: Graph) -> str:
    pairs = graph.known(op.inputs[1]).reshape(-1, 2)
    return graph.ints([int(pairs[a][k]) for k in range(2) for a in order])


@reads("PAD", "PADV2")
def pad(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    fill = [graph.emit("Reshape", [graph.read(op.inputs[2]), graph.ints([])])] if len(op.inputs) > 2 else []
    graph.give(op.outputs[0], graph.emit("Pad", [x, _pads(op, order, graph), *fill]), order)


@reads("MIRROR_PAD")
def mirror(op: Op, graph: Graph) -> None:
    if op.options["mode"]:
        raise Unread("it repeats the edge when it mirrors")
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit("Pad", [x, _pads(op, order, graph)], mode="reflect"), order)


@reads("RESIZE_BILINEAR")
def resize_linear(op: Op, graph: Graph) -> None:
    _resize(op, graph, "linear")


@reads("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest(op: Op, graph: Graph) -> None:
    _resize(op, graph, "nearest")


def _resize(op: Op, graph: Graph, mode: str) -> None:
    x, size = _images(op, op.inputs[0], graph)
    corners, halves = op.options["alignCorners"], op.options["halfPixelCenters"]
    grid = "align_corners" if corners else "half_pixel" if halves else "asymmetric"
    rounds = "floor" if grid == "asymmetric" else "round_prefer_ceil"
    out = graph.shape(op.outputs[0])[1:3]
    scales = np.array([1, 1, *(o / n for o, n in zip(out, size, strict=True))], np.float32)
    whole = [int(n * float(s)) for n, s in zip(size, scales[2:], strict=True)]
    more = [graph.constant(scales)] if whole == list(out) else ["", graph.ints(out)]
    attributes: dict[str, Any] = {} if whole == list(out) else {"axes": [2, 3]}
    nearest: dict[str, Any] = {"nearest_mode": rounds} if mode == "nearest" else {}
    made = graph.emit("Resize", [x, "", *more], mode=mode, coordinate_transformation_mode=grid, **nearest, **attributes)
    graph.give(op.outputs[0], made, channels_first(4))


@reads("DEPTH_TO_SPACE")
def depth_to_space(op: Op, graph: Graph) -> None:
    x, _ = _images(op, op.inputs[0], graph)
    graph.give(op.outputs[0], graph.emit("DepthToSpace", [x], blocksize=op.options["blockSize"]), channels_first(4))


@reads("SPACE_TO_DEPTH")
def space_to_depth(op: Op, graph: Graph) -> None:
    x, _ = _images(op, op.inputs[0], graph)
    graph.give(op.outputs[0], graph.emit("SpaceToDepth", [x], blocksize=op.options["blockSize"]), channels_first(4))


@reads("SOFTMAX")
def softmax(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    beta = op.options["beta"]
    x = x if beta == 1 else graph.emit("Mul", [x, graph.number(beta)])
    graph.give(op.outputs[0], graph.emit("Softmax", [x], axis=order.index(len(order) - 1)), order)


@reads("LOG_SOFTMAX")
def log_softmax(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit("LogSoftmax", [x], axis=order.index(len(order) - 1)), order)


@reads("L2_NORMALIZATION")
def l2_normalization(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit("LpNormalization", [x], axis=order.index(len(order) - 1), p=2), order)


@reads("ARG_MAX", "ARG_MIN")
def extreme(op: Op, graph: Graph) -> None:
    axis = int(graph.known(op.inputs[1]).reshape(()))
    name = "ArgMax" if op.code == "ARG_MAX" else "ArgMin"
    made = graph.emit(name, [graph.read(op.inputs[0])], axis=axis, keepdims=0)
    graph.give(op.outputs[0], _as_declared(op, made, graph))


def _as_declared(op: Op, name: str, graph: Graph) -> str:
    kind = helper.np_dtype_to_tensor_dtype(graph.tensor(op.outputs[0]).dtype)
    return graph.emit("Cast", [name], to=kind)


@reads("CAST")
def cast(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], _as_declared(op, x, graph), order)


@reads("QUANTIZE", "DEQUANTIZE")
def rounded(op: Op, graph: Graph) -> None:
    """Tensors say of themselves what their integers are. Halves are made wider."""
    x, order = graph.held(op.inputs[0])
    half = graph.tensor(op.inputs[0]).dtype == np.float16
    graph.give(op.outputs[0], graph.emit("Cast", [x], to=1) if half else x, order)


@reads("TOPK_V2")
def top_k(op: Op, graph: Graph) -> None:
    count = graph.constant(graph.known(op.inputs[1]).reshape(1).astype(np.int64))
    made = graph.emit("TopK", [graph.read(op.inputs[0]), count], outputs=2)
    graph.give(op.outputs[0], made)
    graph.give(op.outputs[1], graph.emit("Cast", [f"{made}:1"], to=6))


@reads("LEAKY_RELU")
def leaky_relu(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit("LeakyRelu", [x], alpha=op.options["alpha"]), order)


@reads("PRELU")
def prelu(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit("PRelu", [x, _stretched(op.inputs[1], order, graph)]), order)


@reads("GELU")
def gelu(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    how = "tanh" if op.options["approximate"] else "none"
    graph.give(op.outputs[0], graph.emit("Gelu", [x], approximate=how), order)


def _clipped(low: float, high: float, op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.clip(x, low, high), order)


for _code, _limits in {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}.items():
    reads(_code)(partial(_clipped, *_limits))


@reads("RSQRT")
def rsqrt(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit("Reciprocal", [graph.emit("Sqrt", [x])]), order)


@reads("SQUARE")
def square(op: Op, graph: Graph) -> None:
    x, order = graph.held(op.inputs[0])
    graph.give(op.outputs[0], graph.emit("Mul", [x, x]), order)


@reads("SQUARED_DIFFERENCE")
def squared_difference(op: Op, graph: Graph) -> None:
    order = _together(op.inputs, graph) or plain(len(graph.shape(op.outputs[0])))
    apart = graph.emit("Sub", [_stretched(n, order, graph) for n in op.inputs])
    graph.give(op.outputs[0], graph.emit("Mul", [apart, apart]), order)


@reads("NOT_EQUAL")
def not_equal(op: Op, graph: Graph) -> None:
    order = _together(op.inputs, graph) or plain(len(graph.shape(op.outputs[0])))
    same = graph.emit("Equal", [_stretched(n, order, graph) for n in op.inputs])
    graph.give(op.outputs[0], graph.emit("Not", [same]), order)


@reads("SELECT", "SELECT_V2")
def select(op: Op, graph: Graph) -> None:
    order = _together(op.inputs, graph) or plain(len(graph.shape(op.outputs[0])))
    graph.give(op.outputs[0], graph.emit("Where", [_stretched(n, order, graph) for n in op.inputs]), order)


@reads("CUMSUM")
def cum_sum(op: Op, graph: Graph) -> None:
    axis = graph.constant(graph.known(op.inputs[1]).reshape(()).astype(np.int64))
    flags: dict[str, Any] = {name: int(op.options[name]) for name in ("exclusive", "reverse")}
    graph.give(op.outputs[0], graph.emit("CumSum", [graph.read(op.inputs[0]), axis], **flags))


@reads("PACK")
def pack(op: Op, graph: Graph) -> None:
    axis = op.options["axis"] % len(graph.shape(op.outputs[0]))
    at = graph.ints([axis])
    parts = [graph.emit("Unsqueeze", [graph.read(n), at]) for n in op.inputs]
    graph.give(op.outputs[0], graph.emit("Concat", parts, axis=axis))


@reads("UNPACK")
def unpack(op: Op, graph: Graph) -> None:
    axis = op.options["axis"] % len(graph.shape(op.inputs[0]))
    made = graph.emit(
        "Split", [graph.read(op.inputs[0])], outputs=len(op.outputs), axis=axis, num_outputs=len(op.outputs)
    )
    for k, output in enumerate(op.outputs):
        part = f"{made}:{k}" if k else made
        graph.give(output, graph.emit("Squeeze", [part, graph.ints([axis])]))
