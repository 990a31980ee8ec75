"""The operators on bits: what each computes, written in standard operators.

A packed model holds these definitions as local functions of the domain ``intaglio``. A runtime that does not know the
operators computes the definitions; with the operator library registered it calls native kernels instead.

Bits are bytes (uint8), least significant bit first, one for a negative number: see :mod:`.packing`. The text of a
definition is ONNX's own notation of a function. It uses only operators that mean the same from operator set 13 on.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

DOMAIN = "intaglio"
VERSION = 1
SIGNS = "signs_of_byte"
"""What definitions call the signs of every byte."""

_CONSTANTS = f"""
    none = Constant <value: tensor = int64[1] {{0}}> ()
    one = Constant <value: tensor = int64[1] {{1}}> ()
    last = Constant <value: tensor = int64[1] {{-1}}> ()
    every_byte = Constant <value: tensor = uint8[256,1] {{{", ".join(map(str, range(256)))}}}> ()
    places = Constant <value: tensor = uint8[8] {{0, 1, 2, 3, 4, 5, 6, 7}}> ()
    uint8_two = Constant <value: tensor = uint8[1] {{2}}> ()
    minus_two = Constant <value: tensor = float {{-2.0}}> ()
    plus_one = Constant <value: tensor = float {{1.0}}> ()
    every_shift = BitShift <direction = "RIGHT"> (every_byte, places)
    every_bit = Mod (every_shift, uint8_two)
    every_float = Cast <to = 1> (every_bit)
    every_double = Mul (every_float, minus_two)
    {SIGNS} = Add (every_double, plus_one)
"""
"""``signs_of_byte`` (256, 8): the +1 and -1 of every byte. Looking them up takes one operator where computing them takes
five, each with a copy of the tensor."""


def _whole_bytes(bits: str, out: str) -> str:
    """``out`` (..., 8 * bytes) of +1 and -1 from ``bits`` (..., bytes), what fills up the last byte among them."""
    return f"""
    {out}_index = Cast <to = 6> ({bits})
    {out}_signs = Gather <axis = 0> ({SIGNS}, {out}_index)
    {out}_shape = Shape ({bits})
    {out}_front = Slice ({out}_shape, none, last)
    {out}_rows = Concat <axis = 0> ({out}_front, last)
    {out} = Reshape ({out}_signs, {out}_rows)
"""


def _unpack(bits: str, length: str, out: str) -> str:
    """``out`` (..., length) of +1 and -1 from ``bits``; ``length`` names an int64 tensor of one element."""
    return f"""
    {_whole_bytes(bits, f"{out}_whole")}
    {out} = Slice ({out}_whole, none, {length}, last)
"""


def _pack(negative: str, out: str) -> str:
    """``out`` bytes (..., ceil(C / 8)) from ``negative`` (..., C), a tensor of truth values."""
    return f"""
    {out}_ones = Cast <to = 1> ({negative})
    {out}_shape = Shape ({negative})
    {out}_end = Constant <value: tensor = int64[1] {{9223372036854775807}}> ()
    {out}_length = Slice ({out}_shape, last, {out}_end)
    {out}_eight = Constant <value: tensor = int64[1] {{8}}> ()
    {out}_minus = Neg ({out}_length)
    {out}_missing = Mod ({out}_minus, {out}_eight)
    {out}_flat_shape = Concat <axis = 0> (last, {out}_length)
    {out}_flat = Reshape ({out}_ones, {out}_flat_shape)
    {out}_fill = Concat <axis = 0> (none, none, none, {out}_missing)
    {out}_filled = Pad ({out}_flat, {out}_fill)
    {out}_split_shape = Constant <value: tensor = int64[3] {{0, -1, 8}}> ()
    {out}_split = Reshape ({out}_filled, {out}_split_shape)
    {out}_powers = Constant <value: tensor = float[8] {{1, 2, 4, 8, 16, 32, 64, 128}}> ()
    {out}_sums = MatMul ({out}_split, {out}_powers)
    {out}_byte = Cast <to = 2> ({out}_sums)
    {out}_front = Slice ({out}_shape, none, last)
    {out}_final_shape = Concat <axis = 0> ({out}_front, last)
    {out} = Reshape ({out}_byte, {out}_final_shape)
"""


def _planes(out: str) -> str:
    """``out`` (P, N, K): the planes of W (P, N, ceil(K / 8)) of +1 and -1; ``length`` holds K."""
    return _unpack("W", "length", out)


def _attribute(name: str, out: str, kind: str = "int") -> str:
    """An integer attribute as a tensor of one element."""
    return f"""
    {out}_scalar = Constant <value_{kind}: {kind} = @{name}> ()
    {out} = Reshape ({out}_scalar, one)
"""


_HEAD = f"""
    {_CONSTANTS}
    {_attribute("channels", "length")}
