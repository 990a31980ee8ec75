"""One small graph for every operator that has a rule, in which channels shrink through that operator.

An example is a function of a `Graph` and an input; it returns outputs that no channel reaches unsummed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from intaglio.graph.coupling.node import RULES
from tests.zoo.graph import Graph

Build = Callable[[Graph, str], "str | Sequence[str]"]
IMAGE, SEQUENCE = (2, 3, 6, 6), (2, 5, 6)
WIDTH = 8


@dataclass(frozen=True)
class Example:
    """``op`` is the operator it is about."""

    op: str
    build: Build
    shape: tuple[int, ...]
    opset: int
    name: str

    def model(self) -> onnx.ModelProto:
        g = Graph(self.name, self.opset)
        g.inputs.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape))
        made = self.build(g, "x")
        return g.finish([made] if isinstance(made, str) else list(made))


EXAMPLES: list[Example] = []
ONLY_FREEZES: dict[str, str] = {
    "Compress": "keeps indices chosen by a condition",
    "Identity": "loading drops it, but for one that gives a graph output its name",
    "EyeLike": "makes a diagonal of two axes, which only depends on their lengths",
    "LRN": "looks at neighbouring channels",
    "OneHot": "its new axis stands for values",
    "Range": "numbers its indices",
    "STFT": "a signal has no channels",
    "Size": "counts the elements",
    "SwiGLU": "no runtime here has operator set 28",
}
"""Operators without a channel that could go through them, and why."""


def example(*ops: str, shape: tuple[int, ...] = IMAGE, opset: int = 17, name: str = "") -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        for op in ops:
            label = f"{op}_{name or build.__name__}"
            EXAMPLES.append(Example(op, build, shape, opset, label))
        return build

    return add


def grown(g: Graph, x: str, width: int = WIDTH) -> str:
    """Channels made by a layer, of the image or of the sequence."""
    return (
        g.conv(x, 3, width) if x == "x" and len(g.inputs[0].type.tensor_type.shape.dim) == 4 else g.matmul(x, 6, width)
    )


def closed(g: Graph, y: str, width: int = WIDTH) -> str:
    """A layer that sums over the channels."""
    if len(g.inputs[0].type.tensor_type.shape.dim) == 4:
        return g.op("Conv", y, g.weight(5, width, 1, 1))
    return g.op("MatMul", y, g.weight(width, 5, fan_in=width))


# Index by index -------------------------------------------------------------------------------------------------------

_INSIDE = {"Acos": "Sigmoid", "Asin": "Sigmoid", "Atanh": "HardSigmoid", "Acosh": "Exp", "Log": "Exp", "Sqrt": "Exp"}
_INSIDE |= {"Reciprocal": "Exp", "Tan": "Sigmoid", "Cosh": "Sigmoid", "Sinh": "Sigmoid"}
_FROM = {"Not": onnx.TensorProto.BOOL, "BitwiseNot": onnx.TensorProto.INT32}
_OPSETS = {"Gelu": 20, "Mish": 18, "BitwiseNot": 18, "Swish": 24, "BitCast": 26}
_SETTINGS: dict[str, dict[str, object]] = {
    "Cast": {"to": onnx.TensorProto.DOUBLE},
    "BitCast": {"to": onnx.TensorProto.INT32},
    "ai.onnx.ml:LabelEncoder": {"keys_floats": [-1.0, 1.0], "values_floats": [0.5, 2.0], "default_float": 0.25},
}


def _unary(op: str) -> Build:
    def build(g: Graph, x: str) -> str:
        y = grown(g, x)
        if op in _INSIDE:
            y = g.op("Mul", g.op(_INSIDE[op], g.op("Clip", y, g.const(-1.0), g.const(1.0))), g.const(0.9))
        if op == "Acosh":
            y = g.op("Add", y, g.const(1.5))
        if op in _FROM:
            y = g.op("Cast", y, to=_FROM[op])
        domain, _, kind = op.rpartition(":")
        if domain:
            g.domains[domain] = 3
        y = g.op("Sign", y) if kind == "LabelEncoder" else y
        y = g.op(kind, y, domain=domain, **_SETTINGS.get(op, {}))
        if op == "BitCast":
            return closed(g, g.op("BitCast", y, to=onnx.TensorProto.FLOAT))
        if op in ("Not", "BitwiseNot", "IsInf", "IsNaN", "Cast"):
            y = g.op("Cast", y, to=onnx.TensorProto.FLOAT)
        return closed(g, y)

    return build


for _op in RULES:
    if RULES[_op].couple.__name__ == "unary" and _op not in ONLY_FREEZES and "microsoft" not in _op:
        example(_op, opset=_OPSETS.get(_op, 17), name="alone")(_unary(_op))

_WHOLE = {"And": "bool", "Or": "bool", "Xor": "bool", "BitShift": "uint8", "BitwiseAnd": "int32"}
_WHOLE |= {"BitwiseOr": "int32", "BitwiseXor": "int32"}
_COMPARE = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")


def _binary(op: str) -> Build:
    """Two layers' channels meet, and a constant with channels of its own."""

    def build(g: Graph, x: str) -> str:
        y, z = grown(g, x), grown(g, x)
        if op == "Pow":
            y, z = g.op("Sigmoid", y), g.op("Sigmoid", z)
        if op in ("Div", "Mod"):
            z = g.op("Exp", g.op("Tanh", z))
        if op in _WHOLE:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_WHOLE[op]))
            y, z = (g.op("Cast", g.op("Abs", v), to=kind) for v in (y, z))
        inputs = [g.op("Greater", y, z), y, z] if op == "Where" else [y, z]
        more = {"direction": "LEFT"} if op == "BitShift" else {"fmod": 1} if op == "Mod" else {}
        if op == "PRelu":
            inputs = [y, g.scale(WIDTH, 1, 1)]
        y = g.op(op, *inputs, **more)
        if op in _WHOLE or op in _COMPARE:
            y = g.op("Cast", y, to=onnx.TensorProto.FLOAT)
        return closed(g, g.op("Mul", y, g.scale(WIDTH, 1, 1)))

    return build


