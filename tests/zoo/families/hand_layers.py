"""Hand-made graphs: layers, normalizations, activations and attention as single operators."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from ..inputs import floats, mask
from ..registry import handmade


@handmade("hand_gemm", x=floats(12, 2))
def gemm(g: Graph, x: str) -> str:
    """Gemm with either side transposed, with factors, and with every kind of third input or none."""
    y = g.op("Gemm", x, g.weight(12, 20, fan_in=12), g.vector(20), transA=1)
    y = g.op("Gemm", g.op("Relu", y), g.weight(18, 20), g.vector(1, 18), transB=1, alpha=0.7, beta=1.3)
    y = g.op("Gemm", g.op("Relu", y), g.weight(18, 14, fan_in=18))
    y = g.op("Gemm", g.op("Tanh", y), g.weight(14, 16, fan_in=14), g.const(0.2))
    y = g.op("Gemm", g.op("Relu", y), g.weight(16, 10, fan_in=16), g.vector(2, 1))
    left = g.op("Gemm", g.weight(12, 2), y, transB=0)
    return g.op("Gemm", left, g.weight(5, 12), g.vector(5), transA=1, transB=1)


@handmade("hand_matmul", x=floats(2, 3, 6, 12))
def matmul(g: Graph, x: str) -> str:
    """MatMul with broadcast weights of three and four axes, with vectors on both sides, and of two activations."""
    y = g.op("Relu", g.op("MatMul", x, g.weight(1, 12, 18, fan_in=12)))
    y = g.op("Relu", g.op("MatMul", y, g.weight(3, 18, 14, fan_in=18)))
    y = g.op("MatMul", y, g.op("Transpose", g.op("Tanh", y), perm=[0, 1, 3, 2]))
    y = g.op("MatMul", g.weight(1, 1, 10, 6, fan_in=20), y)
    y = g.op("Relu", g.op("MatMul", y, g.weight(6, 16, fan_in=6)))
    a, b = g.op("MatMul", y, g.weight(16, fan_in=16)), g.op("MatMul", g.weight(10, fan_in=10), y)
    return g.op("Add", g.matmul(a, 10, 5), g.matmul(b, 16, 5))


@handmade("hand_convolutions", x=floats(2, 3, 9, 9))
def convolutions(g: Graph, x: str) -> str:
    """Automatic and lopsided padding, dilation, groups, no bias; transposed with groups and a given output shape."""
    y = g.op("Relu", g.op("Conv", x, g.weight(16, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]))
    y = g.op("Relu", g.op("Conv", y, g.weight(20, 4, 3, 2), g.vector(20), group=4, pads=[2, 1, 2, 0], dilations=[2, 1]))
    y = g.op("Relu", g.op("Conv", y, g.weight(40, 1, 3, 3), group=20, auto_pad="SAME_LOWER"))
    up = g.weight(40, 6, 3, 3, fan_in=20)
    y = g.op("Relu", g.op("ConvTranspose", y, up, g.vector(24), group=4, strides=[2, 2], output_shape=[10, 10]))
    y = g.op("ConvTranspose", y, g.weight(24, 14, 2, 2, fan_in=24), strides=[2, 2], output_padding=[1, 1])
    return g.classify(g.op("Relu", y), 14)


@handmade("hand_convolutions_1d_3d", x=floats(1, 4, 12), y=floats(1, 2, 4, 6, 6))
def convolutions_1d_3d(g: Graph, x: str, y: str) -> str:
    """One and three spatial axes, transposed too, joined at the end."""
    a = g.op("Relu", g.op("Conv", x, g.weight(18, 4, 3), g.vector(18), pads=[1, 1]))
    a = g.op("ConvTranspose", a, g.weight(18, 7, 4, fan_in=36), g.vector(14), group=2, strides=[2])
    b = g.op("Relu", g.op("Conv", y, g.weight(12, 2, 3, 3, 3), g.vector(12), pads=[1] * 6))
    b = g.op("Conv", b, g.weight(24, 1, 1, 3, 3), g.vector(24), group=12)
    a = g.op("ReduceMean", g.op("Relu", a), axes=[2], keepdims=0)
    b = g.op("ReduceMean", g.op("Relu", b), axes=[2, 3, 4], keepdims=0)
    return g.linear(g.op("Concat", a, b, axis=1), 38, 5)


@handmade("hand_weight_from_constants", x=floats(2, 3, 8, 8))
def weight_from_constants(g: Graph, x: str) -> str:
    """Convolution weights come out of Transpose, Reshape, Mul, Concat, Slice, Cast and Identity of constants."""
    first = g.op("Transpose", g.weight(3, 3, 3, 16, fan_in=27), perm=[3, 2, 0, 1])
    y = g.op("Relu", g.op("Conv", x, g.op("Identity", first), g.op("Reshape", g.vector(4, 4), g.const([16]))))
    second = g.op("Mul", g.weight(20, 16, 3, 3), g.scale(20, 1, 1, 1))
    y = g.op("Relu", g.op("Conv", y, second, g.op("Mul", g.vector(20), g.scale(20))))
    third = g.op("Concat", g.weight(6, 20, 1, 1), g.weight(8, 20, 1, 1), axis=0)
    y = g.op("Relu", g.op("Conv", y, third))
    fourth = g.op(
        "Reshape", g.op("Slice", g.weight(18, 20), g.const([0, 3]), g.const([18, 17])), g.const([18, 14, 1, 1])
    )
    half = g.const((0.3 * g.random.standard_normal((12, 18, 1, 1))).astype(np.float16), "float16")
    y = g.op("Conv", g.op("Relu", g.op("Conv", y, fourth)), g.op("Cast", half, to=1))
    return g.classify(y, 12)


@handmade("hand_weight_as_input", tags=("freezes",), x=floats(2, 3, 8, 8), w=floats(14, 10, 3, 3), m=floats(16, 5))
def weight_as_input(g: Graph, x: str, w: str, m: str) -> str:
    """The weights of one convolution and of the last layer are inputs of the graph."""
    y = g.op("Conv", g.op("Relu", g.conv(x, 3, 10)), g.op("Mul", w, g.const(0.1)))
    y = g.op("GlobalAveragePool", g.op("Relu", g.conv(g.op("Relu", y), 14, 16)))
    return g.op("MatMul", g.op("Flatten", y), m)


@handmade("hand_constant_nodes", x=floats(2, 3, 6, 6))
def constant_nodes(g: Graph, x: str) -> str:
    """Weights in Constant nodes of all forms, a ConstantOfShape bias, Identity chains, Dropout with its mask unused."""
    y = g.op("Identity", g.op("Identity", g.conv(x, 3, 14)))
    bias = g.op("Constant", value_floats=[0.1 * i for i in range(14)])
    bias = g.op("Reshape", bias, g.op("Constant", value_ints=[1, 14, 1, 1]))
    y = g.op("Mul", g.op("Add", y, bias), g.op("Constant", value_float=0.5))
    y, _ = g.ops("Dropout", g.op("Relu", y), g.const(0.3), count=2)
    zeros = g.op("ConstantOfShape", g.const([18]))
    y = g.op("Relu", g.op("Conv", y, g.weight(18, 14, 1, 1), zeros))
    return g.classify(g.op("Dropout", y), 18)


@handmade("hand_batch_norm", x=floats(2, 3, 8, 8))
def batch_norm(g: Graph, x: str) -> str:
    """BatchNormalization before and after everything: of the input, a concatenation, an add, flat and 3-D features."""

    def norm(y: str, width: int) -> str:
        return g.op("BatchNormalization", y, g.scale(width), g.vector(width), g.vector(width), g.scale(width))

    y = g.op("Relu", g.conv(norm(x, 3), 3, 12))
    y = norm(g.op("Concat", y, g.conv(y, 12, 8), axis=1), 20)
    y = norm(g.op("Add", y, g.op("Relu", g.conv(y, 20, 20))), 20)
    line = norm(g.op("Reshape", y, g.const([2, 20, 64])), 20)
    flat = norm(g.op("ReduceMean", line, axes=[2], keepdims=0), 20)
    flat = norm(g.op("Relu", g.linear(flat, 20, 16)), 16)
    return g.linear(flat, 16, 5)


@handmade("hand_layer_norm", x=floats(2, 6, 12))
def layer_norm(g: Graph, x: str) -> str:
    """LayerNormalization with and without bias, over the last axis and over the last two, statistics unused."""
    y = g.op("Relu", g.matmul(x, 12, 20))
    y = g.op("LayerNormalization", y, g.scale(20), g.vector(20), epsilon=1e-5)
    y = g.op("LayerNormalization", g.matmul(y, 20, 16), g.scale(16), axis=2)
    y = g.op("Relu", g.matmul(y, 16, 14))
    y, _, _ = g.ops("LayerNormalization", y, g.scale(6, 14), g.vector(6, 14), count=3, axis=-2)
    return g.matmul(g.op("ReduceMean", y, axes=[1], keepdims=0), 14, 5)


@handmade("hand_channel_norms", opset=21, x=floats(1, 3, 8, 8))
def channel_norms(g: Graph, x: str) -> str:
    """GroupNormalization with four and with six groups, InstanceNormalization, LRN."""

    def group_norm(y: str, groups: int) -> str:
        y = g.op("GroupNormalization", y, g.scale(24), g.vector(24), num_groups=groups)
        g.known.append(g.state(y, [1, 24, 8, 8]))  # onnx infers nothing here
        return y

    y = group_norm(g.conv(x, 3, 24), 4)
    y = group_norm(g.op("Add", y, g.conv(g.op("Relu", y), 24, 24)), 6)
    y = g.op("InstanceNormalization", g.conv(g.op("Relu", y), 24, 18), g.scale(18), g.vector(18))
    y = g.op("LRN", g.conv(g.op("Relu", y), 18, 14), size=5, alpha=0.1)
    return g.classify(g.conv(y, 14, 10), 10)


@handmade("hand_lp_norms", x=floats(2, 3, 8, 8))
def lp_norms(g: Graph, x: str) -> str:
    """LpNormalization over channels and features, MeanVarianceNormalization per channel and across channels."""
    y = g.op("LpNormalization", g.op("Relu", g.conv(x, 3, 14)), axis=1, p=2)
    y = g.op("MeanVarianceNormalization", g.conv(y, 14, 18), axes=[0, 2, 3])
    y = g.op("MeanVarianceNormalization", g.conv(g.op("Relu", y), 18, 12), axes=[1, 2, 3])
    y = g.op("Flatten", g.op("GlobalMaxPool", y))
    return g.linear(g.op("LpNormalization", g.linear(y, 12, 16), p=1), 16, 5)


@handmade("hand_rms_norm", opset=23, x=floats(2, 6, 12))
def rms_norm(g: Graph, x: str) -> str:
    """RMSNormalization as one operator, over one axis and over two."""
    y = g.op("Relu", g.matmul(x, 12, 20))
    y = g.op("Add", y, g.matmul(g.op("RMSNormalization", y, g.scale(20)), 20, 20))
    y = g.op("Relu", g.matmul(g.op("RMSNormalization", y, g.scale(20), axis=-1), 20, 14))
    y = g.op("RMSNormalization", y, g.scale(6, 14), axis=1)
    return g.matmul(g.op("ReduceMean", y, g.const([1]), keepdims=0), 14, 5)


@handmade("hand_pooling", x=floats(2, 3, 12, 12))
def pooling(g: Graph, x: str) -> str:
    """All kinds of pooling, one with ceiling, one counting its padding."""
    y = g.op("Relu", g.conv(x, 3, 12))
    y = g.op("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1, ceil_mode=1)
    y = g.op("Relu", g.conv(y, 12, 16))
    y = g.op("LpPool", y, kernel_shape=[2, 2], p=2)
    y = g.op("MaxPool", g.conv(y, 16, 20), kernel_shape=[3, 3], strides=[2, 2], dilations=[1, 1], auto_pad="SAME_UPPER")
    pooled = [g.op(kind, y) for kind in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")]
    return g.linear(g.op("Flatten", g.op("Concat", *pooled, axis=1)), 60, 5)


@handmade("hand_max_unpool", tags=("freezes",), x=floats(1, 3, 8, 8))
def max_unpool(g: Graph, x: str) -> str:
    """MaxPool's indices drive MaxUnpool."""
    y = g.op("Relu", g.conv(x, 3, 12))
    y, where = g.ops("MaxPool", y, count=2, kernel_shape=[2, 2], strides=[2, 2])
    y = g.op("Relu", g.conv(g.op("Relu", g.conv(y, 12, 18)), 18, 12))
    y = g.op("MaxUnpool", y, where, kernel_shape=[2, 2], strides=[2, 2])
    return g.classify(g.conv(y, 12, 14), 14)


