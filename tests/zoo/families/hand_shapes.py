"""Hand-made graphs: operators that move, cut, join and repeat, in the forms that exporters rarely write."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from ..inputs import floats
from ..registry import handmade


@handmade("hand_depth_space", x=floats("batch", 3, 8, 8))
def depth_space(g: Graph, x: str) -> str:
    """DepthToSpace in both modes and SpaceToDepth."""
    y = g.op("Relu", g.conv(x, 3, 24))
    y = g.op("DepthToSpace", y, blocksize=2, mode="DCR")
    y = g.op("Relu", g.conv(g.op("SpaceToDepth", y, blocksize=2), 24, 40))
    y = g.op("DepthToSpace", y, blocksize=2, mode="CRD")
    return g.classify(g.conv(y, 10, 14), 14)


@handmade("hand_split", opset=18, x=floats(2, 3, 8, 8))
def split(g: Graph, x: str) -> str:
    """Split by number with a shorter last part, by equal shares, and by given sizes on a negative axis."""
    y = g.conv(x, 3, 22)
    a, b, c = g.ops("Split", y, count=3, axis=1, num_outputs=3)
    d, e = g.ops("Split", g.op("Add", a, b), count=2, axis=1, num_outputs=2)
    y = g.op("Concat", g.op("Mul", d, e), c, axis=1)
    y = g.op("Relu", g.conv(y, 10, 17))
    a, b, c = g.ops("Split", y, g.const([4, 10, 3]), count=3, axis=-3)
    y = g.op("Concat", c, g.op("Tanh", b), a, axis=-3)
    return g.classify(g.conv(y, 17, 12), 12)


@handmade("hand_slice", x=floats(2, 3, 8, 8))
def slices(g: Graph, x: str) -> str:
    """Slices with negative steps, negative bounds, bounds beyond the end, and without axes or steps."""
    y = g.op("Relu", g.conv(x, 3, 20))
    a = g.op("Slice", y, g.const([-1]), g.const([-1000]), g.const([1]), g.const([-1]))
    b = g.op("Slice", y, g.const([18]), g.const([1]), g.const([1]), g.const([-3]))
    c = g.op("Slice", y, g.const([0, -14]), g.const([2**62, -2]))
    d = g.op("Slice", y, g.const([2, 1]), g.const([2**31, 7]), g.const([-3, 2]))
    d = g.op("Pad", d, g.const([0, 0, 1, 0, 0, 0, 1, 0]))
    y = g.op("Concat", g.op("Add", a, y), b, c, d, axis=1)
    return g.classify(g.conv(y, 20 + 6 + 12 + 18, 16), 16)


@handmade("hand_gather", x=floats(2, 3, 8, 8))
def gather(g: Graph, x: str) -> str:
    """Gather with a scalar, with a matrix of indices, with negative and with repeated ones."""
    y = g.op("Relu", g.conv(x, 3, 18))
    one = g.op("Unsqueeze", g.op("Gather", y, g.const(5), axis=1), g.const([1]))
    pairs = g.op("Gather", y, g.const([[0, -1, 3], [7, 7, -4]]), axis=1)
    pairs = g.op("ReduceSum", pairs, g.const([1]), keepdims=0)
    most = g.op("Gather", y, g.const([17, 2, 4, 6, 8, 10, 12, 14, 16, 0]), axis=-3)
    y = g.op("Concat", most, one, pairs, axis=1)
    return g.classify(g.op("Relu", g.conv(y, 14, 20)), 20)


@handmade("hand_gather_constant_places", tags=("freezes",), x=floats(2, 12))
def gather_constant_places(g: Graph, x: str) -> str:
    """GatherElements and GatherND with constant indices."""
    y = g.op("Tanh", g.linear(x, 12, 20))
    z = g.op("GatherElements", y, g.const([[3, 1, 4, 15], [9, 2, 6, 5]]), axis=1)
    w = g.op("GatherND", y, g.const([[0, 3], [1, 7], [1, 19]]))
    z = g.op("Add", g.linear(z, 4, 16), g.linear(y, 20, 16))
    return g.op("Mul", g.linear(g.op("Relu", z), 16, 5), g.op("ReduceMean", w))


@handmade("hand_scatter_constant_places", tags=("freezes",), opset=18, x=floats(2, 12))
def scatter_constant_places(g: Graph, x: str) -> str:
    """ScatterElements and ScatterND into features at constant places, with and without a reduction."""
    y = g.op("Relu", g.linear(x, 12, 20))
    z = g.op("Slice", y, g.const([0]), g.const([3]), g.const([1]))
    y = g.op("ScatterElements", y, g.const([[5, 9, 0], [1, 2, 19]]), z, axis=1, reduction="add")
    y = g.op("ScatterND", y, g.const([[0, 3], [1, 7]]), g.vector(2))
    return g.linear(g.op("Tanh", g.linear(y, 20, 16)), 16, 5)


@handmade("hand_pad", opset=18, x=floats(2, 3, 8, 8))
def pad(g: Graph, x: str) -> str:
    """Pads of channels: zeros on both sides, another value, by axes, negative (a crop), reflected space."""
    y = g.op("Relu", g.conv(x, 3, 14))
    wide = g.op("Pad", y, g.const([0, 3, 0, 0, 0, 5, 0, 0]))
    y = g.op("Add", wide, g.conv(y, 14, 22))
    y = g.op("Pad", g.op("Relu", y), g.const([2, 1]), g.const(0.5), g.const([1]))
    y = g.op("Pad", g.op("Tanh", y), g.const([-4, -3]), "", g.const([-3]))
    y = g.op("Pad", y, g.const([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect")
    return g.classify(g.conv(y, 18, 16), 16)


@handmade("hand_expand_tile", x=floats(1, 3, 6, 6))
def expand_tile(g: Graph, x: str) -> str:
    """Tile of channels and of space, Expand of a row of parameters and of one channel."""
    y = g.op("Relu", g.conv(x, 3, 8))
    y = g.op("Tile", y, g.const([1, 3, 1, 2]))
    y = g.op("Add", y, g.op("Expand", g.vector(24, 1, 1), g.const([1, 24, 6, 12])))
    y = g.op("Relu", g.conv(y, 24, 18))
    one = g.op("Expand", g.op("Sigmoid", g.conv(y, 18, 1)), g.const([1, 18, 1, 1]))
    return g.classify(g.conv(g.op("Mul", y, one), 18, 14), 14)


@handmade("hand_reshape", x=floats(2, 3, 4, 4))
def reshape(g: Graph, x: str) -> str:
    """Reshape with 0 and -1, Flatten at several axes, Squeeze and Unsqueeze with and without axes."""
    y = g.op("Relu", g.conv(x, 3, 24))
    y = g.op("Reshape", y, g.const([0, 6, -1, 4, 4]))
    y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3, 4]), g.const([0, 24, 4, -1]))
    z = g.op("Reshape", g.op("Flatten", y, axis=2), g.const([2, -1, 4, 4]))
    y = g.op("Add", y, g.op("Squeeze", g.op("Unsqueeze", z, g.const([0, 5])), g.const([0, -1])))
    y = g.op("Flatten", g.op("Relu", g.conv(y, 24, 10)), axis=-3)
    y = g.op("Squeeze", g.op("Unsqueeze", g.linear(y, 160, 18), g.const([1])))
    return g.linear(g.op("Tanh", y), 18, 5)


@handmade("hand_transpose", x=floats(6, 4))
def transpose(g: Graph, x: str) -> str:
    """Transpose without a permutation turns features into rows; a weight on each side."""
    y = g.op("Relu", g.matmul(x, 4, 18))
    y = g.op("MatMul", g.weight(14, 6), y)
    y = g.op("Transpose", g.op("Tanh", y))
    y = g.op("Relu", g.matmul(y, 14, 10))
    return g.matmul(g.op("Transpose", y), 18, 5)


@handmade("hand_negative_axes", x=floats(2, 6, 12))
def negative_axes(g: Graph, x: str) -> str:
    """Every axis is counted from the end."""
    y = g.op("Relu", g.matmul(x, 12, 20))
    a, b = g.ops("Split", y, count=2, axis=-1)
    y = g.op("Concat", g.op("Mul", a, b), y, axis=-1)
    y = g.op("Add", y, g.op("ReduceMean", y, axes=[-2], keepdims=1))
    y = g.op("Relu", g.matmul(g.op("Softmax", y, axis=-2), 30, 16))
    return g.matmul(g.op("ReduceMax", y, axes=[-2], keepdims=0), 16, 5)


@handmade("hand_einsum", x=floats(2, 5, 12))
def einsum(g: Graph, x: str) -> str:
    """Einsum without an output part, with an ellipsis, of three operands, with a summed axis, with a diagonal."""
    y = g.op("Einsum", x, g.weight(12, 18, fan_in=12), equation="...c,cd->...d")
    y = g.op("Einsum", g.op("Relu", y), g.weight(18, 14, fan_in=18), equation="abd,dc")
    z = g.op("Einsum", y, g.weight(14, 10, fan_in=14), g.weight(10, 16, fan_in=10), equation="bac,ck,km->bam")
    square = g.op("Einsum", y, y, equation="btc,bsc->bts")
    diagonal = g.op("Einsum", square, equation="btt->bt")
    pooled = g.op("Einsum", z, g.op("Sigmoid", diagonal), equation="btm,bt->bm")
    return g.linear(pooled, 16, 5)


@handmade("hand_resize", opset=18, x=floats(1, 3, 6, 6))
def resize(g: Graph, x: str) -> str:
    """Resize by scales, by sizes, by axes, cubic; and once over channels, which no channel survives."""
    y = g.op("Relu", g.conv(x, 3, 14))
    y = g.op("Resize", y, "", g.const([1.0, 1.0, 2.0, 2.0]), mode="nearest", nearest_mode="floor")
    y = g.op("Relu", g.conv(y, 14, 18))
    y = g.op("Resize", y, "", "", g.const([1, 18, 9, 9]), mode="linear", coordinate_transformation_mode="align_corners")
    y = g.op("Relu", g.conv(y, 18, 12))
    y = g.op("Resize", y, "", "", g.const([7, 7]), mode="linear", axes=[2, 3])
    y = g.op("Relu", g.conv(y, 12, 16))
    y = g.op("Resize", y, "", g.const([1.0, 1.0, 1.5, 1.5]), mode="cubic")
    y = g.op("Resize", g.conv(y, 16, 10), "", g.const([1.0, 2.0, 1.0, 1.0]), mode="nearest")
    return g.classify(y, 20)


@handmade("hand_reductions", opset=18, x=floats(2, 3, 8, 8))
def reductions(g: Graph, x: str) -> str:
    """Every reduction over space with axes as an input, then every one over channels."""
    y = g.op("Relu", g.conv(x, 3, 12))
    y = g.op("Add", y, g.op("ReduceSum", y, noop_with_empty_axes=1))
    kinds = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare",
             "ReduceLogSumExp", "ReduceLogSum")  # fmt: skip
    space = [g.op(kind, g.op("Add", y, g.const(0.1)), g.const([2, -1]), keepdims=1) for kind in kinds]
    y = g.op("Tanh", g.op("Concat", *space, axis=1))
    y = g.op("Sigmoid", g.conv(y, 12 * len(kinds), 16, 1))
    flat = [g.op(kind, y, g.const([1]), keepdims=1) for kind in (*kinds, "ReduceProd")]
    return g.linear(g.op("Flatten", g.op("Concat", *flat, axis=1)), len(flat), 5)


@handmade("hand_reductions_old", opset=13, x=floats(2, 3, 8, 8))
def reductions_old(g: Graph, x: str) -> str:
    """Axes as attributes; a reduction of everything scales the features."""
    y = g.op("Relu", g.conv(x, 3, 14))
    y = g.op("Div", y, g.op("ReduceMax", y))
    z = g.op("ReduceMean", y, axes=[2, 3], keepdims=0)
    return g.linear(g.op("Mul", z, g.op("ReduceL2", z, axes=[1], keepdims=1)), 14, 5)


@handmade("hand_searches", x=floats(2, 3, 8, 8))
def searches(g: Graph, x: str) -> tuple[str, str]:
    """CumSum (exclusive, reversed), ArgMax and ArgMin over space and channels, TopK over space."""
    y = g.op("Relu", g.conv(x, 3, 14))
    y = g.op("CumSum", y, g.const(3), exclusive=1, reverse=1)
    y = g.op("CumSum", g.op("Tanh", g.conv(y, 14, 12)), g.const(1))
    y = g.op("Relu", g.conv(y, 12, 18))
    row = g.op("Cast", g.op("ArgMin", g.op("ReduceMax", y, axes=[3], keepdims=0), axis=2, keepdims=0), to=1)
    best, _ = g.ops("TopK", g.op("Flatten", g.conv(y, 18, 9), axis=2), g.const([1]), count=2, axis=-1)
    kind = g.op("ArgMax", g.op("ReduceMean", g.conv(y, 18, 6), axes=[2, 3], keepdims=0), axis=1, keepdims=0)
    score = g.linear(g.op("Concat", row, g.op("Reshape", best, g.const([2, -1])), axis=1), 18 + 9, 5)
    return score, kind


@handmade("hand_triangle", x=floats(2, 6, 12))
def triangle(g: Graph, x: str) -> str:
    """Trilu on scores and on features, Range and EyeLike as tables, ReverseSequence over time."""
    y = g.op("Relu", g.matmul(x, 12, 16))
    scores = g.op("MatMul", y, g.op("Transpose", y, perm=[0, 2, 1]))
    eye = g.op("EyeLike", g.op("Slice", g.op("Reshape", scores, g.const([12, 6])), g.const([0]), g.const([6])))
    scores = g.op("Add", g.op("Trilu", scores, upper=0), eye)
    y = g.op("MatMul", g.op("Mul", scores, g.const(0.05)), y)
    steps = g.op("Unsqueeze", g.op("Range", g.const(0.0), g.const(6.0), g.const(1.0)), g.const([1]))
    y = g.op("Add", y, g.op("Sin", steps))
    turned = g.op("ReverseSequence", y, g.const([6, 4]), batch_axis=0, time_axis=1)
    y = g.op("Concat", y, turned, axis=2)
    return g.matmul(g.op("ReduceMean", g.op("Tanh", y), axes=[1], keepdims=0), 32, 5)


@handmade("hand_unfold", opset=18, x=floats(1, 3, 8, 8))
def unfold(g: Graph, x: str) -> str:
    """Blocks of pixels put back by Col2Im, and CenterCropPad over space and channels."""
    y = g.op("Relu", g.conv(x, 3, 6))
    y = g.op("Reshape", g.conv(y, 6, 24, stride=2), g.const([1, 24, 16]))
    y = g.op("Col2Im", y, g.const([8, 8]), g.const([2, 2]), strides=[2, 2])
    y = g.op("Relu", g.conv(y, 6, 14))
    y = g.op("CenterCropPad", y, g.const([10, 6]), axes=[2, 3])
    y = g.op("CenterCropPad", g.conv(y, 14, 12), g.const([16]), axes=[1])
    return g.classify(g.conv(y, 16, 10), 10)


@handmade("hand_one_hot", x=floats(2, 12))
def one_hot(g: Graph, x: str) -> str:
    """A hard choice becomes a OneHot row that multiplies a matrix; Hardmax does the same in one step."""
    h = g.op("Relu", g.linear(x, 12, 20))
    kind = g.op("ArgMax", g.linear(h, 20, 6), axis=1, keepdims=0)
    hot = g.op("OneHot", kind, g.const(6), g.const([0.0, 1.0]))
    soft = g.op("Hardmax", g.linear(h, 20, 7), axis=1)
    y = g.op("Add", g.matmul(hot, 6, 16), g.matmul(soft, 7, 16))
    return g.linear(g.op("Relu", g.op("Add", y, g.linear(h, 20, 16))), 16, 5)


@handmade("hand_empty_part", x=floats(1, 3, 6, 6))
def empty_part(g: Graph, x: str) -> str:
    """A concatenation with a tensor of no channels, and a channel axis of size one."""
    y = g.op("Relu", g.conv(x, 3, 14))
    y = g.op("Concat", y, g.const(np.zeros((1, 0, 6, 6))), g.conv(y, 14, 1), axis=1)
    return g.classify(g.op("Relu", g.conv(y, 15, 12)), 12)


@handmade("hand_sequence_values", tags=("freezes",), x=floats(2, 3, 8, 8))
def sequence_values(g: Graph, x: str) -> str:
    """Channels pass through a sequence value and come back."""
    y = g.op("Relu", g.conv(x, 3, 12))
    parts = g.op("SplitToSequence", y, g.const(4), axis=1)
    y = g.op("ConcatFromSequence", parts, axis=1)
    y = g.op("Concat", y, g.op("SequenceAt", parts, g.const(1)), axis=1)
    return g.classify(g.conv(y, 16, 14), 14)