for _op in RULES:
    if RULES[_op].couple.__name__ == "broadcast" and _op not in ONLY_FREEZES:
        example(_op, opset=18 if _op.startswith("Bitwise") else 17, name="two")(_binary(_op))


@example("Clip")
def bounds_as_scalars(g: Graph, x: str) -> str:
    return closed(g, g.op("Clip", grown(g, x), "", g.const(0.5)))


@example("CastLike")
def type_of_another(g: Graph, x: str) -> str:
    other = g.const(np.zeros(3), "float64")
    return closed(g, g.op("Cast", g.op("CastLike", grown(g, x), other), to=onnx.TensorProto.FLOAT))


@example("Dropout")
def dropout_whose_mask_is_read(g: Graph, x: str) -> str:
    y, kept = g.ops("Dropout", grown(g, x), count=2)
    return closed(g, g.op("Mul", y, g.op("Cast", kept, to=onnx.TensorProto.FLOAT)))


# Layers ---------------------------------------------------------------------------------------------------------------


@example("Conv")
def grouped_depthwise_and_plain(g: Graph, x: str) -> str:
    y = g.conv(grown(g, x), WIDTH, 12, groups=4)
    y = g.conv(y, 12, 24, groups=12)
    return closed(g, y, 24)


@example("ConvTranspose")
def transposed_with_groups(g: Graph, x: str) -> str:
    y = g.op("ConvTranspose", grown(g, x), g.weight(WIDTH, 6, 2, 2), g.vector(6), strides=[2, 2])
    y = g.op("ConvTranspose", y, g.weight(6, 4, 1, 1), g.vector(8), group=2)
    return closed(g, y, 8)


@example("ConvInteger")
def integer_convolution(g: Graph, x: str) -> str:
    y = _to_bytes(g, grown(g, x))
    weight = g.const(g.random.integers(0, 255, (6, WIDTH, 1, 1)), "uint8")
    y = g.op("ConvInteger", y, weight, "", g.const(120, "uint8"))
    return closed(g, g.op("Mul", g.op("Cast", y, to=1), g.const(1e-3)), 6)