@handmade("hand_activations", opset=20, x=floats(2, 3, 6, 6))
def activations(g: Graph, x: str) -> str:
    """Activations as single operators, each on its own channels: Gelu in both forms, Mish, PRelu, Clip, ..."""
    y = g.conv(x, 3, 16)
    plain = ("Mish", "HardSwish", "HardSigmoid", "Celu", "Elu", "Selu", "Softplus", "Softsign", "ThresholdedRelu",
             "LeakyRelu", "Sigmoid", "Tanh", "Relu", "Erf", "Gelu", "Atan", "Sinh", "Round", "Floor", "Abs")  # fmt: skip
    parts = [g.op(kind, g.conv(y, 16, 2 + i % 3, 1)) for i, kind in enumerate(plain)]
    parts += [
        g.op("Gelu", g.conv(y, 16, 3, 1), approximate="tanh"),
        g.op("PRelu", g.conv(y, 16, 4, 1), g.const([[[0.1]], [[0.3]], [[0.2]], [[0.4]]])),
        g.op("PRelu", g.conv(y, 16, 3, 1), g.const([0.25])),
        g.op("Clip", g.conv(y, 16, 3, 1), g.const(-0.5), g.const(0.8)),
        g.op("Clip", g.conv(y, 16, 2, 1), "", g.const(0.5)),
        g.op("Shrink", g.conv(y, 16, 2, 1), lambd=0.2, bias=0.1),
    ]
    width = sum(2 + i % 3 for i in range(len(plain))) + 3 + 4 + 3 + 3 + 2 + 2
    return g.classify(g.conv(g.op("Concat", *parts, axis=1), width, 14), 14)


