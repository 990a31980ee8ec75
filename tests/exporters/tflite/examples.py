"""Small models of every operator that is written to TFLite files: one node each, over shapes of many kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model

Shape = tuple[int, ...]
_LETTERS = "xyzuv"


@dataclass(frozen=True)
class Example:
    """One node. Operands are shapes of inputs, or constants; ``low`` and ``high`` bound the numbers of inputs."""

    op: str
    operands: tuple[Any, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 21
    low: float = -2.0
    high: float = 2.0
    kind: type = np.float32

    def __str__(self) -> str:
        shapes = [o if isinstance(o, tuple) else f"[{'x'.join(map(str, np.shape(o)))}]" for o in self.operands]
        return f"{self.op}{shapes}{dict(self.attributes)}".replace(" ", "")

    @property
    def inputs(self) -> dict[str, Shape]:
        return {f"x{k}": o for k, o in enumerate(self.operands) if isinstance(o, tuple)}

    def feeds(self, seed: int = 0) -> dict[str, np.ndarray]:
        dice = np.random.default_rng(seed)
        made = {name: dice.uniform(self.low, self.high, shape) for name, shape in self.inputs.items()}
        return {name: np.asarray(value).astype(self.kind) for name, value in made.items()}

    def model(self) -> Model:
        """The node between inputs and outputs; other operands are weights."""
        names = ["" if o is None else f"x{k}" for k, o in enumerate(self.operands)]
        outputs = [f"y{k}" for k in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, "node", **self.attributes)
        return model_of([node], self.inputs, self.constants, outputs, self.opset, self.kind)

    @property
    def constants(self) -> dict[str, np.ndarray]:
        return {f"x{k}": o for k, o in enumerate(self.operands) if isinstance(o, np.ndarray)}


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    constants: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    opset: int = 21,
    kind: type = np.float32,
) -> Model:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info(name, element, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    typed = onnx.shape_inference.infer_shapes(proto)
    return from_proto(typed)


def w(*shape: int) -> np.ndarray:
    """Weights."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32) * np.float32(0.5)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def f(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def e(op: str, *operands: Any, **attributes: Any) -> Example:
    more = {name: attributes.pop(name) for name in ("outputs", "opset", "low", "high", "kind") if name in attributes}
    return Example(op, operands, attributes, **more)


IMAGE, ROWS = (1, 3, 9, 8), (2, 5, 6)
POSITIVE = {"low": 0.1, "high": 3.0}
_UNARY = "Abs Ceil Cos Erf Exp Floor HardSwish Mish Neg Relu Round Selu Sigmoid Sign Sin Softplus Softsign Tanh"
_ARITHMETIC = "Add Sub Mul Max Min"
_TRUTHS = "Equal Less LessOrEqual Greater GreaterOrEqual"
_REDUCTIONS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp"