@example("QLinearConv")
def quantized_convolution(g: Graph, x: str) -> str:
    y = _to_bytes(g, grown(g, x))
    weight = g.const(g.random.integers(-120, 120, (6, WIDTH, 1, 1)), "int8")
    y = g.op(
        "QLinearConv", y, g.const(0.02), g.const(7, "uint8"), weight, g.const(np.full(6, 0.01)),
        g.const(np.zeros(6), "int8"), g.const(0.1), g.const(100, "uint8"), g.const(g.random.integers(-9, 9, 6), "int32"),
    )  # fmt: skip
    return closed(g, g.op("DequantizeLinear", y, g.const(0.1), g.const(100, "uint8")), 6)


def _to_bytes(g: Graph, y: str) -> str:
    return g.op("QuantizeLinear", y, g.const(0.02), g.const(0, "uint8"))


@example("DeformConv", opset=19)
def deformable_without_groups(g: Graph, x: str) -> str:
    offset = g.op("Conv", x, g.weight(2, 3, 1, 1))
    y = g.op("DeformConv", grown(g, x), g.weight(6, WIDTH, 1, 1), offset, g.vector(6), kernel_shape=[1, 1])
    return closed(g, y, 6)


@example("Gemm", shape=(4, 6))
def gemm_both_ways(g: Graph, x: str) -> str:
    y = g.op("Gemm", x, g.weight(6, WIDTH), g.vector(1, WIDTH))
    y = g.op("Gemm", g.weight(10, WIDTH), y, g.vector(10, 1), transB=1)
    return g.op("Gemm", y, g.weight(3, 10, fan_in=10), g.vector(3), transA=1, transB=1)


@example("MatMul", shape=SEQUENCE)
def weight_on_either_side_and_none(g: Graph, x: str) -> str:
    y = g.op("MatMul", g.weight(7, 5), grown(g, x))
    scores = g.op("MatMul", y, g.op("Transpose", y, perm=[0, 2, 1]))
    y = g.op("MatMul", g.op("Softmax", scores), y)
    y = g.op("MatMul", y, g.weight(WIDTH, 9))
    return g.op("MatMul", g.op("MatMul", g.weight(4, 7), y), g.weight(9))


@example("MatMulInteger", shape=SEQUENCE)
def integer_product(g: Graph, x: str) -> str:
    y = _to_bytes(g, grown(g, x))
    y = g.op("MatMulInteger", y, g.const(g.random.integers(0, 255, (WIDTH, 6)), "uint8"), "", g.const(120, "uint8"))
    return closed(g, g.op("Mul", g.op("Cast", y, to=1), g.const(1e-3)), 6)


@example("QLinearMatMul", shape=SEQUENCE)
def quantized_product(g: Graph, x: str) -> str:
    y = _to_bytes(g, grown(g, x))
    weight = g.const(g.random.integers(-120, 120, (WIDTH, 6)), "int8")
    y = g.op(
        "QLinearMatMul", y, g.const(0.02), g.const(0, "uint8"), weight, g.const(np.full(6, 0.01)),
        g.const(np.arange(6), "int8"), g.const(0.1), g.const(100, "uint8"),
    )  # fmt: skip
    return closed(g, g.op("DequantizeLinear", y, g.const(0.1), g.const(100, "uint8")), 6)


@example("Einsum", shape=SEQUENCE)
def letters_and_an_ellipsis(g: Graph, x: str) -> str:
    y = g.op("Einsum", grown(g, x), g.weight(7, WIDTH), equation="bsd,ed->bes")
    y = g.op("Einsum", y, g.weight(6, 7), equation="...es, fe -> ...sf")
    return closed(g, g.op("Einsum", y, g.scale(6), equation="bsf,f->bsf"), 6)


def _recurrent(op: str, gates: int) -> Build:
    def build(g: Graph, x: str) -> str:
        weights = [g.weight(2, gates * 6, WIDTH, fan_in=8), g.weight(2, gates * 6, 6, fan_in=6)]
        y = g.op(op, grown(g, x), *weights, g.vector(2, 2 * gates * 6), hidden_size=6, direction="bidirectional")
        y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), g.const([0, 0, -1]))
        return closed(g, y, 12)

    return build


for _op, _gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    example(_op, shape=SEQUENCE, name="bidirectional")(_recurrent(_op, _gates))


