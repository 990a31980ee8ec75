"""Tensors made from shapes, and the shapes themselves."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels import LENGTH_ONE, Axes
from ..node import Node, couples, rewrites
from ..surgery import Edit


@couples("Shape")
def shape(n: Node) -> Sequence[Axes]:
    """Reading a length does not tie the axis: the rewrite goes on reporting the lengths that later nodes expect."""
    n.axes(0)
    return [n.unlabelled(0, n.why("lists lengths along it"))]


@rewrites("Shape")
def reported_lengths(e: Edit) -> None:
    first = e.attr("start", 0)
    first = first + e.node.rank(0) if first < 0 else first
    count = e.node.out_dims()[0]
    changes = {a: e.node.dims(0)[first + a] for a in range(count) if e.shrinks(0, first + a)}
    e.patch_output(0, changes)


@couples("Size")
def size(n: Node) -> Sequence[Axes]:
    return n.frozen("counts its elements")


@couples("ConstantOfShape")
def constant_of_shape(n: Node) -> Sequence[Axes]:
    """Equal values everywhere, so every axis of a fixed length has channels of its own."""
    n.freeze_rest(0, text="lists lengths along it")
    name, why = n.proto.output[0], n.why("has a computed length")
    return [
        tuple(
            LENGTH_ONE if length == 1 else n.fresh(length) if n.trace.fixed(name, a) else why
            for a, length in enumerate(n.out_dims())
        )
    ]


@rewrites("ConstantOfShape")
def constant_lengths(e: Edit) -> None:
    e.patch(0, {a: e.kept_out(0, a) for a in range(len(e.node.out_dims())) if e.shrinks_out(0, a)})


@couples("Range", "EyeLike")
def counted(n: Node) -> Sequence[Axes]:
    return n.frozen("numbers its indices")