"""

_MEAN = f"""
    {_planes("planes")}
    sums = ReduceSum <keepdims = 0> (planes, none)
    W_shape = Shape (W)
    count = Slice (W_shape, none, one)
    count_float = Cast <to = 1> (count)
    mean = Div (sums, count_float)
"""
"""``mean`` (N, K): that of the planes of +1 and -1."""

_FILTERS = f"""
    {_attribute("channels", "channels_in")}
    {_attribute("group", "groups")}
    window = Constant <value_ints: ints = @kernel> ()
    group_channels = Div (channels_in, groups)
    taps = ReduceProd <keepdims = 1> (window)
    length = Mul (taps, group_channels)
    {_MEAN}
    filter_shape = Concat <axis = 0> (none, window, last)
    filter_last = Reshape (mean, filter_shape)
    filter = Transpose <perm = [0, 3, 1, 2]> (filter_last)
"""
"""``filter`` (O, C / groups, kh, kw): the mean of the planes."""

_DOT = f"""
    {_CONSTANTS}
    {_FILTERS}
    {_unpack("B", "channels_in", "image_last")}
    image = Transpose <perm = [0, 3, 1, 2]> (image_last)
    two = Constant <value: tensor = int64[1] {{2}}> ()
    four = Constant <value: tensor = int64[1] {{4}}> ()
    borders = Constant <value_ints: ints = @pads> ()
    begins = Slice (borders, none, two)
    ends = Slice (borders, two, four)
    border = Concat <axis = 0> (none, none, begins, none, none, ends)
    border_value = Constant <value_float: float = @pad_value> ()
    padded = Pad (image, border, border_value)
    product = Conv <strides: ints = @strides, dilations: ints = @dilations, group: int = @group> (padded, filter)
    dot = Round (product)
"""
"""``dot`` (N, O, H, W). It is an integer already: rounding keeps a runtime from folding the scale into the filter."""

_CONVOLUTION = "channels, kernel, strides, pads, dilations, group, pad_value"

_ROWS = f"""
    {_HEAD}
    {_MEAN}
    matrix = Transpose <perm = [1, 0]> (mean)
    {_unpack("B", "length", "rows")}
    product = MatMul (rows, matrix)
    dot = Round (product)
"""

_SCALED = f"""
    {_whole_bytes("W", "planes")}
    whole_shape = Shape (planes)
    two = Constant <value: tensor = int64[1] {{2}}> ()
    three = Constant <value: tensor = int64[1] {{3}}> ()
    zero_scalar = Constant <value_int = 0> ()
    one_scalar = Constant <value_int = 1> ()
    columns = Slice (whole_shape, two, three)
    columns_scalar = Squeeze (columns, none)
    position = Range (zero_scalar, columns_scalar, one_scalar)
    {_attribute("block", "in_block")}
    block_of = Div (position, in_block)
    scale_shape = Shape (scale)
    blocks = Slice (scale_shape, two, three)
    last_block = Sub (blocks, one)
    block_at = Min (block_of, last_block)
    scale_row = Gather <axis = 2> (scale, block_at)
    scaled = Mul (planes, scale_row)
    filled = ReduceSum <keepdims = 0> (scaled, none)
    weight = Slice (filled, none, length, last)
