"""The schema of TFLite files, as LiteRT's package has it; imported when a file is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAYOUT = "intaglio.layout"
"""The entry of a file's metadata that says which ONNX axes the axes of its ends are."""


def schema() -> Any:
    """The module that flatc made of the schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def _tables(text: str) -> Mapping[str, str]:
    """By operator the table of its options: lines of a table and the operators that have it."""
    rows = (line.split() for line in text.strip().splitlines())
    return {code: f"{table}Options" for table, *codes in rows for code in codes}


OPTIONS = _tables("""
    Conv2D CONV_2D
    DepthwiseConv2D DEPTHWISE_CONV_2D
    TransposeConv TRANSPOSE_CONV
    Pool2D AVERAGE_POOL_2D MAX_POOL_2D
    FullyConnected FULLY_CONNECTED
    BatchMatMul BATCH_MATMUL
    Add ADD
    Sub SUB
    Mul MUL
    Div DIV
    MaximumMinimum MAXIMUM MINIMUM
    Pow POW
    SquaredDifference SQUARED_DIFFERENCE
    Reducer MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL
    Concatenation CONCATENATION
    Split SPLIT
    SplitV SPLIT_V
    StridedSlice STRIDED_SLICE
    Slice SLICE
    Gather GATHER
    GatherNd GATHER_ND
    Reshape RESHAPE
    Transpose TRANSPOSE
    Tile TILE
    BroadcastTo BROADCAST_TO
    Pad PAD
    PadV2 PADV2
    MirrorPad MIRROR_PAD
    ResizeBilinear RESIZE_BILINEAR
    ResizeNearestNeighbor RESIZE_NEAREST_NEIGHBOR
    DepthToSpace DEPTH_TO_SPACE
    SpaceToDepth SPACE_TO_DEPTH
    Softmax SOFTMAX
    LogSoftmax LOG_SOFTMAX
    LeakyRelu LEAKY_RELU
    HardSwish HARD_SWISH
    Gelu GELU
    Abs ABS
    Cos COS
    Exp EXP
    Neg NEG
    Sign SIGN
    Square SQUARE
    Cast CAST
    ArgMax ARG_MAX
    ArgMin ARG_MIN
    TopKV2 TOPK_V2
    SelectV2 SELECT_V2
    Equal EQUAL
    NotEqual NOT_EQUAL
    Less LESS
    LessEqual LESS_EQUAL
    Greater GREATER
    GreaterEqual GREATER_EQUAL
    LogicalAnd LOGICAL_AND
    LogicalOr LOGICAL_OR
    LogicalNot LOGICAL_NOT
    FloorMod FLOOR_MOD
    Cumsum CUMSUM
    Quantize QUANTIZE
    Dequantize DEQUANTIZE
    Squeeze SQUEEZE
    ExpandDims EXPAND_DIMS
    Pack PACK
    Unpack UNPACK
    Shape SHAPE
    L2Norm L2_NORMALIZATION
    Select SELECT
    ReverseV2 REVERSE_V2
    AddN ADD_N
    FloorDiv FLOOR_DIV
    Fill FILL
""")
"""Operators that are not here have no options, such as RELU, TANH and RSQRT."""
