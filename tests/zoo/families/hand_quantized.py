"""Hand-made graphs: quantized networks in the forms that tools write."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from ..inputs import floats
from ..registry import handmade

LOOSE = 1e-3


def rounded(g: Graph, y: str, step: float = 0.05) -> str:
    """Quantize and dequantize with one step for the whole tensor."""
    scale, zero = g.const(step), g.const(3, "int8")
    return g.op("DequantizeLinear", g.op("QuantizeLinear", y, scale, zero), scale, zero)


def integer_weight(g: Graph, *shape: int, axis: int = 0, dtype: str = "int8") -> str:
    """Stored integers, dequantized with a step per index of one axis."""
    steps = 1.3 / 50 / np.sqrt(np.prod(shape) / shape[axis]) * g.random.uniform(0.7, 1.3, shape[axis])
    values = g.random.integers(-100, 100, shape) + (128 if dtype == "uint8" else 0)
    zero = g.const(np.full(shape[axis], 128 if dtype == "uint8" else 0), dtype)
    return g.op("DequantizeLinear", g.const(values, dtype), g.const(steps), zero, axis=axis)


def integer_bias(g: Graph, width: int) -> str:
    """A bias of 32-bit integers with a step per channel."""
    values, steps = g.random.integers(-300, 500, width), g.random.uniform(5e-4, 1e-3, width)
    return g.op("DequantizeLinear", g.const(values, "int32"), g.const(steps), g.const(np.zeros(width), "int32"), axis=0)


@handmade("hand_qdq_conv", tags=("quantized",), tolerance=LOOSE, x=floats(2, 3, 8, 8))
def qdq_conv(g: Graph, x: str) -> str:
    """Residual and depthwise convolutions with integer weights per channel, integer biases, rounded activations."""

    def conv(y: str, inside: int, out: int, kernel: int = 3, groups: int = 1) -> str:
        weight = integer_weight(g, out, inside // groups, kernel, kernel)
        return rounded(g, g.op("Conv", y, weight, integer_bias(g, out), pads=[kernel // 2] * 4, group=groups))

    y = g.op("Relu", conv(rounded(g, x), 3, 14))
    z = g.op("Relu", conv(y, 14, 14, groups=14))
    y = rounded(g, g.op("Add", y, conv(z, 14, 14, 1)))
    y = g.op("Relu", conv(y, 14, 20))
    return g.linear(rounded(g, g.op("Flatten", g.op("GlobalAveragePool", y))), 20, 5)


@handmade("hand_qdq_linear", tags=("quantized",), tolerance=LOOSE, opset=21, x=floats(2, 12))
def qdq_linear(g: Graph, x: str) -> str:
    """Steps per column of a MatMul weight, per row of a Gemm weight, and per block of rows."""
    y = g.op("Relu", g.op("MatMul", rounded(g, x), integer_weight(g, 12, 24, axis=1, dtype="uint8")))
    y = g.op("Relu", g.op("Gemm", rounded(g, y), integer_weight(g, 16, 24), integer_bias(g, 16), transB=1))
    steps = g.const(g.random.uniform(0.002, 0.005, (4, 18)))
    blocks = g.op(
        "DequantizeLinear", g.const(g.random.integers(-100, 100, (16, 18)), "int8"), steps, block_size=4, axis=0
    )
    return g.matmul(g.op("Relu", g.op("MatMul", y, blocks)), 18, 5)


@handmade("hand_qdq_float_weight", tags=("quantized",), tolerance=LOOSE, x=floats(2, 3, 8, 8))
def qdq_float_weight(g: Graph, x: str) -> str:
    """Weights are still float and rounded inside the graph, per channel (as after quantization-aware training)."""

    def conv(y: str, inside: int, out: int) -> str:
        steps, zero = g.const(np.full(out, 0.01)), g.const(np.zeros(out), "int8")
        q = g.op("QuantizeLinear", g.weight(out, inside, 3, 3), steps, zero, axis=0)
        weight = g.op("DequantizeLinear", q, steps, zero, axis=0)
        return rounded(g, g.op("Relu", g.op("Conv", y, weight, g.vector(out), pads=[1] * 4)))

    y = conv(rounded(g, x), 3, 14)
    y = g.op("Concat", y, conv(y, 14, 10), axis=1)
    return g.classify(conv(y, 24, 18), 18)


@handmade("hand_qlinear", tags=("quantized",), tolerance=LOOSE, x=floats(2, 3, 8, 8))
def qlinear(g: Graph, x: str) -> str:
    """QLinearConv and QLinearMatMul: integers all the way."""
    step, zero = g.const(0.04), g.const(128, "uint8")

    def conv(y: str, inside: int, out: int) -> str:
        weight = g.const(g.random.integers(-60, 60, (out, inside, 3, 3)), "int8")
        steps = g.const(g.random.uniform(0.004, 0.006, out))
        bias = g.const(g.random.integers(-300, 600, out), "int32")
        zeros = g.const(np.zeros(out), "int8")
        return g.op("QLinearConv", y, step, zero, weight, steps, zeros, step, zero, bias, pads=[1] * 4)

    y = g.op("QuantizeLinear", x, step, zero)
    y = g.op("MaxPool", conv(conv(y, 3, 14), 14, 18), kernel_shape=[8, 8])
    y = g.op("Reshape", y, g.const([2, 18]))
    weight = g.const(g.random.integers(-60, 60, (18, 10)), "int8")
    y = g.op("QLinearMatMul", y, step, zero, weight, g.const(0.005), g.const(0, "int8"), step, zero)
    return g.matmul(g.op("DequantizeLinear", y, step, zero), 10, 5)


@handmade("hand_dynamic_quantization", tags=("quantized",), tolerance=LOOSE, x=floats(2, 12))
def dynamic_quantization(g: Graph, x: str) -> str:
    """DynamicQuantizeLinear, MatMulInteger, Cast and two factors, as dynamic quantizers write it."""

    def linear(y: str, inside: int, out: int) -> str:
        q, step, zero = g.ops("DynamicQuantizeLinear", y, count=3)
        weight = g.const(g.random.integers(-100, 100, (inside, out)), "int8")
        total = g.op("MatMulInteger", q, weight, zero, g.const(0, "int8"))
        factor = g.op("Mul", step, g.const(g.random.uniform(0.004, 0.006, out)))
        return g.op("Add", g.op("Mul", g.op("Cast", total, to=1), factor), g.vector(out))

    y = g.op("Relu", linear(x, 12, 24))
    return linear(g.op("Relu", linear(y, 24, 18)), 18, 5)


@handmade("hand_integer_conv", tags=("quantized",), tolerance=LOOSE, x=floats(2, 3, 8, 8))
def integer_conv(g: Graph, x: str) -> str:
    """ConvInteger with a step per channel, between float layers."""
    y = g.op("Relu", g.conv(x, 3, 14))
    q, step, zero = g.ops("DynamicQuantizeLinear", y, count=3)
    weight = g.const(g.random.integers(-100, 100, (20, 14, 3, 3)), "int8")
    total = g.op("ConvInteger", q, weight, zero, g.const(0, "int8"), pads=[1] * 4)
    factor = g.op("Mul", step, g.const(g.random.uniform(0.001, 0.002, (20, 1, 1))))
    y = g.op("Relu", g.op("Add", g.op("Mul", g.op("Cast", total, to=1), factor), g.vector(20, 1, 1)))
    return g.classify(g.conv(y, 20, 12), 12)


@handmade("hand_float16_weights", tags=("half",), tolerance=1e-2, x=floats(2, 3, 8, 8))
def float16_weights(g: Graph, x: str) -> str:
    """Weights stored in 16 bits and cast where they are used; activations stay in 32."""

    def conv(y: str, inside: int, out: int) -> str:
        weight = g.const(g.random.standard_normal((out, inside, 3, 3)) / (9 * inside) ** 0.5, "float16")
        return g.op("Conv", y, g.op("Cast", weight, to=1), g.vector(out), pads=[1] * 4)

    y = g.op("Relu", conv(x, 3, 14))
    y = g.op("Add", y, conv(g.op("Relu", conv(y, 14, 20)), 20, 14))
    return g.classify(g.op("Relu", conv(y, 14, 16)), 16)