"""
"""``weight`` (N, K): the planes times the scales of their blocks, summed."""

_DEFINITIONS = {
    "BitPack": f"""<perm> (X, threshold) => (B) {{
    {_CONSTANTS}
    X_float = Cast <to = 1> (X)
    moved = Transpose <perm: ints = @perm> (X_float)
    negative = Less (moved, threshold)
    {_pack("negative", "B")}
}}""",
    "BConv": f"""<{_CONVOLUTION}> (B, W, scale, bias) => (Y) {{
    {_DOT}
    channel_shape = Constant <value: tensor = int64[3] {{-1, 1, 1}}> ()
    channel_scale = Reshape (scale, channel_shape)
    channel_bias = Reshape (bias, channel_shape)
    scaled = Mul (dot, channel_scale)
    Y = Add (scaled, channel_bias)
}}""",
    "BConvBits": f"""<{_CONVOLUTION}> (B, W, threshold) => (B2) {{
    {_DOT}
    dot_last = Transpose <perm = [0, 2, 3, 1]> (dot)
    threshold_float = Cast <to = 1> (threshold)
    negative = Less (dot_last, threshold_float)
    {_pack("negative", "B2")}
}}""",
    "BGemm": f"""<channels> (B, W, scale, bias) => (Y) {{
    {_ROWS}
    scaled = Mul (dot, scale)
    Y = Add (scaled, bias)
}}""",
    "BGemmBits": f"""<channels> (B, W, threshold) => (B2) {{
    {_ROWS}
    threshold_float = Cast <to = 1> (threshold)
    negative = Less (dot, threshold_float)
    {_pack("negative", "B2")}
}}""",
    "BMaxPool": f"""<channels, kernel, strides, pads> (B) => (B2) {{
    {_HEAD}
    {_unpack("B", "length", "image_last")}
    image = Transpose <perm = [0, 3, 1, 2]> (image_last)
    most = MaxPool <kernel_shape: ints = @kernel, strides: ints = @strides, pads: ints = @pads> (image)
    most_last = Transpose <perm = [0, 2, 3, 1]> (most)
    zero = Constant <value: tensor = float {{0.0}}> ()
    negative = Less (most_last, zero)
    {_pack("negative", "B2")}
}}""",
    "UnpackWeight": f"""<channels, block> (W, scale) => (T) {{
    {_HEAD}
    {_SCALED}
    T = Identity (weight)
}}""",
    "MatMul1Bit": f"""<channels, block> (X, W, scale) => (Y) {{
    {_HEAD}
    {_SCALED}
    matrix = Transpose <perm = [1, 0]> (weight)
    Y = MatMul (X, matrix)
}}""",
    "MatMul1BitInt8": f"""<channels, block> (X, W, scale) => (Y) {{
    {_HEAD}
    {_attribute("block", "in_block")}
    {_planes("planes")}
    X_shape = Shape (X)
    X_front = Slice (X_shape, none, last)
    rows_shape = Concat <axis = 0> (last, length)
    rows = Reshape (X, rows_shape)
    size = Abs (rows)
    largest, largest_at = TopK <axis = -1> (size, one)
    top = Constant <value: tensor = float {{127.0}}> ()
    zero = Constant <value: tensor = float {{0.0}}> ()
    unit = Constant <value: tensor = float {{1.0}}> ()
    is_zero = Equal (largest, zero)
    divisor = Where (is_zero, unit, largest)
    inverse = Div (top, divisor)
    stretched = Mul (rows, inverse)
    levels = Round (stretched)
    minus_length = Neg (length)
    missing = Mod (minus_length, in_block)
    fill_rows = Concat <axis = 0> (none, none, none, missing)
    levels_filled = Pad (levels, fill_rows)
    fill_planes = Concat <axis = 0> (none, none, none, none, none, missing)
    planes_filled = Pad (planes, fill_planes)
    level_shape = Concat <axis = 0> (none, last, in_block)
    level_blocks = Reshape (levels_filled, level_shape)
    level_first = Transpose <perm = [1, 0, 2]> (level_blocks)
    plane_shape = Concat <axis = 0> (none, none, last, in_block)
    plane_blocks = Reshape (planes_filled, plane_shape)
    plane_first = Transpose <perm = [0, 2, 3, 1]> (plane_blocks)
    level_many = Unsqueeze (level_first, none)
    product = MatMul (level_many, plane_first)
    dot = Round (product)
    scale_first = Transpose <perm = [0, 2, 1]> (scale)
    row_axis = Constant <value: tensor = int64[1] {{2}}> ()
    scale_row = Unsqueeze (scale_first, row_axis)
    scaled = Mul (dot, scale_row)
    both = Constant <value: tensor = int64[2] {{0, 1}}> ()
    sum = ReduceSum <keepdims = 0> (scaled, both)
    step = Div (largest, top)
    result = Mul (sum, step)
    Y_shape = Concat <axis = 0> (X_front, last)
    Y = Reshape (result, Y_shape)
}}""",
}

OPERATORS = tuple(_DEFINITIONS)
"""Names of the operators of the domain."""


@cache
def _serialized(name: str) -> bytes:
    import onnx.parser

    head = f'<domain: "{DOMAIN}", opset_import: ["" : 13]> {name} '
    return onnx.parser.parse_function(head + _DEFINITIONS[name]).SerializeToString()


def definition(name: str, opset: int = 13) -> onnx.FunctionProto:
    """What operator ``name`` computes, in standard operators of an operator set from 13 on.

    Raises:
        KeyError: there is no such operator.
    """
    import onnx

    found = onnx.FunctionProto.FromString(_serialized(name))
    found.opset_import[0].version = opset
    return found


def attach(proto: onnx.ModelProto) -> None:
    """Give the model the definitions of those operators that it uses, in place, and drop those that it does not.

    They are written in the model's own operator set: the checker and the inliner of onnx want the two to agree.
    """
    used = {n.op_type for n in _nodes(proto.graph.node) if n.domain == DOMAIN}
    kept = [f for f in proto.functions if f.domain != DOMAIN]
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 13)
    del proto.functions[:]
    proto.functions.extend([*kept, *(definition(name, opset) for name in OPERATORS if name in used)])
    others = [o for o in proto.opset_import if o.domain != DOMAIN]
    del proto.opset_import[:]
    proto.opset_import.extend(others)
    if used:
        proto.opset_import.add(domain=DOMAIN, version=VERSION)
        proto.ir_version = max(proto.ir_version, 8)  # the first with local functions


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)
