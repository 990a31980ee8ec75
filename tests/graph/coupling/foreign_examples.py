"""Example graphs for operators outside the standard: those of ONNX Runtime, and of classical learners."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from tests.zoo.graph import Graph

from .examples import IMAGE, SEQUENCE, WIDTH, closed, example, grown

RUNTIME, LEARNERS = "com.microsoft", "ai.onnx.ml"
UINT8 = onnx.TensorProto.UINT8


def foreign(g: Graph, domain: str, op: str, shape: tuple[int, ...] | None, *inputs: str, **attributes: Any) -> str:
    """An operator that onnx infers no shape of: the shape is said, so that the rest of the graph can be checked."""
    return several(g, domain, op, [shape], *inputs, **attributes)[0]


def several(g: Graph, domain: str, op: str, shapes: list[Any], *inputs: str, **attributes: Any) -> list[str]:
    kind = attributes.pop("kind", onnx.TensorProto.FLOAT)
    g.domains[domain] = 3 if domain == LEARNERS else 1
    made = g.ops(op, *inputs, count=len(shapes), domain=domain, **attributes)
    g.known += [g.state(y, shape, kind) for y, shape in zip(made, shapes, strict=True) if shape is not None]
    return made


def runtime(g: Graph, op: str, *inputs: str, shape: tuple[int, ...] = (2, 5, WIDTH), **attributes: Any) -> str:
    return foreign(g, RUNTIME, op, shape, *inputs, **attributes)


# Index by index -------------------------------------------------------------------------------------------------------


@example(
    "com.microsoft:BiasGelu", "com.microsoft:FastGelu", "com.microsoft:Gelu", "com.microsoft:QuickGelu", shape=SEQUENCE
)
def activations(g: Graph, x: str) -> str:
    y = runtime(g, "BiasGelu", grown(g, x), g.vector(WIDTH))
    y = runtime(g, "FastGelu", runtime(g, "FastGelu", y, g.vector(WIDTH)))
    return closed(g, runtime(g, "QuickGelu", runtime(g, "Gelu", y), alpha=1.7))


# Normalizations -------------------------------------------------------------------------------------------------------


@example("com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization", shape=SEQUENCE)
def sums_that_are_normalized(g: Graph, x: str) -> str:
    whole, moment = (2, 5, WIDTH), (2, 5, 1)
    y, mean, spread, total = several(
        g, RUNTIME, "SkipLayerNormalization", [whole, moment, moment, whole], grown(g, x), grown(g, x),
        g.scale(WIDTH), g.vector(WIDTH), g.vector(WIDTH), epsilon=0.01,
    )  # fmt: skip
    z = runtime(g, "SkipSimplifiedLayerNormalization", total, y, g.scale(WIDTH), g.vector(WIDTH), epsilon=0.01)
    return closed(g, g.op("Mul", g.op("Sub", z, mean), spread))


@example("com.microsoft:QEmbedLayerNormalization", shape=SEQUENCE)
def embeddings_in_integers(g: Graph, x: str) -> str:
    words = g.const(np.arange(10).reshape(2, 5) % 7, "int32")
    tables = [_bytes(g, n, WIDTH) for n in (7, 6, 3)]
    scales, zeros = [g.const(0.01)] * 5, [g.const(100, "uint8")] * 5
    vectors = [_bytes(g, WIDTH) for _ in range(2)]
    places = g.const(np.zeros((2, 5)), "int32")
    y, _ = several(
        g, RUNTIME, "QEmbedLayerNormalization", [(2, 5, WIDTH), None], words, places, *tables, *vectors, "", *scales, *zeros,
        epsilon=0.01,
    )  # fmt: skip
    return closed(g, g.op("Add", y, grown(g, x)))


# Products -------------------------------------------------------------------------------------------------------------


@example("com.microsoft:FusedMatMul", shape=SEQUENCE)
def products_of_turned_sides(g: Graph, x: str) -> str:
    y, z = grown(g, x), grown(g, x)
    scores = runtime(g, "FusedMatMul", y, z, shape=(2, 5, 5), transB=1, alpha=0.3)
    mixed = runtime(g, "FusedMatMul", y, g.op("Softmax", scores), shape=(2, WIDTH, 5), transA=1)
    return runtime(g, "FusedMatMul", mixed, g.weight(WIDTH, 3, fan_in=8), shape=(2, 5, 3), transA=1)


def _to_bytes(g: Graph, y: str) -> str:
    return g.op("QuantizeLinear", y, g.const(0.02), g.const(7, "uint8"))


def _bytes(g: Graph, *shape: int) -> str:
    return g.const(g.random.integers(0, 255, shape), "uint8")


@example("com.microsoft:DynamicQuantizeMatMul", "com.microsoft:MatMulIntegerToFloat", shape=SEQUENCE)
def products_of_integers(g: Graph, x: str) -> str:
    zero = g.const(120, "uint8")
    scales = g.const(np.linspace(0.001, 0.004, 6))
    y = runtime(
        g,
        "DynamicQuantizeMatMul",
        grown(g, x),
        _bytes(g, WIDTH, 6),
        scales,
        g.const(np.full(6, 120), "uint8"),
        g.vector(6),
        shape=(2, 5, 6),
    )
    y = runtime(
        g,
        "MatMulIntegerToFloat",
        _to_bytes(g, y),
        _bytes(g, 6, 7),
        g.const(0.02),
        g.const(0.003),
        g.const(7, "uint8"),
        zero,
        g.vector(7),
        shape=(2, 5, 7),
    )
    return closed(g, y, 7)


@example("com.microsoft:QGemm", shape=(4, 6))
def quantized_gemm(g: Graph, x: str) -> str:
    y = _to_bytes(g, g.matmul(x, 6, WIDTH))
    weight, bias = (
        g.const(g.random.integers(-120, 120, (6, WIDTH)), "int8"),
        g.const(g.random.integers(-9, 9, 6), "int32"),
    )
    y = runtime(
        g, "QGemm", y, g.const(0.02), g.const(7, "uint8"), weight, g.const(np.full(6, 0.01)), g.const(np.zeros(6), "int8"),
        bias, shape=(4, 6), transB=1,
    )  # fmt: skip
    return closed(g, y, 6)


@example("com.microsoft:MatMulNBits", shape=SEQUENCE)
def four_bits(g: Graph, x: str) -> str:
    """Its outputs can go, its inputs only all together: they share a block that is not full."""
    y = runtime(g, "MatMulNBits", x, _bytes(g, WIDTH, 1, 8), g.scale(WIDTH), K=6, N=WIDTH, bits=4, block_size=16)
    return closed(g, g.op("Relu", y))


@example("com.microsoft:MatMulNBits", shape=SEQUENCE)
def blocks_of_inputs(g: Graph, x: str) -> str:
    """Three blocks of inputs, with zero points two to a byte, one to a byte, and in floats."""
    y = g.op("Relu", g.matmul(x, 6, 48))
    for zeros in (_bytes(g, 48, 2), _bytes(g, 48 * 2), g.const(g.random.uniform(0, 15, (48, 3)))):
        scales = g.const(g.random.uniform(0.01, 0.02, (48, 3)))
        y = runtime(
            g, "MatMulNBits", y, _bytes(g, 48, 3, 8), scales, zeros, shape=(2, 5, 48), K=48, N=48, bits=4, block_size=16
        )
        y = g.op("Relu", y)
    scales = g.const(g.random.uniform(0.001, 0.002, WIDTH * 3))
    y = runtime(g, "MatMulNBits", y, _bytes(g, WIDTH, 3, 16), scales, K=48, N=WIDTH, bits=8, block_size=16)
    return closed(g, g.op("Relu", y))


@example("com.microsoft:MatMulBnb4", shape=SEQUENCE)
def four_bits_by_a_table(g: Graph, x: str) -> str:
    """Rows of whole blocks: outputs can go, inputs with all others of their block."""
    for width, out in ((16, 48), (48, WIDTH)):
        weight = g.const(g.random.integers(0, 256, out * width // 2), "uint8")
        scales = g.const(g.random.uniform(0.1, 0.2, out * width // 16))
        x = g.matmul(x, 6, 16) if width == 16 else x
        x = runtime(g, "MatMulBnb4", x, weight, scales, shape=(2, 5, out), K=width, N=out, block_size=16, quant_type=1)
        x = g.op("Relu", x)
    return closed(g, x)


# Attention ------------------------------------------------------------------------------------------------------------


@example("com.microsoft:MultiHeadAttention", "com.microsoft:RotaryEmbedding", shape=SEQUENCE)
def heads_that_rotate(g: Graph, x: str) -> str:
    angles = g.random.uniform(0, 3, (9, 2))
    tables = [g.const(np.cos(angles)), g.const(np.sin(angles))]
    q, k, v = (g.matmul(x, 6, n) for n in (12, 12, 18))
    places = g.const(np.arange(10).reshape(2, 5) % 7)
    q, k = (runtime(g, "RotaryEmbedding", t, places, *tables, shape=(2, 5, 12)) for t in (q, k))
    y = runtime(g, "MultiHeadAttention", q, k, v, g.vector(42), num_heads=3, shape=(2, 5, 18))
    return closed(g, y, 18)


@example("com.microsoft:GroupQueryAttention", shape=SEQUENCE)
def queries_that_share_a_key(g: Graph, x: str) -> str:
    q, k, v = g.matmul(x, 6, 4 * 16), g.matmul(x, 6, 2 * 16), g.matmul(x, 6, 2 * 16)
    past = [g.const(np.zeros((2, 2, 0, 16))) for _ in range(2)]
    y, *_ = several(
        g, RUNTIME, "GroupQueryAttention", [(2, 5, 64), (2, 2, 5, 16), (2, 2, 5, 16)], q, k, v, *past,
        g.const([4, 4], "int32"), g.const(5, "int32"), num_heads=4, kv_num_heads=2,
    )  # fmt: skip
    return closed(g, y, 64)


@example("com.microsoft:QAttention", shape=SEQUENCE)
def heads_in_integers(g: Graph, x: str) -> str:
    y = _to_bytes(g, grown(g, x))
    weight, scales = g.const(g.random.integers(-100, 100, (WIDTH, 36)), "int8"), g.const(np.linspace(0.002, 0.005, 36))
    settings = g.const(0.02), scales, "", g.const(7, "uint8"), g.const(3, "int8")
    return closed(g, runtime(g, "QAttention", y, weight, g.vector(36), *settings, num_heads=3, shape=(2, 5, 12)), 12)


# Integers -------------------------------------------------------------------------------------------------------------


def scaled(g: Graph, op: str, shape: tuple[int, ...], *inputs: str, **attributes: Any) -> str:
    return runtime(g, op, *inputs, shape=shape, kind=UINT8, **attributes)


@example(*(f"com.microsoft:QLinear{op}" for op in ("Add", "Mul", "Where", "LeakyRelu", "Sigmoid", "Concat", "Softmax")))
def integers_index_by_index(g: Graph, x: str) -> str:
    scale, zero, whole = g.const(0.02), g.const(7, "uint8"), (2, WIDTH, 6, 6)
    (y, z), s = (_to_bytes(g, grown(g, x)) for _ in range(2)), (scale, zero)
    added = scaled(g, "QLinearAdd", whole, y, *s, z, *s, *s)
    y = scaled(g, "QLinearMul", whole, added, *s, _bytes(g, WIDTH, 1, 1), *s, *s)
    y = scaled(g, "QLinearLeakyRelu", whole, y, *s, *s, alpha=0.1)
    y = scaled(g, "QLinearSoftmax", whole, y, *s, *s, axis=3, opset=13)
    y = scaled(g, "QLinearWhere", whole, g.op("Greater", grown(g, x), g.const(0.0)), y, *s, z, *s, *s)
    y = scaled(g, "QLinearConcat", (2, 16, 6, 6), *s, y, *s, scaled(g, "QLinearSigmoid", whole, z, *s, *s), *s, axis=1)
    return closed(g, g.op("DequantizeLinear", y, scale, zero), 16)


@example("com.microsoft:QLinearAveragePool", "com.microsoft:QLinearGlobalAveragePool", shape=IMAGE)
def integers_in_windows(g: Graph, x: str) -> str:
    scale, zero = g.const(0.02), g.const(7, "uint8")
    y = scaled(
        g,
        "QLinearAveragePool",
        (2, WIDTH, 3, 3),
        _to_bytes(g, grown(g, x)),
        scale,
        zero,
        scale,
        zero,
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    y = scaled(g, "QLinearGlobalAveragePool", (2, WIDTH, 1, 1), y, scale, zero, scale, zero)
    return closed(g, g.op("DequantizeLinear", y, scale, zero))


@example("com.microsoft:QLinearConv", "com.microsoft:QuantizeLinear", "com.microsoft:DequantizeLinear")
def integers_of_the_runtime(g: Graph, x: str) -> str:
    scale, zero = g.const(0.02), g.const(7, "uint8")
    y = scaled(g, "QuantizeLinear", (2, WIDTH, 6, 6), grown(g, x), scale, zero)
    weight = g.const(g.random.integers(-120, 120, (6, WIDTH // 2, 1, 1)), "int8")
    y = scaled(
        g, "QLinearConv", (2, 6, 6, 6), y, scale, zero, weight, g.const(0.01), g.const(0, "int8"), scale, zero, group=2
    )
    return closed(g, runtime(g, "DequantizeLinear", y, scale, zero, shape=(2, 6, 6, 6)), 6)


@example("com.microsoft:DynamicQuantizeLSTM", shape=SEQUENCE)
def recurrent_in_integers(g: Graph, x: str) -> str:
    """One scale for each direction, then one for each column."""
    y = grown(g, x)
    for columns, inputs in ((1, WIDTH), (24, 12)):
        weights = [g.const(g.random.integers(-100, 100, (2, n, 24)), "int8") for n in (inputs, 6)]
        shape = (2, columns) if columns > 1 else (2,)
        settings = [g.const(g.random.uniform(0.002, 0.005, shape)), g.const(np.zeros(shape), "int8")]
        (y,) = several(
            g, RUNTIME, "DynamicQuantizeLSTM", [(2, 2, 5, 6)], y, *weights, g.vector(2, 48), "", "", "", "",
            *settings, *settings, hidden_size=6, direction="bidirectional",
        )  # fmt: skip
        y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), g.const([0, 0, -1]))
    return closed(g, y, 12)


QONNX = "qonnx.custom_op.general"
_DEFINITIONS = {
    "Quant": "(x, s, z, b) => (y) { a = Div(x, s) c = Add(a, z) r = Round(c) q = Sub(r, z) y = Mul(q, s) }",
    "IntQuant": "(x, s, z, b) => (y) { a = Div(x, s) c = Add(a, z) r = Round(c) q = Sub(r, z) y = Mul(q, s) }",
    "BipolarQuant": "(x, s) => (y) { o = Constant <value = float {0.0}> () a = Less(x, o) m = Neg(s) y = Where(a, m, s) }",
}
"""What runs here, for no runtime has them: what limits the integers is left out, which moves no channel."""


@example(*(f"{QONNX}:{op}" for op in _DEFINITIONS))
def quantized_in_training(g: Graph, x: str) -> str:
    g.domains[QONNX] = 1
    for op, body in _DEFINITIONS.items():
        text = f'<domain: "{QONNX}", opset_import: ["" : 17]> {op} {body}'
        g.functions.append(onnx.parser.parse_function(text))
    scale, zero, bits = g.scale(WIDTH, 1, 1), g.const(0.0), g.const(4.0)
    y = g.op("Quant", grown(g, x), scale, zero, bits, domain=QONNX, signed=1, narrow=0)
    y = g.op("IntQuant", y, g.const(0.1), zero, bits, domain=QONNX, signed=1, narrow=0)
    weight = g.op("BipolarQuant", g.weight(6, WIDTH, 1, 1), g.scale(6, 1, 1, 1), domain=QONNX)
    return closed(g, g.op("Conv", y, weight), 6)


# Learners -------------------------------------------------------------------------------------------------------------


@example(
    *(f"{LEARNERS}:{op}" for op in ("Scaler", "Imputer", "Normalizer", "LinearRegressor", "LinearClassifier")),
    shape=(4, 6),
)
def weights_in_attributes(g: Graph, x: str) -> list[str]:
    y = foreign(
        g,
        LEARNERS,
        "Scaler",
        (4, WIDTH),
        g.matmul(x, 6, WIDTH),
        offset=[0.1] * 7 + [0.3],
        scale=list(np.linspace(0.5, 1.5, WIDTH)),
    )
    y = foreign(g, LEARNERS, "Imputer", (4, WIDTH), y, imputed_value_floats=[float(k) for k in range(WIDTH)])
    y = foreign(g, LEARNERS, "Normalizer", (4, WIDTH), y, norm="L2")
    y = foreign(g, LEARNERS, "Normalizer", (4, WIDTH), y, norm="MAX")
    weights = {"coefficients": g.random.standard_normal(3 * WIDTH).tolist(), "intercepts": [0.1, 0.2, 0.3]}
    values = foreign(g, LEARNERS, "LinearRegressor", (4, 3), y, targets=3, **weights)
    _, scores = several(g, LEARNERS, "LinearClassifier", [None, (4, 3)], y, classlabels_ints=[0, 1, 2], **weights)
    return [values, scores]
