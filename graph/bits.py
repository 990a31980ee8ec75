"""What a graph must know of operators on bits: their shapes, their bit operations, and the weights their bits stand for.

These are the operators of the domain ``intaglio``. A packed model holds their definitions as functions, through which
shape inference does not see and whose float arithmetic is not what runs: this table is asked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import onnx
from onnx import TensorProto

from .nodes import attribute

DOMAIN = "intaglio"
BITS_A_MAC = 64
"""Multiply-accumulates of bits that count as one of floats.

Source: Qin et al., "BiBench: Benchmarking and Analyzing Network Binarization", ICML 2023, arXiv:2301.11233.
"""

Dims = tuple[int, ...]
# The node and the shapes of its inputs; one that is left out has the empty shape.
ShapeRule = Callable[[onnx.NodeProto, Sequence[Dims]], Dims]


@dataclass(frozen=True)
class BitOperator:
    """One operator.

    ``shape`` of its one output, of element type ``dtype``, from so many ``inputs``; it raises ValueError where operands
    do not fit. ``weight`` is the input that holds planes of packed signs (P, N, bytes), and ``length`` tells how many signs a row of them
    has. ``scales`` and ``thresholds`` are the inputs that only scale what the bits give, and those that stand for
    float numbers of a network. ``binary`` says that the other factor consists of bits too.
    """

    shape: ShapeRule
    dtype: int
    inputs: int
    weight: int | None = None
    length: Callable[[onnx.NodeProto], int] | None = None
    scales: tuple[int, ...] = ()
    thresholds: tuple[int, ...] = ()
    binary: bool = False


BIT_OPERATORS: dict[str, BitOperator] = {}


def bit_operator(node: onnx.NodeProto) -> BitOperator | None:
    """What is known of a node's operator, None where it is none of these."""
    return BIT_OPERATORS.get(node.op_type) if node.domain == DOMAIN else None


IN_BITS = "works on bits"
"""Why passes for floats leave such a node as it is."""


def holds_signs(node: onnx.NodeProto) -> int | None:
    """Which input of a node holds packed signs of a weight."""
    known = bit_operator(node)
    return known.weight if known else None


def output_shape(node: onnx.NodeProto, inputs: Sequence[Dims]) -> Dims:
    """Shape of the one output of an operator on bits.

    Raises:
        ValueError: the operands do not fit; says why.
    """
    known = BIT_OPERATORS[node.op_type]
    if len(inputs) != known.inputs or not all(node.input):
        raise ValueError(f"it has {sum(map(bool, node.input))} inputs instead of {known.inputs}")
    return known.shape(node, inputs)


def count_standing_weights(node: onnx.NodeProto, dims: Dims) -> int:
    """How many weights packed signs of shape (P, N, bytes) stand for: the planes together are one weight each."""
    return dims[1] * _row(node)


def bit_macs(node: onnx.NodeProto, inputs: Sequence[Dims], output: Dims) -> int:
    """Multiply-accumulates of bit by bit; each plane of the weights is one. 0 where a factor is a float."""
    known = bit_operator(node)
    if known is None or not known.binary or known.weight is None:
        return 0
    planes, outputs, _ = inputs[known.weight]
    positions = prod((output[0], *output[2:])) if node.op_type == "BConv" else prod(output[:-1])
    return positions * outputs * planes * _row(node)


def _row(node: onnx.NodeProto) -> int:
    known = bit_operator(node)
    assert known is not None
    assert known.length is not None
    return known.length(node)


def _number(node: onnx.NodeProto, name: str) -> int:
    value = attribute(node, name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"its attribute {name!r} is no positive number")
    return value


def _numbers(node: onnx.NodeProto, name: str, count: int, least: int) -> list[int]:
    value = attribute(node, name)
    if not isinstance(value, list) or len(value) != count or any(v < least for v in value):
        raise ValueError(f"its attribute {name!r} is no list of {count} numbers from {least} on")
    return value


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _expect(what: str, found: int, needed: int) -> None:
    if found != needed:
        raise ValueError(f"{what} is {found} long, {needed} is what its attributes need")


def _channels(node: onnx.NodeProto) -> int:
    return _number(node, "channels")


def _filter_length(node: onnx.NodeProto) -> int:
    """Signs of one filter."""
    channels, group = _channels(node), _number(node, "group")
    if channels % group:
        raise ValueError(f"{channels} channels are no multiple of {group} groups")
    return prod(_numbers(node, "kernel", 2, 1)) * channels // group