CONVOLUTIONS = [
    e("Conv", IMAGE, w(4, 3, 3, 3)),
    e("Conv", IMAGE, w(4, 3, 3, 3), w(4), pads=[1, 1, 1, 1]),
    e("Conv", (1, 3, 8, 8), w(4, 3, 3, 3), w(4), pads=[1, 1, 1, 1], strides=[2, 2]),
    e("Conv", IMAGE, w(4, 3, 3, 2), w(4), pads=[0, 1, 2, 0], strides=[1, 2]),
    e("Conv", IMAGE, w(4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    e("Conv", IMAGE, w(4, 3, 2, 2), auto_pad="SAME_LOWER"),
    e("Conv", IMAGE, w(4, 3, 3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]),
    e("Conv", (1, 4, 7, 7), w(4, 1, 3, 3), w(4), group=4, pads=[1, 1, 1, 1]),
    e("Conv", (1, 4, 7, 7), w(8, 1, 3, 3), group=4, strides=[2, 2]),
    e("Conv", (1, 4, 7, 7), w(6, 2, 3, 3), w(6), group=2),
    e("Conv", (2, 3, 10), w(4, 3, 3), w(4), pads=[1, 1]),
    e("Conv", (1, 3, 10), w(3, 1, 4), group=3, strides=[2]),
    e("ConvTranspose", (1, 3, 5, 4), w(3, 4, 2, 2), w(4), strides=[2, 2]),
    e("ConvTranspose", (1, 3, 5, 4), w(3, 4, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2], output_padding=[1, 1]),
    e("ConvTranspose", (1, 3, 5, 4), w(3, 4, 4, 4), w(4), pads=[1, 1, 1, 1], strides=[2, 2]),
    e("ConvTranspose", (1, 3, 5, 4), w(3, 4, 2, 3), w(4), dilations=[2, 1], strides=[2, 1], pads=[0, 1, 1, 0]),
    e("ConvTranspose", (1, 4, 5, 5), w(4, 2, 3, 3), group=2, strides=[2, 2], pads=[0, 1, 1, 0]),
    e("ConvTranspose", (2, 3, 7), w(3, 4, 4), w(4), strides=[2], pads=[1, 1]),
    e("ConvTranspose", (1, 4, 7), w(4, 2, 3), group=2, dilations=[2], strides=[2], pads=[2, 0], output_padding=[1]),
    e("ConvTranspose", (1, 3, 7), w(3, 4, 3), strides=[2], auto_pad="SAME_UPPER"),
]
PRODUCTS = [
    e("Gemm", (4, 6), w(6, 5), beta=2.0),
    e("Gemm", (4, 6), w(6, 5), w(5)),
    e("Gemm", (4, 6), w(5, 6), w(5), transB=1),
    e("Gemm", (6, 4), w(6, 5), w(4, 5), transA=1, alpha=0.5, beta=2.0),
    e("Gemm", (4, 6), (6, 5)),
    e("Gemm", (4, 6), w(6, 5), (5,), beta=0.5),
    e("MatMul", (2, 4, 6), w(6, 5)),
    e("MatMul", (2, 3, 4, 6), (2, 3, 6, 5)),
    e("MatMul", (3, 4, 6), w(3, 6, 5)),
    e("MatMul", (4, 6), (6,)),
    e("MatMul", (2, 4, 6), w(6)),
    e("MatMul", (6,), (2, 6, 3)),
    e("MatMul", (2, 1, 4, 6), (3, 6, 5)),
    e("Einsum", (2, 3, 4, 5), (2, 3, 6, 5), equation="bhid,bhjd->bhij"),
    e("Einsum", (2, 3, 4), w(4, 5), equation="bic,co->obi"),
    e("Einsum", (2, 3), (4, 5), equation="ab,cd->dab"),
    e("Einsum", (2, 3, 4), equation="abc->ca"),
]
POOLS = [
    e("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    e("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], low=-3.0, high=-1.0),
    e("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    e("MaxPool", (1, 3, 9), kernel_shape=[3], pads=[1, 1]),
    e("AveragePool", IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    e("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    e("AveragePool", (1, 3, 8, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    e("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    e("AveragePool", IMAGE, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    e("AveragePool", IMAGE, kernel_shape=[9, 8]),
    e("AveragePool", (1, 3, 9), kernel_shape=[3]),
    e("GlobalAveragePool", IMAGE),
    e("GlobalAveragePool", (1, 3, 9)),
    e("GlobalMaxPool", IMAGE),
]
POINTWISE = [
    *(e(op, shape) for op in _UNARY.split() for shape in (IMAGE, (7,))),
    *(e(op, ROWS, **POSITIVE) for op in ("Log", "Sqrt", "Reciprocal")),
    *(e(op, IMAGE, other) for op in _ARITHMETIC.split() for other in (IMAGE, (3, 1, 1), w(1, 3, 1, 1), f(0.5))),
    *(e(op, (4, 1), (3, 1, 5)) for op in ("Add", "Mul")),
    *(e(op, IMAGE, IMAGE, **POSITIVE) for op in ("Div", "Pow")),
    e("Div", IMAGE, f(3.0)),
    e("Sum", ROWS, (6,), ROWS),
    e("Mean", ROWS, (6,), ROWS),
    e("Max", ROWS, ROWS, f(0.1)),
    *(e(op, ROWS, (6,), kind=np.int32) for op in _TRUTHS.split()),
    *(e(op, ROWS, (6,), kind=np.bool_) for op in ("And", "Or")),
    e("Not", ROWS, kind=np.bool_),
    e("Mod", ROWS, i(3).astype(np.int32), kind=np.int32, low=-9, high=9),
    *(
        e("Clip", IMAGE, *limits)
        for limits in ((f(0), f(6)), (f(-1), f(1)), (f(-0.5), f(0.7)), (None, f(0.3)), (f(0),))
    ),
    e("LeakyRelu", IMAGE, alpha=0.2),
    e("PRelu", IMAGE, w(3, 1, 1)),
    e("Elu", ROWS),
    e("Elu", ROWS, alpha=0.5),
    e("HardSigmoid", ROWS, alpha=0.25, beta=0.4),
    e("Gelu", ROWS),
    e("Gelu", ROWS, approximate="tanh"),
    e("Swish", ROWS, opset=24, alpha=1.5),
    e("ThresholdedRelu", ROWS, alpha=0.4),
    e("Where", np.array([[True], [False]]), (2, 3), (3,)),
    e("Cast", ROWS, to=TensorProto.INT32),
    e("BatchNormalization", IMAGE, w(3), w(3), w(3), np.abs(w(3))),
]
MOVES = [
    e("Identity", ROWS),
    e("Dropout", ROWS),
    e("Reshape", IMAGE, i(1, -1)),
    e("Reshape", ROWS, i(0, 3, -1)),
    e("Flatten", IMAGE),
    e("Squeeze", (1, 3, 1, 2), i(0, 2)),
    e("Unsqueeze", (3, 2), i(0, 3)),
    e("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    e("Transpose", ROWS),
    e("Concat", IMAGE, (1, 2, 9, 8), axis=1),
    e("Concat", ROWS, w(2, 5, 6), axis=-1),
    e("Split", (2, 6, 3), axis=1, outputs=3, num_outputs=3),
    e("Split", (2, 6, 3), i(1, 5), axis=1, outputs=2),
    e("Slice", IMAGE, i(1, 2), i(3, -1), i(1, 2)),
    e("Slice", IMAGE, i(1), i(9), i(2), i(2)),
    e("Slice", (1, 3, 8, 6), i(1, 0), i(8, 6), i(2, 3), i(2, 3)),
    e("Slice", (3, 5), i(0), i(2), i(1)),
    e("Slice", (3, 5), i(-1), i(-20), i(1), i(-1)),
    e("Slice", (8, 5), i(-1), i(-20), i(0), i(-2)),
    e("Gather", ROWS, i(4, -1, 0), axis=1),
    e("Gather", ROWS, np.array(1), axis=2),
    e("GatherND", ROWS, np.array([[1, 2], [0, 4]])),
    e("Expand", (3, 1), i(2, 3, 4)),
    e("Tile", ROWS, i(1, 2, 3)),
    e("Pad", IMAGE, i(0, 0, 1, 2, 0, 0, 0, 1)),
    e("Pad", IMAGE, i(1, 2, 0, 1), f(0.5).reshape(()), i(1, -1)),
    e("Pad", IMAGE, i(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
    e("Pad", IMAGE, i(0, 0, -1, 2, 0, 0, -2, 0)),
    e("DepthToSpace", (1, 8, 3, 2), blocksize=2),
    e("DepthToSpace", (1, 8, 3, 2), blocksize=2, mode="CRD"),
    e("SpaceToDepth", (1, 3, 4, 6), blocksize=2),
    e("Pad", IMAGE, i(0, 0, 1, 2, 0, 0, 0, 1), mode="edge"),
    e("Trilu", ROWS),
    e("Trilu", (5, 4), np.array(-1), upper=0),
    e("CumSum", ROWS, np.array(1)),
    e("CumSum", ROWS, np.array(-1), exclusive=1, reverse=1),
]
REDUCED = [
    *(e(op, ROWS, i(1)) for op in _REDUCTIONS.split()),
    *(e(op, IMAGE, i(2, 3), keepdims=0) for op in ("ReduceMean", "ReduceMax", "ReduceL2")),
    e("ReduceSum", ROWS),
    e("ReduceLogSum", ROWS, i(0), **POSITIVE),
    e("Softmax", ROWS),
    e("Softmax", IMAGE, axis=1),
    e("LogSoftmax", ROWS, axis=1),
    e("ArgMax", ROWS, axis=1),
    e("TopK", ROWS, i(3), outputs=2),
    e("TopK", ROWS, i(2), axis=1, outputs=2),
    e("ArgMin", ROWS, axis=-1, keepdims=0),
    e("LpNormalization", ROWS, axis=1),
    e("LpNormalization", ROWS, p=1),
]
NORMALIZED = [
    e("LayerNormalization", ROWS, w(6), w(6)),
    e("LayerNormalization", ROWS, w(5, 6), axis=1, epsilon=1e-3),
    e("RMSNormalization", ROWS, w(6), opset=23),
    e("InstanceNormalization", IMAGE, w(3), w(3)),
    e("GroupNormalization", (1, 4, 5, 3), w(4), w(4), num_groups=2),
]
_HALVES = {"coordinate_transformation_mode": "half_pixel"}
_CORNERS = {"coordinate_transformation_mode": "align_corners"}
_CORNER = {"coordinate_transformation_mode": "asymmetric"}
RESIZED = [
    e("Resize", IMAGE, None, None, i(1, 3, 18, 16), mode="linear", **_HALVES),
    e("Resize", IMAGE, None, f(1, 1, 2, 1.5), mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    e("Resize", IMAGE, None, None, i(1, 3, 5, 4), mode="linear", **_CORNERS),
    e("Resize", IMAGE, None, None, i(1, 3, 18, 16), mode="linear", **_CORNER),
    e("Resize", IMAGE, None, f(1, 1, 2, 2), mode="nearest", nearest_mode="floor", **_CORNER),
    e("Resize", IMAGE, None, f(1, 1, 2, 2), mode="nearest", **_HALVES),
]
_H = 4
RECURRENT = [
    e("LSTM", (3, 2, 5), w(1, 4 * _H, 5), w(1, 4 * _H, _H), w(1, 8 * _H), hidden_size=_H, outputs=3),
    e("LSTM", (3, 1, 5), w(2, 4 * _H, 5), w(2, 4 * _H, _H), hidden_size=_H, direction="bidirectional", outputs=2),
    e("GRU", (3, 2, 5), w(1, 3 * _H, 5), w(1, 3 * _H, _H), w(1, 6 * _H), hidden_size=_H, outputs=2),
    e(
        "GRU",
        (3, 2, 5),
        w(1, 3 * _H, 5),
        w(1, 3 * _H, _H),
        w(1, 6 * _H),
        None,
        (1, 2, _H),
        hidden_size=_H,
        linear_before_reset=1,
        direction="reverse",
    ),
    e("RNN", (3, 2, 5), w(1, _H, 5), w(1, _H, _H), w(1, 2 * _H), hidden_size=_H),
]
EXAMPLES = [
    *CONVOLUTIONS,
    *PRODUCTS,
    *POOLS,
    *POINTWISE,
    *MOVES,
    *REDUCED,
    *NORMALIZED,
    *RESIZED,
    *RECURRENT,
]