@handmade("hand_element_wise", x=floats(2, 3, 6, 6))
def element_wise(g: Graph, x: str) -> str:
    """Broadcasts of every rank, variadic operators, comparisons, logic, powers, remainders, rounding."""
    y = g.op("Relu", g.conv(x, 3, 14))
    y = g.op("Add", y, g.vector(14, 1, 1))
    y = g.op("Mul", y, g.scale(1, 14, 1, 1))
    y = g.op("Sub", g.op("Div", y, g.scale(6, 6)), g.const([0.3]))
    z = g.op("Relu", g.conv(y, 14, 14))
    y = g.op("Sum", y, z, g.vector(1, 1, 1), g.vector(14, 1, 6))
    y = g.op("Max", y, g.op("Min", z, g.const(0.7)), g.op("Mean", y, z))
    y = g.op("Pow", g.op("Abs", y), g.const(1.5))
    y = g.op("Mod", y, g.const(2.5), fmod=1)
    sign = g.op("And", g.op("Greater", y, g.vector(14, 1, 1)), g.op("Not", g.op("LessOrEqual", z, g.const(0.0))))
    y = g.op("Where", g.op("Or", sign, g.op("IsNaN", y)), y, g.op("Neg", z))
    y = g.op("Where", g.op("Equal", g.op("Sign", y), g.const(1.0)), y, g.vector(14, 1, 1))
    return g.classify(g.conv(y, 14, 12), 12)


