"""Example graphs for the operators on bits, whose channels shrink where they come out as floats."""

from __future__ import annotations

from typing import Any

from intaglio.kernels.operators import DOMAIN, VERSION, definition
from intaglio.kernels.packing import pack
from tests.packed import convolution
from tests.zoo.graph import Graph

from .examples import ONLY_FREEZES, SEQUENCE, closed, example

ONLY_FREEZES.update(
    {f"{DOMAIN}:{op}": "gives bits" for op in ("BitPack", "BConvBits", "BGemmBits", "BMaxPool")},
)


def bits(g: Graph, op: str, shape: tuple[int, ...] | None, *inputs: str, **attributes: Any) -> str:
    """An operator on bits with its definition, and with the shape of floats that it gives."""
    g.domains[DOMAIN] = VERSION
    if all(f.name != op for f in g.functions):
        g.functions.append(definition(op, g.opset))
    y = g.op(op, *inputs, domain=DOMAIN, **attributes)
    if shape is not None:
        g.known.append(g.state(y, shape))
    return y


def packed(g: Graph, x: str, *perm: int) -> str:
    return bits(g, "BitPack", None, x, g.const(0.0), perm=list(perm))


def signs(g: Graph, *shape: int) -> str:
    return g.const(pack(g.random.choice([-1.0, 1.0], shape)), "uint8")


@example("intaglio:BConv")
def binary_convolution(g: Graph, x: str) -> str:
    settings = convolution(3, pad_value=0.0)
    y = bits(
        g, "BConv", (2, 8, 6, 6), packed(g, x, 0, 2, 3, 1), signs(g, 2, 8, 27), g.scale(8), g.vector(8), **settings
    )
    return closed(g, g.op("Relu", y))


@example("intaglio:BConv", shape=(2, 6, 6, 6))
def grouped_binary_convolution(g: Graph, x: str) -> str:
    """The layer after it has groups too, of other channels."""
    y = packed(g, x, 0, 2, 3, 1)
    y = bits(g, "BConv", (2, 8, 6, 6), y, signs(g, 1, 8, 27), g.scale(8), g.vector(8), **convolution(6, group=2))
    return closed(g, g.op("Conv", y, g.weight(8, 2, 1, 1), group=4))


@example("intaglio:BGemm", "intaglio:MatMul1Bit", "intaglio:MatMul1BitInt8", shape=SEQUENCE)
def products(g: Graph, x: str) -> str:
    a = bits(g, "BGemm", (2, 5, 8), packed(g, x, 0, 1, 2), signs(g, 1, 8, 6), g.scale(8), g.vector(8), channels=6)
    b = bits(g, "MatMul1Bit", (2, 5, 8), x, signs(g, 2, 8, 6), g.scale(2, 8, 2), channels=6, block=4)
    c = bits(g, "MatMul1BitInt8", (2, 5, 8), x, signs(g, 1, 8, 6), g.scale(1, 8, 1), channels=6, block=6)
    return closed(g, g.op("Mul", g.op("Add", a, b), c))


@example("intaglio:UnpackWeight")
def decoded_filters(g: Graph, x: str) -> str:
    matrix = bits(g, "UnpackWeight", (8, 27), signs(g, 1, 8, 27), g.scale(1, 8, 1), channels=27, block=27)
    y = g.op("Conv", x, g.op("Reshape", matrix, g.const([8, 3, 3, 3])), g.vector(8), pads=[1] * 4)
    return closed(g, g.op("Relu", y))
