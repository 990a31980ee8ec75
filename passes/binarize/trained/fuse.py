"""Layers whose output is only ever read as signs: their bits come from comparing integers.

The sum of products of K signs is one of K + 1 integers. What the network makes of it until the next signs is
evaluated for every one of them, in each channel, by the operators that the model has. If it changes sign once, it is a
comparison with an integer, whatever the chain is: scales, shifts, normalizations, clips, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from ....graph.nodes import reads
from .bits import Bits
from .layer import Layer
from .pools import pool_obstacle
from .regions import Region, evaluate_region, find_region
from .steps import Layout, Step, two_values
from .wires import Wires

NEVER = 2**30
"""Threshold of a channel that is always -1; the negative one of a channel that is always +1."""
_LARGEST = 1 << 24
"""Sums times channels above which nothing is evaluated."""


@dataclass(frozen=True)
class Fusion:
    """Bits straight from a layer: ``target``, the signs. Rows that ``flip`` are negated; a bit is ``dot < threshold``.

    ``pool`` is a MaxPool that stood between the layer and its signs: it works on the bits. The original's two values lie
    on both sides of ``middle``. Channels that are ``turned`` hold the opposite of the signs: where signs fall behind a
    pool, the pool takes the largest of the opposite ones, and who reads them has negated weights.
    Shapes: threshold int32, flip, turned bool (outputs,).
    """

    target: str
    threshold: np.ndarray
    flip: np.ndarray
    turned: np.ndarray
    pool: onnx.NodeProto | None
    middle: float = 0.0


def fusions(wires: Wires, layers: Mapping[int, Layer], *, zeros: bool = False) -> dict[int, Fusion]:
    """By the place of the layer that makes the bits."""
    makers = {layer.dot.out: place for place, layer in layers.items() if layer.bits and not layer.bits.factor}
    found: dict[int, Fusion] = {}
    for reader in layers.values():
        bits = reader.bits
        if bits is None or not bits.target:
            continue
        path = _path(wires, bits, set(makers))
        if path is None or makers[path[0].source] in found:
            continue
        first, pool, rest = path
        place = makers[first.source]
        maker = layers[place]
        one = _step_of(wires, maker, first, rest, bits, zeros)
        if one is None:
            continue
        turned = bits.step.falls if pool is not None else np.zeros(maker.dot.outputs, bool)
        if turned.any() and not all(_may_turn(layer, bits.target) for layer in layers.values()):
            continue
        if maker.dot.out not in _needed(wires, layers, {f.target for f in found.values()} | {bits.target}):
            found[place] = Fusion(bits.target, *_threshold(one), turned, pool, bits.middle)
    return found


def _path(wires: Wires, bits: Bits, dots: set[str]) -> tuple[Region, onnx.NodeProto | None, Region] | None:
    """From a layer to the signs: a region, perhaps a MaxPool, and a region behind it."""
    whole = find_region(wires, bits.target, dots)
    if whole is not None:
        return whole, None, Region(bits.target, bits.target, ())
    pool = wires.maker(bits.source)
    rest = find_region(wires, bits.target, {bits.source})
    if pool is None or rest is None or pool.op_type != "MaxPool" or pool_obstacle(pool):
        return None
    first = find_region(wires, pool.input[0], dots)
    return None if first is None else (first, pool, rest)


def _may_turn(reader: Layer, target: str) -> bool:
    """Whether a layer can read the opposite of some channels: another pool and borders of +1 or -1 are against it."""
    bits = reader.bits
    return bits is None or bits.target != target or not (bits.pools or reader.border)


def _step_of(wires: Wires, maker: Layer, first: Region, rest: Region, bits: Bits, zeros: bool) -> Step | None:
    """What the signs are of each integer that the maker can give, turned channels the other way round.

    Its thresholds are integers.
    """
    found = values_of(wires, maker, first)
    if found is None:
        return None
    dots, _, values = found
    if rest.nodes:
        values = np.where(values < bits.step.threshold, bits.step.low, bits.step.high)
    known = two_values(dots.astype(np.float64), values, zeros=zeros)
    return None if isinstance(known, str) else replace(known, low=bits.step.low, high=bits.step.high)


def values_of(wires: Wires, maker: Layer, region: Region) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Every sum of a layer in each channel, its output then, and what a region makes of that. Shapes: (P, outputs)."""
    sums = reachable(maker)
    if len(sums) * maker.dot.outputs > _LARGEST:
        return None
    dots = np.repeat(sums[:, None], maker.dot.outputs, axis=1)
    given = dots.astype(np.float32) * maker.scale.astype(np.float32) + maker.bias.astype(np.float32)
    made = evaluate_region(wires, region, maker.dot.out_layout.spread(given))
    return None if made is None else (dots.astype(np.float64), given, made.reshape(given.shape).astype(np.float64))


def step_of_sums(wires: Wires, layers: Mapping[str, Layer], target: str) -> tuple[str, Layout, Step] | None:
    """A step of the output of a layer, which takes few values: for what is no step of all numbers, such as Sign."""
    region = find_region(wires, target, {n for n, layer in layers.items() if layer.bits and not layer.bits.factor})
    if region is None or not region.nodes:
        return None
    maker = layers[region.source]
    found = values_of(wires, maker, region)
    if found is None:
        return None
    _, given, values = found
    order = np.argsort(given, axis=0, kind="stable")
    one = two_values(np.take_along_axis(given, order, 0), np.take_along_axis(values, order, 0))
    return None if isinstance(one, str) else (region.source, maker.dot.out_layout, one)


def reachable(layer: Layer) -> np.ndarray:
    """All integers that a layer's sum can be. Every second one only, unless some products are 0."""
    length = layer.signs.signs.shape[1]
    zeros = layer.signs.ternary or (layer.window is not None and any(layer.window.pads) and layer.border == 0)
    return np.arange(-length, length + 1, 1 if zeros else 2)


def _threshold(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """As integers, and the rows to negate: ``dot >= t`` is ``-dot < 1 - t``."""
    limited = np.clip(step.threshold, -NEVER, NEVER).astype(np.int64)
    return np.where(step.falls, 1 - limited, limited).astype(np.int32), step.falls


def _needed(wires: Wires, layers: Mapping[int, Layer], fused: set[str]) -> set[str]:
    """Tensors that are still read if all layers read bits, those of the ``fused`` signs straight from their makers."""
    needed: set[str] = set()
    todo = list(wires.outputs)
    todo.extend(i for p, layer in layers.items() for i in _inputs(wires, p, layer, fused))
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        needed.add(name)
        place = wires.place.get(name)
        if place is not None:
            todo.extend(_inputs(wires, place, layers.get(place), fused))
    return needed


def _inputs(wires: Wires, place: int, layer: Layer | None, fused: set[str]) -> Iterable[str]:
    if layer is None or layer.bits is None:
        return reads(wires.nodes[place])
    bits = layer.bits
    return [name for name in (bits.factor, "" if bits.target in fused and bits.target else bits.source) if name]