@handmade("hand_softmaxes", x=floats(2, 3, 6, 6))
def softmaxes(g: Graph, x: str) -> str:
    """Softmax over space (harmless), over channels (inexact), LogSoftmax and Hardmax."""
    y = g.conv(x, 3, 12)
    y = g.op("Mul", y, g.op("Softmax", y, axis=3))
    y = g.op("Softmax", g.conv(y, 12, 16), axis=1)
    y = g.op("LogSoftmax", g.conv(y, 16, 14), axis=1)
    y = g.op("Concat", y, g.op("Hardmax", g.conv(y, 14, 6), axis=1), axis=1)
    return g.classify(g.conv(y, 20, 10), 10)


@handmade("hand_softmax_old", opset=11, x=floats(2, 3, 6, 6))
def softmax_old(g: Graph, x: str) -> str:
    """Before opset 13 Softmax flattens all axes from its own on; Squeeze, Split and ReduceSum carry attributes."""
    y = g.op("Softmax", g.conv(x, 3, 12), axis=2)
    a, b = g.ops("Split", y, count=2, axis=1, split=[5, 7])
    y = g.op(
        "Concat", b, g.op("Unsqueeze", g.op("Squeeze", g.op("ReduceSum", a, axes=[1]), axes=[1]), axes=[1]), axis=1
    )
    y = g.op("Clip", g.conv(y, 8, 16), g.const(0.0), g.const(6.0))
    y = g.op("Pad", y, g.const([0, 2, 0, 0, 0, 0, 0, 0]), g.const(0.0))
    return g.linear(g.op("Flatten", g.op("GlobalAveragePool", y)), 18, 5)


