"""Models of one operator or few, in many shapes, all of which go into one compilation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.kernels.operators import DOMAIN, attach

RNG = np.random.default_rng(5)
KINDS = {np.dtype(k): v for k, v in (("f4", 1), ("u1", 2), ("i1", 3), ("i4", 6), ("i8", 7), ("b1", 9), ("f8", 11))}


@dataclass(frozen=True)
class Case:
    """``inputs`` are fed, ``constants`` are weights; operands are read in the order in which ``operands`` names them."""

    op: str
    inputs: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    operands: tuple[str, ...] = ()
    outputs: int = 1
    opset: int = 20
    domain: str = ""
    unnamed: tuple[int, ...] = ()
    """Outputs that nobody has a name for."""

    def model(self) -> Model:
        names = self.operands or (*self.inputs, *self.constants)
        outputs = ["" if k in self.unnamed else f"y{k}" for k in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, self.op, domain=self.domain, **self.attributes)
        ends = [helper.make_tensor_value_info(n, KINDS[v.dtype], v.shape) for n, v in self.inputs.items()]
        made = [ValueInfoProto(name=n) for n in outputs if n]
        weights = [numpy_helper.from_array(v, n) for n, v in self.constants.items()]
        graph = helper.make_graph([node], self.op, ends, made, weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        if self.domain:
            attach(proto)
        return from_proto(proto)


def floats(*dims: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RNG.uniform(low, high, dims).astype(np.float32)


def ints(*dims: int, low: int = -5, high: int = 6, dtype: str = "i4") -> np.ndarray:
    return RNG.integers(low, high, dims).astype(dtype)


def axes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def unary(op: str, low: float = -2.0, high: float = 2.0, **attributes: Any) -> Case:
    return Case(op, {"x": floats(2, 3, 5, low=low, high=high)}, attributes=attributes)


def elementwise() -> Iterator[Case]:
    more = "Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh ThresholdedRelu"
    names = "Abs Asinh Atan Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Mish Neg Relu"
    for op in (
        *names.split(),
        *more.split(),
    ):
        yield unary(op)
    for op in ("Acos", "Asin", "Atanh"):
        yield unary(op, -0.9, 0.9)
    for op in ("Log", "Sqrt", "Reciprocal"):
        yield unary(op, 0.1, 4.0)
    yield unary("Acosh", 1.1, 4.0)
    yield from (
        unary("Gelu"),
        unary("Gelu", approximate="tanh"),
        unary("Elu", alpha=0.3),
        unary("LeakyRelu", alpha=0.3),
    )
    yield from (unary("Shrink", lambd=0.7, bias=0.2), unary("HardSigmoid", alpha=0.3, beta=0.4))
    for op in (
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Max",
        "Min",
        "Mean",
        "Sum",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
    ):
        yield Case(op, {"a": floats(2, 1, 4, 3), "b": floats(5, 1, 3, low=0.5)})
        yield Case(op, {"a": floats(2, 3)}, {"b": floats(1)})
    yield Case("Sum", {"a": floats(2, 3), "b": floats(3), "c": floats(2, 1)})
    yield Case("Add", {"a": ints(3, 4)}, {"b": ints(4)})
    yield Case("Div", {"a": ints(3, 4), "b": ints(3, 4, low=1)})
    yield Case("Mod", {"a": ints(3, 4), "b": ints(3, 4, low=1)})
    yield Case("Mod", {"a": floats(3, 4), "b": floats(3, 4, low=0.5)}, attributes={"fmod": 1})
    yield Case("Pow", {"a": floats(3, 4, low=0.1), "b": floats(4)})
    yield Case("PRelu", {"a": floats(2, 3, 4, 4)}, {"slope": floats(3, 1, 1)})
    yield Case("Equal", {"a": ints(3, 4, low=0, high=2), "b": ints(3, 4, low=0, high=2)})
    for op in ("And", "Or", "Xor"):
        yield Case(op, {"a": ints(6, low=0, high=2, dtype="b1"), "b": ints(6, low=0, high=2, dtype="b1")})
    yield Case("Not", {"a": ints(6, low=0, high=2, dtype="b1")})
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield Case(op, {"a": ints(6), "b": ints(6)})
    yield Case("BitwiseNot", {"a": ints(6)})
    yield Case("Where", {"c": ints(2, 3, low=0, high=2, dtype="b1"), "a": floats(3), "b": floats(2, 1)})
    yield Case("Clip", {"x": floats(3, 4)}, {"low": np.array(-0.5, np.float32), "high": np.array(0.7, np.float32)})
    yield Case("Clip", {"x": floats(3, 4)}, {"high": np.array(0.7, np.float32)}, operands=("x", "", "high"))
    yield Case("Cast", {"x": floats(3, 4)}, attributes={"to": TensorProto.INT32})
    yield Case("Cast", {"x": ints(3, 4)}, attributes={"to": TensorProto.BOOL})
    yield Case("Cast", {"x": ints(3, 4)}, attributes={"to": TensorProto.DOUBLE})
    yield Case("CastLike", {"x": ints(3, 4), "like": floats(1)})
    special = np.array([0.5, np.inf, -np.inf, np.nan], np.float32)
    yield Case("IsNaN", {"x": special})
    yield Case("IsInf", {"x": special})
    yield Case("Swish", {"x": floats(3, 4)}, opset=24)


def products() -> Iterator[Case]:
    yield Case("Gemm", {"x": floats(3, 7)}, {"w": floats(7, 18), "b": floats(18)})
    yield Case(
        "Gemm",
        {"x": floats(7, 3)},
        {"w": floats(33, 7), "b": floats(1, 33)},
        {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0},
    )
    yield Case("Gemm", {"x": floats(1, 9)}, {"w": floats(9, 4)})
    yield Case("MatMul", {"x": floats(2, 5, 7)}, {"w": floats(7, 20)})
    yield Case("MatMul", {"x": floats(7)}, {"w": floats(7, 3)})
    yield Case("MatMul", {"a": floats(2, 3, 5, 4), "b": floats(2, 3, 4, 17)})
    yield Case("MatMul", {"a": floats(3, 5, 4), "b": floats(2, 1, 4, 6)})
    yield Case("MatMul", {"a": floats(5, 4), "b": floats(4, 6)})
    yield Case("MatMul", {"a": floats(2, 5, 4)}, {"w": floats(2, 4, 6)})


def convolutions() -> Iterator[Case]:
    def conv(x: np.ndarray, w: np.ndarray, bias: bool = True, **attributes: Any) -> Case:
        return Case("Conv", {"x": x}, {"w": w, **({"b": floats(len(w))} if bias else {})}, attributes)

    yield conv(floats(1, 3, 9, 11), floats(18, 3, 3, 3), pads=[1, 1, 1, 1])
    yield conv(floats(2, 3, 9, 11), floats(5, 3, 3, 2), False, strides=[2, 3], pads=[0, 1, 2, 1])
    yield conv(floats(1, 4, 10, 8), floats(6, 2, 3, 3), group=2, pads=[1, 1, 1, 1])
    yield conv(floats(1, 20, 7, 9), floats(20, 1, 3, 3), group=20, strides=[2, 1], pads=[1, 1, 1, 1])
    yield conv(floats(1, 3, 8, 8), floats(6, 1, 3, 3), group=3)
    yield conv(floats(1, 3, 11, 12), floats(4, 3, 3, 3), dilations=[2, 3], pads=[2, 3, 2, 3])
    yield conv(floats(1, 17, 5, 6), floats(33, 17, 1, 1))
    yield conv(floats(1, 8, 7, 6), floats(9, 8, 1, 1), strides=[2, 2])
    yield conv(floats(1, 3, 8, 9), floats(4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    yield conv(floats(1, 3, 8, 9), floats(4, 3, 2, 4), auto_pad="SAME_LOWER")
    yield conv(floats(1, 3, 8, 9), floats(4, 3, 2, 4), auto_pad="VALID")
    yield conv(floats(2, 4, 13), floats(6, 4, 5), pads=[2, 1], strides=[2])
    yield conv(floats(1, 2, 6, 5), floats(4, 2, 6, 5))
    for group in (1, 2):
        yield Case(
            "ConvTranspose",
            {"x": floats(2, 4, 5, 6)},
            {"w": floats(4, 3, 3, 2), "b": floats(3 * group)},
            {"group": group, "strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 0]},
        )
    yield Case("ConvTranspose", {"x": floats(1, 3, 7)}, {"w": floats(3, 2, 4)}, {"strides": [2], "dilations": [2]})


def pools() -> Iterator[Case]:
    for op in ("MaxPool", "AveragePool"):
        yield Case(
            op, {"x": floats(1, 18, 9, 8)}, attributes={"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}
        )
        yield Case(
            op, {"x": floats(2, 3, 8, 8)}, attributes={"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
        )
        yield Case(op, {"x": floats(2, 3, 10)}, attributes={"kernel_shape": [3], "pads": [1, 1]})
        yield Case(op, {"x": floats(1, 3, 9, 9)}, attributes={"kernel_shape": [2, 2], "dilations": [2, 3]})
    padded = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    yield Case("AveragePool", {"x": floats(1, 3, 8, 7)}, attributes=padded)
    yield Case("AveragePool", {"x": floats(1, 3, 8, 7)}, attributes={**padded, "ceil_mode": 1})
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Case(op, {"x": floats(2, 17, 5, 4)})
        yield Case(op, {"x": floats(2, 3, 7)})


def reductions() -> Iterator[Case]:
    names = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
    for op in names.split():
        x = floats(2, 3, 4, 5, low=0.5)
        yield Case(op, {"x": x}, {"axes": axes(1, -1)})
        yield Case(op, {"x": x}, {"axes": axes(2)}, {"keepdims": 0})
        yield Case(op, {"x": x})
    for op in ("Softmax", "LogSoftmax"):
        yield Case(op, {"x": floats(2, 3, 4, 5)}, attributes={"axis": 1})
        yield Case(op, {"x": floats(2, 7)})
    for op in ("ArgMax", "ArgMin"):
        yield Case(op, {"x": floats(2, 3, 4)}, attributes={"axis": 1, "keepdims": 0})
        yield Case(op, {"x": floats(2, 3, 4)}, attributes={"axis": -1})


def normalizations() -> Iterator[Case]:
    x = floats(2, 6, 4, 5)
    yield Case("LayerNormalization", {"x": x}, {"s": floats(5), "b": floats(5)})
    yield Case("LayerNormalization", {"x": x}, {"s": floats(4, 5)}, {"axis": -2, "epsilon": 1e-3})
    yield Case("RMSNormalization", {"x": x}, {"s": floats(5)}, opset=23)
    yield Case("SimplifiedLayerNormalization", {"x": x}, {"s": floats(5)}, {"axis": -1})
    yield Case("InstanceNormalization", {"x": x}, {"s": floats(6), "b": floats(6)})
    yield Case("GroupNormalization", {"x": x}, {"s": floats(6), "b": floats(6)}, {"num_groups": 3}, opset=21)
    yield Case("LpNormalization", {"x": x}, attributes={"axis": 1, "p": 2})
    yield Case("LpNormalization", {"x": x}, attributes={"axis": -1, "p": 1})
    yield Case("LRN", {"x": x}, attributes={"size": 3, "alpha": 0.1})
    table = {"s": floats(6), "b": floats(6), "m": floats(6), "v": floats(6, low=0.5)}
    yield Case("BatchNormalization", {"x": x}, table)


def moves() -> Iterator[Case]:
    x = floats(2, 3, 4, 5)
    yield Case("Reshape", {"x": x}, {"shape": axes(0, -1, 2)})
    yield Case("Flatten", {"x": x}, attributes={"axis": 2})
    yield Case("Squeeze", {"x": floats(1, 3, 1, 2)}, {"axes": axes(0, 2)})
    yield Case("Unsqueeze", {"x": x}, {"axes": axes(0, -1)})
    yield Case("Transpose", {"x": x}, attributes={"perm": [3, 1, 0, 2]})
    yield Case("Slice", {"x": x}, {"s": axes(3, -1), "e": axes(0, -5), "a": axes(2, 3), "st": axes(-1, -2)})
    yield Case("Split", {"x": x}, {"split": axes(1, 3)}, {"axis": 2}, outputs=2)
    yield Case("Gather", {"x": x}, {"i": axes(2, 0, -1).reshape(3, 1)}, {"axis": 2})
    yield Case("Gather", {"x": x, "i": axes(2, 0, -1, 1).reshape(2, 2)}, attributes={"axis": 3})
    yield Case("GatherElements", {"x": floats(3, 4)}, {"i": axes(0, 2, 1, 1).reshape(1, 4)})
    yield Case("GatherND", {"x": floats(3, 4)}, {"i": axes(0, 2, 1, 1).reshape(2, 2)})
    yield Case("Expand", {"x": floats(3, 1)}, {"shape": axes(2, 3, 4)})
    yield Case("Tile", {"x": floats(2, 3)}, {"r": axes(2, 2)})
    yield Case("Concat", {"a": floats(2, 3, 4), "b": floats(2, 1, 4)}, attributes={"axis": 1})
    yield Case("DepthToSpace", {"x": floats(1, 8, 2, 3)}, attributes={"blocksize": 2})
    yield Case("DepthToSpace", {"x": floats(1, 8, 2, 3)}, attributes={"blocksize": 2, "mode": "CRD"})
    yield Case("SpaceToDepth", {"x": floats(1, 2, 4, 6)}, attributes={"blocksize": 2})
    yield Case("ReverseSequence", {"x": floats(4, 2)}, {"l": axes(3, 4)}, {"time_axis": 0, "batch_axis": 1})
    yield Case("Pad", {"x": x}, {"p": axes(0, 1, 0, 2, 0, 0, 3, 1), "v": np.array(1.5, np.float32)})
    yield Case("Pad", {"x": x}, {"p": axes(0, 0, -1, 0, 0, 1, 0, -2)})
    yield Case("Pad", {"x": x}, {"p": axes(0, 0, 1, 2, 0, 0, 2, 1)}, {"mode": "reflect"})
    yield Case("Pad", {"x": x}, {"p": axes(0, 0, 1, 2, 0, 0, 2, 1)}, {"mode": "edge"})
    yield from resizes()


def resizes() -> Iterator[Case]:
    x = floats(1, 3, 5, 6)
    none = np.zeros(0, np.float32)
    for mode in ("nearest", "linear", "cubic"):
        for form in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"):
            scales = np.array([1, 1, 2, 1.5], np.float32)
            yield Case(
                "Resize", {"x": x}, {"r": none, "s": scales}, {"mode": mode, "coordinate_transformation_mode": form}
            )
    yield Case("Resize", {"x": x}, {"n": axes(1, 3, 3, 9)}, {"mode": "linear"}, ("x", "", "", "n"))


def bits(*dims: int) -> np.ndarray:
    """The last length is a number of bits."""
    return np.packbits(RNG.integers(0, 2, dims).astype(bool), axis=-1, bitorder="little")


def on_bits() -> Iterator[Case]:
    yield Case("BitPack", {"x": floats(1, 20, 4, 5)}, {"t": floats(20)}, {"perm": [0, 2, 3, 1]}, domain=DOMAIN)
    yield Case("BitPack", {"x": floats(3, 9)}, {"t": floats(1)}, {"perm": [0, 1]}, domain=DOMAIN)
    window = {"kernel": [3, 3], "pads": [1, 1, 1, 0], "dilations": [1, 1]}
    for planes, pad, group, strides in ((1, 1, 1, [1, 1]), (2, 0, 1, [2, 1]), (1, -1, 1, [1, 2]), (1, 0, 2, [1, 1])):
        channels, outputs = (20 if group == 1 else 32), 38
        attributes = {**window, "channels": channels, "strides": strides, "group": group, "pad_value": float(pad)}
        image, weight = {"b": bits(2, 6, 5, channels)}, {"w": bits(planes, outputs, 9 * channels // group)}
        scaled = {**weight, "s": floats(outputs), "o": floats(outputs)}
        yield Case("BConv", image, scaled, attributes, domain=DOMAIN)
        yield Case("BConvBits", image, {**weight, "t": ints(outputs)}, attributes, domain=DOMAIN)
    for planes, length in ((1, 70), (2, 9)):
        weight, rows, attributes = {"w": bits(planes, 6, length)}, {"b": bits(3, length)}, {"channels": length}
        yield Case("BGemm", rows, {**weight, "s": floats(6), "o": floats(6)}, attributes, domain=DOMAIN)
        yield Case("BGemmBits", rows, {**weight, "t": ints(6)}, attributes, domain=DOMAIN)
        blocks = {**weight, "s": floats(planes, 6, -(-length // 32), low=0.1)}
        for op in ("MatMul1Bit", "MatMul1BitInt8"):
            yield Case(op, {"x": floats(3, length)}, blocks, {"channels": length, "block": 32}, domain=DOMAIN)
    pool = {"channels": 20, "kernel": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}
    yield Case("BMaxPool", {"b": bits(2, 6, 5, 20)}, attributes=pool, domain=DOMAIN)


def recurrent() -> Iterator[Case]:
    """Directions, biases, first states, peepholes, sequences of different lengths, other functions, outputs left out."""
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction, d in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            weights = {"w": floats(d, gates * 5, 4), "r": floats(d, gates * 5, 5), "b": floats(d, gates * 10)}
            told = {"hidden_size": 5, "direction": direction}
            x, counts = {"x": floats(6, 3, 4)}, 3 if op == "LSTM" else 2
            yield Case(op, x, weights, told, outputs=counts)
            bare = {k: weights[k] for k in "wr"}
            yield Case(op, x, bare, told, outputs=counts, unnamed=(0,))
            states = {"l": ints(3, low=1, high=7), "h": floats(d, 3, 5)}
            states |= {"c": floats(d, 3, 5)} if op == "LSTM" else {}
            names = ("x", "w", "r", "b", *states)
            yield Case(op, x | states, weights, told, operands=names, outputs=counts)
            yield Case(op, {"x": floats(1, 1, 4)}, weights, told)
            if op == "GRU":
                yield Case(op, x, weights, told | {"linear_before_reset": 1}, outputs=2, unnamed=(0,))
            if op == "LSTM":
                names = ("x", "w", "r", "b", "", "", "", "p")
                yield Case(op, x, weights | {"p": floats(d, 15)}, told, operands=names, outputs=3)
    weights = {"w": floats(1, 15, 4), "r": floats(1, 15, 5)}
    told = {"hidden_size": 5, "activations": ["HardSigmoid", "Softsign"]}
    yield Case("GRU", {"x": floats(6, 3, 4)}, weights, told)


def every() -> list[Case]:
    groups = (elementwise, products, convolutions, pools, reductions, normalizations, moves, on_bits, recurrent)
    return [case for group in groups for case in group()]