@example("Attention", shape=SEQUENCE, opset=23)
def grouped_queries(g: Graph, x: str) -> str:
    q, k, v = (g.matmul(x, 6, n) for n in (4 * 4, 2 * 4, 2 * 6))
    y = g.op("Attention", q, k, v, q_num_heads=4, kv_num_heads=2)
    return closed(g, y, 24)


@example("RotaryEmbedding", shape=SEQUENCE, opset=23)
def rotated_queries(g: Graph, x: str) -> str:
    angles = g.random.uniform(0, 3, (2, 5, 2))
    tables = [g.const(np.cos(angles)), g.const(np.sin(angles))]
    q, k, v = (g.matmul(x, 6, 12) for _ in range(3))
    q, k = (g.op("RotaryEmbedding", t, *tables, num_heads=3) for t in (q, k))
    return closed(g, g.op("Attention", q, k, v, q_num_heads=3, kv_num_heads=3), 12)


# Normalizations -------------------------------------------------------------------------------------------------------


@example("BatchNormalization")
def stored_statistics(g: Graph, x: str) -> str:
    return closed(g, g.op("BatchNormalization", grown(g, x), g.scale(8), g.vector(8), g.vector(8), g.scale(8)))


@example("InstanceNormalization")
def per_channel(g: Graph, x: str) -> str:
    return closed(g, g.op("InstanceNormalization", grown(g, x), g.scale(8), g.vector(8), epsilon=0.01))


@example("GroupNormalization", opset=21)
def groups_of_two(g: Graph, x: str) -> str:
    y = g.op("GroupNormalization", grown(g, x), g.scale(8), g.vector(8), num_groups=4, epsilon=0.01)
    g.known.append(g.state(y, [2, 8, 6, 6]))  # onnx infers nothing here
    return closed(g, y)


@example("LayerNormalization", shape=SEQUENCE)
def with_all_outputs(g: Graph, x: str) -> str:
    y, mean, spread = g.ops("LayerNormalization", grown(g, x), g.scale(8), g.vector(8), count=3, epsilon=0.01)
    return closed(g, g.op("Mul", g.op("Sub", y, mean), spread))


@example("RMSNormalization", shape=SEQUENCE, opset=23)
def root_mean_square(g: Graph, x: str) -> str:
    return closed(g, g.op("RMSNormalization", grown(g, x), g.scale(8), epsilon=0.01))


@example("LpNormalization", "MeanVarianceNormalization", name="axis")
def over_channels(g: Graph, x: str) -> str:
    y = g.op("LpNormalization", grown(g, x), axis=1)
    return closed(g, g.op("MeanVarianceNormalization", y, axes=[1, 2]))


@example("Softmax", "LogSoftmax", "Hardmax", name="beside")
def over_another_axis(g: Graph, x: str) -> str:
    y = grown(g, x)
    total = [g.op(kind, y, axis=-1) for kind in ("Softmax", "LogSoftmax", "Hardmax")]
    return closed(g, g.op("Sum", *total))


# Images ---------------------------------------------------------------------------------------------------------------