@handmade("hand_upsample_old", opset=9, x=floats(2, 3, 6, 6))
def upsample_old(g: Graph, x: str) -> str:
    """Opset 9: Upsample, Clip, Pad, Slice and TopK with their old attributes."""
    y = g.op("Clip", g.conv(x, 3, 12), min=0.0, max=6.0)
    y = g.op("Upsample", y, g.const([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    y = g.op("Pad", g.conv(y, 12, 14), pads=[0, 1, 0, 0, 0, 2, 0, 0])
    y = g.op("Slice", g.op("Relu", y), starts=[2], ends=[16], axes=[1])
    y = g.op("BatchNormalization", y, g.scale(14), g.vector(14), g.vector(14), g.scale(14))
    return g.classify(g.op("Relu", g.conv(y, 14, 10)), 10)


@handmade("hand_attention_4d", opset=23, x=floats(2, 6, 12), keep=mask(1, 1, 6, 6))
def attention_4d(g: Graph, x: str, keep: str) -> str:
    """The Attention operator on (batch, heads, time, width), grouped queries, wide values, a mask, a soft cap."""

    def heads(width: int, count: int) -> str:
        y = g.op("Reshape", g.matmul(h, 20, width * count), g.const([0, 6, count, width]))
        return g.op("Transpose", y, perm=[0, 2, 1, 3])

    h = g.op("Relu", g.matmul(x, 12, 20))
    y = g.op("Attention", heads(8, 6), heads(8, 2), heads(10, 2), keep, softcap=5.0)
    y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), g.const([0, 6, -1]))
    return g.matmul(g.op("ReduceMean", g.matmul(y, 60, 16), g.const([1]), keepdims=0), 16, 5)


@handmade("hand_attention_3d", opset=23, x=floats(2, 6, 12), y=floats(2, 7, 10))
def attention_3d(g: Graph, x: str, y: str) -> str:
    """The Attention operator on packed heads, causal on itself and then across to a second input."""
    h = g.op("Relu", g.matmul(x, 12, 20))
    q, k, v = (g.matmul(h, 20, 32) for _ in range(3))
    z = g.op("Attention", q, k, v, q_num_heads=4, kv_num_heads=4, is_causal=1)
    h = g.op("Add", h, g.matmul(z, 32, 20))
    q, k, v = g.matmul(h, 20, 48), g.matmul(y, 10, 16), g.matmul(y, 10, 16)
    z = g.op("Attention", q, k, v, q_num_heads=6, kv_num_heads=2, scale=0.3)
    return g.matmul(g.op("ReduceMean", g.matmul(z, 48, 14), g.const([1]), keepdims=0), 14, 5)


@handmade("hand_rotary", opset=23, x=floats(2, 6, 12))
def rotary(g: Graph, x: str) -> str:
    """RotaryEmbedding on packed heads and on split ones, in halves and interleaved, over part of the width."""
    h = g.op("Relu", g.matmul(x, 12, 20))

    def tables(width: int) -> tuple[str, str]:
        angle = np.arange(6)[:, None] * 10.0 ** (-np.arange(width) / width)
        table = np.broadcast_to(angle, (2, 6, width))
        return g.const(np.cos(table)), g.const(np.sin(table))

    q = g.op("RotaryEmbedding", g.matmul(h, 20, 40), *tables(4), num_heads=5)
    k = g.op("RotaryEmbedding", g.matmul(h, 20, 40), *tables(4), num_heads=5)
    v = g.matmul(h, 20, 40)
    z = g.op("Attention", q, k, v, q_num_heads=5, kv_num_heads=5)
    h = g.op("Add", h, g.matmul(z, 40, 20))
    y = g.op("Transpose", g.op("Reshape", g.matmul(h, 20, 32), g.const([0, 6, 4, 8])), perm=[0, 2, 1, 3])
    y = g.op("RotaryEmbedding", y, *tables(2), interleaved=1, rotary_embedding_dim=4)
    scores = g.op("Softmax", g.op("MatMul", y, g.op("Transpose", y, perm=[0, 1, 3, 2])))
    y = g.op("Reshape", g.op("Transpose", g.op("MatMul", scores, y), perm=[0, 2, 1, 3]), g.const([0, 6, 32]))
    return g.matmul(g.op("ReduceMean", y, g.const([1]), keepdims=0), 32, 5)


@handmade("hand_swish", opset=24, x=floats(2, 3, 6, 6))
def swish(g: Graph, x: str) -> str:
    """Swish as one operator, with and without a factor."""
    y = g.op("Swish", g.conv(x, 3, 14))
    return g.classify(g.op("Swish", g.conv(y, 14, 18), alpha=1.7), 18)


@handmade("hand_deformable", opset=19, tags=("freezes",), x=floats(1, 3, 8, 8))
def deformable(g: Graph, x: str) -> str:
    """DeformConv with offsets and a mask from the network."""
    y = g.op("Relu", g.conv(x, 3, 12))
    offset, gate = g.conv(y, 12, 18), g.op("Sigmoid", g.conv(y, 12, 9))
    y = g.op("DeformConv", y, g.weight(16, 12, 3, 3), offset, g.vector(16), gate, pads=[1] * 4, kernel_shape=[3, 3])
    return g.classify(g.conv(g.op("Relu", y), 16, 14), 14)


@handmade("hand_regions", tags=("freezes",), opset=16, x=floats(1, 3, 12, 12))
def regions(g: Graph, x: str) -> str:
    """RoiAlign of boxes that the network predicts."""
    y = g.op("Relu", g.conv(x, 3, 14))
    corner = g.op("Sigmoid", g.classify(y, 14, 4))
    low = g.op("Mul", g.op("Slice", corner, g.const([0]), g.const([2]), g.const([1])), g.const(5.0))
    high = g.op(
        "Add", g.op("Mul", g.op("Slice", corner, g.const([2]), g.const([4]), g.const([1])), g.const(5.0)), g.const(6.0)
    )
    boxes = g.op("Concat", low, high, axis=1)
    y = g.op("RoiAlign", y, boxes, g.const([0]), output_height=3, output_width=3, sampling_ratio=2)
    return g.classify(g.op("Relu", g.conv(y, 14, 16)), 16)


@handmade("hand_warp", opset=20, tags=("freezes",), x=floats(1, 3, 8, 8))
def warp(g: Graph, x: str) -> str:
    """AffineGrid and GridSample."""
    y = g.op("Relu", g.conv(x, 3, 14))
    turn = g.op("Reshape", g.op("Tanh", g.classify(y, 14, 6)), g.const([1, 2, 3]))
    y = g.op("GridSample", y, g.op("AffineGrid", turn, g.const([1, 14, 6, 6])), mode="linear")
    return g.classify(g.op("Relu", g.conv(y, 14, 16)), 16)


@handmade("hand_suppression", tags=("freezes",), x=floats(1, 3, 8, 8))
def suppression(g: Graph, x: str) -> tuple[str, str]:
    """NonMaxSuppression picks boxes; what it picks is gathered and scored further."""
    y = g.op("Relu", g.conv(g.op("Relu", g.conv(x, 3, 12)), 12, 16, stride=2))
    boxes = g.op(
        "Reshape", g.op("Transpose", g.op("Sigmoid", g.conv(y, 16, 4)), perm=[0, 2, 3, 1]), g.const([1, 16, 4])
    )
    scores = g.op("Reshape", g.op("Sigmoid", g.conv(y, 16, 2)), g.const([1, 2, 16]))
    kept = g.op("NonMaxSuppression", boxes, scores, g.const(np.int64(4)), g.const(0.5), g.const(0.01))
    where = g.op("Gather", kept, g.const(2), axis=1)
    rows = g.op("Transpose", g.op("Reshape", y, g.const([16, 16])), perm=[1, 0])
    return g.linear(g.op("Gather", rows, where), 16, 5), boxes


@handmade("hand_compress", tags=("freezes",), x=floats(2, 3, 6, 6))
def compress(g: Graph, x: str) -> tuple[str, str]:
    """Compress by a constant mask over channels, and NonZero as an output."""
    y = g.op("Relu", g.conv(x, 3, 8))
    y = g.op("Compress", y, g.const([True, False, True, True, False, True, True, True]), axis=1)
    z = g.op("NonZero", g.op("Relu", g.classify(y, 6, 4)))
    return g.classify(g.conv(g.op("Relu", g.conv(y, 6, 16)), 16, 12), 12), g.op("Cast", z, to=1)


@handmade("hand_spectrum", tags=("freezes",), opset=20, x=floats(2, 16, 6))
def spectrum(g: Graph, x: str) -> str:
    """A discrete Fourier transform over time between two layers."""
    y = g.op("Relu", g.matmul(x, 6, 14))
    y = g.op("Unsqueeze", y, g.const([3]))
    y = g.op("ReduceL2", g.op("DFT", y, "", g.const(1)), g.const([3]), keepdims=0)
    return g.matmul(g.op("ReduceMean", g.matmul(y, 14, 12), g.const([1]), keepdims=0), 12, 5)


@handmade("hand_double", x=floats(2, 12, dtype="float64"))
def double(g: Graph, x: str) -> str:
    """Everything in 64 bits."""

    def layer(y: str, inside: int, out: int) -> str:
        weight = g.const(g.random.standard_normal((inside, out)) / inside**0.5, "float64")
        return g.op("Add", g.op("MatMul", y, weight), g.const(g.random.standard_normal(out), "float64"))

    y = g.op("Relu", layer(x, 12, 20))
    return layer(g.op("Add", y, g.op("Tanh", layer(g.op("Relu", layer(y, 20, 16)), 16, 20))), 20, 5)
