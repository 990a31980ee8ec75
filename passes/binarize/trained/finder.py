"""Where the bits of a layer's input come from: signs, and what may stand between them and the layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from ....graph.nodes import is_standard
from ....graph.traits import Trait, data_operands, has, has_any
from .bits import Bits
from .dots import spatial_pads
from .fuse import step_of_sums
from .layer import Layer
from .pools import pool_obstacle
from .regions import regions
from .steps import Layout, Step, step
from .wires import Wires

Mover = Callable[["Finder", onnx.NodeProto, Layout], "Bits | str"]


@dataclass(frozen=True)
class Finder:
    """Looks for the signs that a tensor is made of.

    ``zeros`` takes what Sign makes of 0 as +1. ``layers`` are the layers of signs found so far, by their output.
    """

    wires: Wires
    zeros: bool = False
    layers: Mapping[str, Layer] = field(default_factory=dict)

    def find(self, name: str, layout: Layout) -> Bits | str:
        """The bits of a tensor, or why it has none. ``layout`` says where the layer that reads it has its channels."""
        name = self.wires.resolve(name)
        node = self.wires.maker(name)
        if node is None:
            return "its input comes from outside the network"
        found = self._longest(name, layout)
        if not isinstance(found, str):
            return found
        move = _MOVERS.get(node.op_type) if is_standard(node) else None
        moved = move(self, node, layout) if move else found
        if not isinstance(moved, str):
            return moved
        carried = self.carried(name)
        if isinstance(carried, str):
            return (moved if move else "") or found
        low, high = carried
        at = np.full(layout.channels, np.float32((low + high) / 2))
        return Bits(name, layout, Step(at, np.zeros(layout.channels, bool), low, high), "")

    def _longest(self, name: str, layout: Layout) -> Bits | str:
        """The step, from an earlier tensor than the last one where nobody else reads what it skips."""
        best: Bits | str = ""
        for region in regions(self.wires, name):
            if isinstance(best, Bits) and not region.is_private(self.wires):
                break
            if not self.wires.is_float32(region.source) or self.wires.dims(region.source) == ():
                continue
            found = step(self.wires, region, layout, zeros=self.zeros)
            if isinstance(found, str):
                best = best or found
                continue
            best = Bits(region.source, layout, found, region.target)
        if isinstance(best, Bits):
            return best
        sums = step_of_sums(self.wires, self.layers, name)
        if sums is not None and sums[1].channels == layout.channels:
            return Bits(sums[0], sums[1], sums[2], name)
        if best:
            return best
        node = self.wires.maker(name)
        return f"its input is no sign: {node.op_type if node else 'nothing'} makes it"

    def carried(self, name: str) -> tuple[float, float] | str:
        """The two values of a tensor that operators made which only move numbers."""
        name = self.wires.resolve(name)
        node = self.wires.maker(name)
        if node is None:
            return "no sign"
        if has(node, Trait.BROADCASTS) or not has_any(node, Trait.MOVES | Trait.FILLS | Trait.SELECTS):
            return self._leaf(name)
        found = [self.carried(source) for source in data_operands(node)]
        first = found[0]
        if any(isinstance(f, str) or f != first for f in found):
            return next((f for f in found if isinstance(f, str)), "signs of different size are joined")
        if has(node, Trait.FILLS):
            fill = node.input[2] if node.op_type == "Pad" and len(node.input) > 2 else ""
            value = self.wires.known.get(fill) if fill else np.zeros(1)
            if value is None or float(value.reshape(-1)[0]) not in first:
                return f"a {node.op_type} adds a third value"
        return first

    def _leaf(self, name: str) -> tuple[float, float] | str:
        dims = self.wires.dims(name)
        if not dims or len(dims) < 2:
            return "no sign"
        for axis, channels in ((1, 1), (1, dims[1]), (len(dims) - 1, dims[-1])):
            found = self._longest(name, Layout(len(dims), axis, channels))
            if not isinstance(found, str):
                return found.step.low, found.step.high
        return "no sign"


def _pad(finder: Finder, node: onnx.NodeProto, layout: Layout) -> Bits | str:
    added = spatial_pads(finder.wires, node, layout.rank)
    if isinstance(added, str) or layout.axis != 1:
        return added if isinstance(added, str) else "a Pad feeds it"
    found = finder.find(node.input[0], layout)
    if isinstance(found, str) or found.border is not None:
        return found if isinstance(found, str) else "two Pads feed it"
    begins, ends, value = added
    if found.factor and value:
        return "a Pad behind a factor of each sample feeds it"
    return replace(found, begins=begins, ends=ends, border=value)


def _max_pool(finder: Finder, node: onnx.NodeProto, layout: Layout) -> Bits | str:
    found = finder.find(node.input[0], layout)
    if isinstance(found, str):
        return found
    reason = pool_obstacle(node) or ("a Pad before a MaxPool feeds it" if found.border is not None else "")
    if reason or found.factor or not found.target:
        return reason or "a MaxPool of something else than signs feeds it"
    return replace(found, pools=(*found.pools, node))


def _flatten(finder: Finder, node: onnx.NodeProto, layout: Layout) -> Bits | str:
    """Images become rows. Bits can stay where they are if the channels of a pixel fill whole bytes."""
    image, rows = finder.wires.dims(node.input[0]), finder.wires.dims(node.output[0])
    if image is None or rows is None or len(image) != 4 or rows != (image[0], layout.channels) or image[1] % 8:
        return f"{node.op_type} feeds it"
    found = finder.find(node.input[0], Layout(4, 1, image[1]))
    if isinstance(found, str) or found.border is not None or found.factor or not found.target:
        return found if isinstance(found, str) else "something else than signs is flattened"
    return replace(found, flattened=node, pixels=image[2] * image[3])


def _times(finder: Finder, node: onnx.NodeProto, layout: Layout) -> Bits | str:
    """One number for each sample, worked out while the network runs: XNOR-Net's mean magnitude."""
    reason = ""
    for signs, factor in (tuple(node.input), tuple(node.input)[::-1]):
        dims = finder.wires.dims(factor)
        if factor in finder.wires.known or dims is None or any(d != 1 for d in dims[1:]):
            continue
        if len(dims) not in (0, layout.rank):
            continue
        found = finder.find(signs, layout)
        if isinstance(found, str) or found.factor or found.border is not None or found.middle:
            reason = reason or (found if isinstance(found, str) else "signs are scaled twice")
            continue
        return replace(found, factor=factor)
    if all(name not in finder.wires.known for name in node.input):
        return reason or "its signs are scaled by a tensor, not by one number for each sample"
    return ""


_MOVERS: dict[str, Mover] = {"Pad": _pad, "MaxPool": _max_pool, "Flatten": _flatten, "Reshape": _flatten, "Mul": _times}