@example("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", name="windows")
def windows(g: Graph, x: str) -> str:
    y = grown(g, x)
    small = [g.op(kind, y, kernel_shape=[2, 2], strides=[2, 2]) for kind in ("AveragePool", "MaxPool", "LpPool")]
    whole = [g.op(kind, y) for kind in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")]
    return closed(g, g.op("Sum", *small, *whole))


@example("RoiAlign", opset=16)
def aligned_regions(g: Graph, x: str) -> str:
    regions, samples = g.const(np.array([[0.0, 0, 4, 4], [1, 1, 5, 5]])), g.const([0, 1])
    return closed(g, g.op("RoiAlign", grown(g, x), regions, samples, output_height=2, output_width=2))


@example("MaxRoiPool")
def pooled_regions(g: Graph, x: str) -> str:
    return closed(g, g.op("MaxRoiPool", grown(g, x), g.const(np.array([[0.0, 0, 0, 4, 4]])), pooled_shape=[2, 2]))


@example("GridSample", opset=20)
def sampled(g: Graph, x: str) -> str:
    return closed(g, g.op("GridSample", grown(g, x), g.const(g.random.uniform(-1, 1, (2, 4, 4, 2)))))


@example("DFT", opset=20)
def spectra_of_rows_and_columns(g: Graph, x: str) -> str:
    y = g.op("Unsqueeze", grown(g, x), g.const([-1]))
    rows, columns = g.op("DFT", y), g.op("DFT", y, "", g.const(2), onesided=0)
    return closed(
        g, g.op("ReduceL2", g.op("DFT", g.op("Add", rows, columns), g.const(4), g.const(-3)), g.const([-1]), keepdims=0)
    )


@example("DFT", opset=17)
def spectra_by_an_attribute(g: Graph, x: str) -> str:
    y = g.op("Unsqueeze", grown(g, x), g.const([-1]))
    return closed(g, g.op("ReduceL2", g.op("DFT", y, axis=3, onesided=1), axes=[-1], keepdims=0))


@example("Resize")
def resized_by_sizes(g: Graph, x: str) -> str:
    return closed(g, g.op("Resize", grown(g, x), "", "", g.const([2, 8, 12, 12]), mode="nearest"))


@example("Upsample", opset=9)
def upsampled(g: Graph, x: str) -> str:
    y = g.op("Upsample", grown(g, x), g.const(np.array([1.0, 1, 2, 2])), mode="nearest")
    return closed(g, _keeping_its_opset(g, y))


def _keeping_its_opset(g: Graph, y: str) -> str:
    """Hardmax before operator set 13 has no equal after it, so that loading leaves the model as old as it is."""
    return g.op("Add", y, g.op("Hardmax", g.const(np.ones((1, 1)))))


@example("Pad")
def padded_channels(g: Graph, x: str) -> str:
    return closed(g, g.op("Pad", grown(g, x), g.const([0, 2, 0, 1, 0, -1, 0, 1])), 9)


@example("DepthToSpace", "SpaceToDepth", name="both")
def depth_and_space(g: Graph, x: str) -> str:
    y = g.op("SpaceToDepth", grown(g, x), blocksize=2)
    y = g.op("DepthToSpace", g.op("Relu", y), blocksize=2)
    return closed(g, g.op("DepthToSpace", g.conv(y, 8, 16), blocksize=2, mode="CRD"), 4)


# Moving indices -------------------------------------------------------------------------------------------------------


@example("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", name="chain")
def layouts(g: Graph, x: str) -> str:
    y = g.op("Transpose", grown(g, x), perm=[0, 2, 3, 1])
    y = g.op("Reshape", y, g.const([0, -1, 2, 4]))
    y = g.op("Squeeze", g.op("Unsqueeze", y, g.const([-2])), g.const([3]))
    y = g.op("Flatten", y, axis=2)
    y = g.op("Gemm", y, g.weight(8, 6))
    return g.op("Gemm", y, g.weight(6, 3))


@example("Concat", "Split", "Slice", "Gather", name="parts")
def parts(g: Graph, x: str) -> str:
    y = grown(g, x, 12)
    a, b, c = g.ops("Split", y, g.const([3, 5, 4]), count=3, axis=1)
    a = g.op("Gather", a, g.const([2, 0, -2]), axis=1)
    b = g.op("Slice", b, g.const([-1]), g.const([-6]), g.const([1]), g.const([-2]))
    return closed(g, g.op("Concat", c, a, b, axis=1), 10)


@example("Expand", "Tile", name="repeats")
def repeats(g: Graph, x: str) -> str:
    y = g.op("Tile", grown(g, x), g.const([1, 2, 1, 1]))
    mean = g.op("Conv", g.op("GlobalAveragePool", y), g.weight(1, 16, 1, 1))
    wide = g.op("Expand", mean, g.const([1, 6, 1, 1]))
    return closed(g, g.op("Add", g.conv(y, 16, 6), wide), 6)


@example("ReverseSequence", shape=SEQUENCE)
def reversed_time(g: Graph, x: str) -> str:
    return closed(g, g.op("ReverseSequence", grown(g, x), g.const([3, 4]), batch_axis=0, time_axis=1))


@example("Trilu")
def triangle_of_pixels(g: Graph, x: str) -> str:
    return closed(g, g.op("Trilu", grown(g, x)))


@example("GatherElements", "ScatterElements", "GatherND", "ScatterND", shape=SEQUENCE, name="beside")
def at_other_axes(g: Graph, x: str) -> str:
    y = grown(g, x)
    places = g.const(g.random.integers(0, 5, (2, 4, WIDTH)))
    y = g.op("ScatterElements", y, g.const(np.broadcast_to([[[1], [3]]], (2, 2, WIDTH))), g.vector(2, 2, WIDTH), axis=1)
    y = g.op("ScatterND", y, g.const([[0, 2], [1, 0]]), g.vector(2, WIDTH))
    rows = g.op("GatherND", y, g.const([[0, 1], [1, 4], [1, 1]]))
    return closed(g, g.op("Add", g.op("GatherElements", y, places, axis=1), g.op("ReduceSum", rows)))


@example("Scatter", shape=SEQUENCE, opset=10)
def scatter_of_old(g: Graph, x: str) -> str:
    indices = g.const(np.broadcast_to([[[1], [3]]], (2, 2, WIDTH)))
    return closed(g, _keeping_its_opset(g, g.op("Scatter", grown(g, x), indices, g.vector(2, 2, WIDTH), axis=1)))


@example("TopK", "ArgMax", "ArgMin", shape=SEQUENCE, name="beside")
def ranked_along_time(g: Graph, x: str) -> str:
    y = grown(g, x)
    values, _ = g.ops("TopK", y, g.const([2]), count=2, axis=1)
    places = [g.op(kind, y, axis=1) for kind in ("ArgMax", "ArgMin")]
    return closed(g, g.op("Add", values, g.op("Cast", g.op("Sub", *places), to=1)))


@example("CumSum", shape=SEQUENCE)
def running_sum_over_channels(g: Graph, x: str) -> str:
    return closed(g, g.op("CumSum", grown(g, x), g.const(-1)))


@example("CumProd", shape=SEQUENCE, opset=26)
def running_product_beside_channels(g: Graph, x: str) -> str:
    return closed(g, g.op("CumProd", grown(g, x), g.const(1)))


@example("Relu", opset=onnx.defs.onnx_opset_version(), name="newest")
def newest_operators(g: Graph, x: str) -> str:
    """Of a set that ONNX Runtime may know nothing of yet."""
    return closed(g, g.op("Relu", grown(g, x)))


@example("ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", shape=SEQUENCE, opset=18, name="sums")
def sums(g: Graph, x: str) -> str:
    y = g.op("Exp", g.op("Tanh", grown(g, x)))
    kinds = ("ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum")
    return g.op("Sum", *(g.op(kind, y, g.const([-1])) for kind in kinds))


@example("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp", shape=SEQUENCE, name="axes")
def means(g: Graph, x: str) -> str:
    y = g.op("Tanh", grown(g, x))
    over = [g.op(kind, y, axes=[-1]) for kind in ("ReduceMean", "ReduceMax", "ReduceMin")]
    along = [g.op(kind, y, axes=[1]) for kind in ("ReduceProd", "ReduceLogSumExp", "ReduceMean")]
    return closed(g, g.op("Mul", g.op("Sum", *along), g.op("Sum", *over)))


# Shapes and quantization ----------------------------------------------------------------------------------------------


@example("Shape", "ConstantOfShape", shape=("batch", 5, 6), name="computed")  # type: ignore[arg-type]
def computed_shapes(g: Graph, x: str) -> str:
    y = grown(g, x)
    zeros = g.op("ConstantOfShape", g.op("Shape", y), value=onnx.numpy_helper.from_array(np.array([0.5], np.float32)))
    return closed(g, g.op("Add", y, zeros))


@example("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", name="activations")
def there_and_back(g: Graph, x: str) -> str:
    scale, zero = g.const(np.full(8, 0.02)), g.const(np.arange(8), "uint8")
    y = g.op("DequantizeLinear", g.op("QuantizeLinear", grown(g, x), scale, zero, axis=1), scale, zero, axis=1)
    y, step, zero = g.ops("DynamicQuantizeLinear", y, count=3)
    return closed(g, g.op("DequantizeLinear", y, step, zero))