def _windows(node: onnx.NodeProto, image: Dims, dilations: Sequence[int]) -> Dims:
    """Height and width of what a sliding window gives. Shapes: image (N, H, W, bytes)."""
    kernel, strides = _numbers(node, "kernel", 2, 1), _numbers(node, "strides", 2, 1)
    pads = _numbers(node, "pads", 4, 0)
    sides = []
    for a in range(2):
        room = image[1 + a] + pads[a] + pads[a + 2] - dilations[a] * (kernel[a] - 1) - 1
        if room < 0:
            raise ValueError(f"its window does not fit into an image of {image[1]} x {image[2]}")
        sides.append(room // strides[a] + 1)
    return tuple(sides)


def _rank(what: str, dims: Dims, rank: int) -> None:
    if len(dims) != rank:
        raise ValueError(f"{what} has {len(dims)} axes instead of {rank}")


def _convolved(node: onnx.NodeProto, inputs: Sequence[Dims], *, to_bits: bool) -> Dims:
    """Channels come second where they are floats, last where they are bits."""
    image, weight = inputs[:2]
    _rank("its image", image, 4)
    _rank("its weight", weight, 3)
    _expect("the last axis of its image", image[3], _bytes(_channels(node)))
    _expect("a filter", weight[2], _bytes(_filter_length(node)))
    if weight[1] % _number(node, "group"):
        raise ValueError(f"{weight[1]} filters are no multiple of its groups")
    sides = _windows(node, image, _numbers(node, "dilations", 2, 1))
    return (image[0], *sides, _bytes(weight[1])) if to_bits else (image[0], weight[1], *sides)


def _multiplied(node: onnx.NodeProto, inputs: Sequence[Dims], *, of_bits: bool, to_bits: bool = False) -> Dims:
    """Shape of x times the transposed weight."""
    rows, weight = inputs[:2]
    _rank("its weight", weight, 3)
    if not rows:
        raise ValueError("its first input has no axis")
    channels = _channels(node)
    _expect("the last axis of its first input", rows[-1], _bytes(channels) if of_bits else channels)
    _expect("a row of its weight", weight[2], _bytes(channels))
    return (*rows[:-1], _bytes(weight[1]) if to_bits else weight[1])


def _packed(node: onnx.NodeProto, inputs: Sequence[Dims]) -> Dims:
    x = inputs[0]
    order = _numbers(node, "perm", len(x), 0)
    if sorted(order) != list(range(len(x))) or not x:
        raise ValueError(f"its order of axes {order} fits no tensor of {len(x)} axes")
    moved = [x[a] for a in order]
    return (*moved[:-1], _bytes(moved[-1]))


def _pooled(node: onnx.NodeProto, inputs: Sequence[Dims]) -> Dims:
    image = inputs[0]
    _rank("its image", image, 4)
    _expect("the last axis of its image", image[3], _bytes(_channels(node)))
    return (image[0], *_windows(node, image, (1, 1)), image[3])


def _unpacked(node: onnx.NodeProto, inputs: Sequence[Dims]) -> Dims:
    weight = inputs[0]
    _rank("its weight", weight, 3)
    _expect("a row of its weight", weight[2], _bytes(_channels(node)))
    return (weight[1], _channels(node))


_U8, _F32 = int(TensorProto.UINT8), int(TensorProto.FLOAT)
_float_rows = partial(_multiplied, of_bits=False)
BIT_OPERATORS.update(
    BitPack=BitOperator(_packed, _U8, 2),
    BConv=BitOperator(partial(_convolved, to_bits=False), _F32, 4, 1, _filter_length, scales=(2,), binary=True),
    BConvBits=BitOperator(partial(_convolved, to_bits=True), _U8, 3, 1, _filter_length, thresholds=(2,), binary=True),
    BGemm=BitOperator(partial(_multiplied, of_bits=True), _F32, 4, 1, _channels, scales=(2,), binary=True),
    BGemmBits=BitOperator(
        partial(_multiplied, of_bits=True, to_bits=True), _U8, 3, 1, _channels, thresholds=(2,), binary=True
    ),
    BMaxPool=BitOperator(_pooled, _U8, 1),
    UnpackWeight=BitOperator(_unpacked, _F32, 2, 0, _channels, scales=(1,)),
    MatMul1Bit=BitOperator(_float_rows, _F32, 3, 1, _channels, scales=(2,)),
    MatMul1BitInt8=BitOperator(_float_rows, _F32, 3, 1, _channels, scales=(2,)),
)
