"""What is told of OpenVINO's integer kernels, against the graph that it makes of quantized models, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from intaglio.graph.traits import OPERATORS, Runtime, Trait, has, has_any, operator
from intaglio.graph.traits.standard import STANDARD

UNARY = """
Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu GlobalAveragePool GlobalMaxPool
HardSigmoid HardSwish LeakyRelu Log Mish Neg Reciprocal Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan
Tanh ThresholdedRelu
"""
BINARY = "Add Div Max Mean Min Mul PRelu Pow Sub Sum"
REDUCED = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"
TRIED = {
    **{op: f"m = {op}(c)" for op in UNARY.split()},
    **{op: f"m = {op}(c, e)" for op in BINARY.split()},
    **{f"Reduce{what}": f"m = Reduce{what} <keepdims = 1> (c, axes)" for what in REDUCED.split()},
    "AveragePool": "m = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (c)",
    "Compress": "m = Compress <axis = 2> (c, some)",
    "Concat": "m = Concat <axis = 1> (c, e)",
    "Conv": "m = Conv <pads = [1, 1, 1, 1]> (c, w)",
    "ConvTranspose": "m = ConvTranspose <strides = [2, 2]> (c, t)",
    "CumSum": "m = CumSum(c, two)",
    "DepthToSpace": "m = DepthToSpace <blocksize = 2> (c)",
    "Einsum": 'm = Einsum <equation = "nchw,nchv->nchv"> (c, e)',
    "Expand": "m = Expand(c, wide)",
    "Flatten": "m = Flatten(c)",
    "Gather": "m = Gather <axis = 2> (c, last)",
    "GatherElements": "m = GatherElements <axis = 2> (c, places)",
    "GatherND": "m = GatherND <batch_dims = 1> (c, last2)",
    "Gemm": "f = Flatten(c) m = Gemm <transB = 1> (f, v)",
    "GridSample": "m = GridSample(c, grid)",
    "Hardmax": "m = Hardmax <axis = 1> (c)",
    "InstanceNormalization": "m = InstanceNormalization(c, eights, eights)",
    "LRN": "m = LRN <size = 3> (c)",
    "LayerNormalization": "m = LayerNormalization(c, eights, eights)",
    "LogSoftmax": "m = LogSoftmax <axis = 1> (c)",
    "LpNormalization": "m = LpNormalization <axis = 1> (c)",
    "MatMul": "m = MatMul(c, u)",
    "MaxPool": "m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)",
    "Pad": "i = Pad(cq, pads, z) m = DequantizeLinear(i, s, z)",
    "Reshape": "m = Reshape(c, shape)",
    "Resize": 'm = Resize <mode = "nearest"> (c, , doubled)',
    "ScatterElements": "m = ScatterElements <axis = 2> (c, places, e)",
    "ScatterND": "m = ScatterND(c, third, e3)",
    "Slice": "m = Slice(c, first, last, axes)",
    "Softmax": "m = Softmax <axis = 1> (c)",
    "SpaceToDepth": "i = SpaceToDepth <blocksize = 2> (cq) m = DequantizeLinear(i, s, z)",
    "Split": "m, n = Split <axis = 2, num_outputs = 2> (c)",
    "Squeeze": "m = Squeeze(c, nought)",
    "Tile": "m = Tile(c, twice)",
    "TopK": "m, n = TopK <axis = 2> (c, four)",
    "Transpose": "m = Transpose <perm = [0, 1, 3, 2]> (c)",
    "Trilu": "m = Trilu(c)",
    "Unsqueeze": "m = Unsqueeze(c, two)",
    "Where": "m = Where(mask, c, e)",
}
"""How each operator stands between two convolutions, ``c`` and ``e``, and a third that reads ``m``."""
BESIDE = (
    Trait.BITWISE
    | Trait.BODIES
    | Trait.IDLE
    | Trait.INTEGER
    | Trait.QUANTIZES
    | Trait.RANDOM
    | Trait.RECTIFIES
    | Trait.RECURRENT
    | Trait.SHAPE_ONLY
)
"""Traits of what does not compute numbers, or is taken up by what is in front."""
UNTRIED = {
    "gives no numbers, or as many as it is told": """
Cast CastLike ConstantOfShape Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual OneHot Range
""",
    "is folded into the layer in front": "BatchNormalization",
    "is rarely met in networks that are quantized, and left in floats": """
Attention CausalConvWithState CenterCropPad Col2Im CumProd DFT DeformConv GlobalLpPool GroupNormalization LpPool
MaxRoiPool MaxUnpool MeanVarianceNormalization Mod RMSNormalization ReverseSequence RoiAlign RotaryEmbedding STFT
Scatter Shrink SimplifiedLayerNormalization SwiGLU TensorScatter Upsample
""",
}
GENERATED = ("Subgraph", "Eltwise", "Math")
"""Kinds of OpenVINO's nodes that compute in floats, whatever they read and write."""
EIGHT_BITS = ("u8", "i8")
CONSTANTS: dict[str, np.ndarray] = {
    **{
        name: np.array(value, np.int64)
        for name, value in {
            "axes": [2, 3],
            "first": [0, 0],
            "four": [4],
            "last": [4, 4],
            "last2": [[[0, 1]] * 8],
            "nought": [0],
            "pads": [0, 0, 1, 1, 0, 0, 1, 1],
            "places": np.arange(512).reshape(1, 8, 8, 8) % 8,
            "shape": [0, 8, -1, 4],
            "third": [[0, 3]],
            "twice": [1, 1, 2, 1],
            "two": [2],
            "wide": [2, 8, 8, 8],
        }.items()
    },
    "s": np.array(0.03, np.float32),
    "z": np.array(128, np.uint8),
    "doubled": np.array([1, 1, 2, 2], np.float32),
    "eights": np.arange(1, 9, dtype=np.float32) / 8,
    "e3": np.ones((1, 8, 8), np.float32),
    "grid": np.linspace(-1, 1, 128, dtype=np.float32).reshape(1, 8, 8, 2),
    "mask": (np.arange(512) % 3 > 0).reshape(1, 8, 8, 8),
    "some": np.array([True, False] * 4),
}
WEIGHTS: dict[str, tuple[tuple[int, ...], int]] = {
    "a": ((8, 4, 3, 3), 0),
    "b": ((8, 4, 3, 3), 0),
    "t": ((8, 6, 2, 2), 1),
    "u": ((8, 8), 1),
    "v": ((16, 512), 0),
    "w": ((8, 8, 3, 3), 0),
}
"""Shapes, and axes of the scales."""
HEAD = '<ir_version: 10, opset_import: ["" : 24]> between (float[1, 4, 8, 8] x) => (float[] y) {'


def rounded(raw: str, name: str) -> str:
    return f"{name}q = QuantizeLinear({raw}, s, z) {name} = DequantizeLinear({name}q, s, z) "


def put(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> None:
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def put_weight(model: onnx.ModelProto, name: str, shape: tuple[int, ...], axis: int = 0) -> None:
    """A constant of 8 bits, which a DequantizeLinear in front makes floats of."""
    integers = np.random.default_rng(0).integers(-127, 128, shape, np.int8)
    scale, zero = np.full(shape[axis], 0.01, np.float32), np.zeros(shape[axis], np.int8)
    parts = {f"{name}/q": integers, f"{name}/scale": scale, f"{name}/zero": zero}
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", list(parts), [name], axis=axis))
    put(model, parts)


def network(op: str) -> onnx.ModelProto:
    """Two convolutions in integers, the operator between conversions, a product in integers."""
    layers = "".join(f"{c}0 = Conv <pads = [1, 1, 1, 1]> (xr, {w}) {rounded(f'{c}0', c)}" for c, w in ("ca", "eb"))
    end = "r = Identity(m)" if has(op, Trait.ON_INTEGERS) else rounded("m", "r")
    model = onnx.parser.parse_model(f"{HEAD} {rounded('x', 'xr')} {layers} {TRIED[op]} {end} }}")
    read = {name for node in model.graph.node for name in node.input}
    put(model, {name: value for name, value in CONSTANTS.items() if name in read})
    for name in WEIGHTS.keys() & read:
        put_weight(model, name, *WEIGHTS[name])
    values = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.value_info
    (dims,) = ([d.dim_value for d in v.type.tensor_type.shape.dim] for v in values if v.name == "r")
    put_weight(model, "l", *(((5, dims[1], 1, 1), 0) if len(dims) == 4 else ((dims[-1], 5), 1)))
    model.graph.node.append(onnx.helper.make_node("Conv" if len(dims) == 4 else "MatMul", ["r", "l"], ["y"]))
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def executed(model: onnx.ModelProto, openvino: Any) -> list[tuple[str, set[str], str, str]]:
    """What OpenVINO runs between the first conversion and the end: the kind, whose part it is, what it reads and makes."""
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    nodes = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        kind, names = (node.get_rt_info()[key].astype(str) for key in ("layerType", "originalLayersNames"))
        if node.get_input_size() and names and not names.startswith(("xrq", "y")):
            types = node.get_input_element_type(0), node.get_output_element_type(0)
            nodes.append((kind, set(names.split(",")), *(one.to_string() for one in types)))
    return nodes


def in_integers(op: str, openvino: Any) -> bool:
    """Whether OpenVINO reads 8 bits and, unless it may give floats, makes 8 bits, in a kernel that is not of floats.

    One that was rewritten counts if that holds of all between the first conversion and the end.
    """
    nodes = executed(network(op), openvino)
    end = "i" if has(op, Trait.ON_INTEGERS) else "m"
    own = next((found for name in (f"{end}_original", end) if (found := [n for n in nodes if name in n[1]])), nodes)
    floats = Runtime.OPENVINO in operator(op).float_out
    return all(kind not in GENERATED and x in EIGHT_BITS and (floats or y in EIGHT_BITS) for kind, _, x, y in own)


@pytest.mark.parametrize("op", TRIED)
def test_openvino_has_the_kernels_that_are_told(op: str) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: its kernels are not looked at")
    assert in_integers(op, openvino) == (Runtime.OPENVINO in operator(op).integer)


def test_every_operator_is_decided_for_openvino() -> None:
    """Each is tried, or there is a reason why not; those with a kernel in any runtime are all tried."""
    named = [op for names in (*TRIED, *UNTRIED.values()) for op in names.split()]
    assert len(set(named)) == len(named)
    standard = {op for names in STANDARD for op in names.split()}
    assert {op for op in standard if not has_any(op, BESIDE)} == set(named) - {"Identity"}
    assert {op for op, row in OPERATORS.items() if row.integer} <= set(TRIED)
