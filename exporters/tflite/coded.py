"""Constants that nodes restore from integers, as weights of 8 bits or fewer are stored for any runtime: they stay integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph.evaluate import moved
from ...graph.nodes import attribute
from ...graph.traits import Trait, has_any
from .program import Kind, Order, Scales

_WORTH = 128
"""Numbers from which on it is worth an operator that restores them."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A constant is ``integers`` of 8 bits times ``scale``, which stretches to their shape."""

    integers: np.ndarray
    scale: np.ndarray

    @property
    def kind(self) -> Kind | None:
        """One scale for all or for each index of an axis; None where they lie otherwise, such as in blocks."""
        full = np.broadcast_to(self.scale, self.integers.shape)
        for axis in range(full.ndim):
            rows = np.moveaxis(full, axis, 0).reshape(full.shape[axis], -1)
            if np.array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape)):
                same = bool((rows[:, 0] == rows[0, 0]).all())
                scale = rows[0, 0] if same else rows[:, 0]
                scales = Scales(np.array(scale, np.float32), np.zeros(np.shape(scale), np.int64), 0 if same else axis)
                return Kind(np.dtype(np.int8), scales)
        return None

    @property
    def numbers(self) -> np.ndarray:
        return np.asarray(self.integers * self.scale, np.float32)

    def turned(self, order: Order) -> Coded:
        """With its axes in another order."""
        full = np.broadcast_to(self.scale, self.integers.shape)
        return Coded(self.integers.transpose(order), full.transpose(order))

    def in_blocks(self) -> Coded | None:
        """Rows of integers that share a scale, which lie side by side; None where there are no such."""
        full = np.broadcast_to(self.scale, self.integers.shape).reshape(-1, self.integers.shape[-1])
        changes = np.flatnonzero((full[:, 1:] != full[:, :-1]).any(axis=0)) + 1
        length = int(np.gcd.reduce([full.shape[1], *changes]))
        rows = full.reshape(-1, length)[:, :1]
        return Coded(self.integers.reshape(-1, length), rows) if length > 1 else None


def in_blocks(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> Coded | None:
    """What DequantizeLinear restores from constants where scales are those of blocks, without zero points."""
    size = attribute(node, "block_size", 0)
    integers, scale, *zero = [constants.get(name) if name else None for name in node.input]
    if not size or integers is None or scale is None or (zero and (zero[0] is None or np.any(zero[0].astype(np.int8)))):
        return None
    axis = attribute(node, "axis", 1) % integers.ndim
    wide = np.repeat(scale, size, axis).take(range(integers.shape[axis]), axis)
    return Coded(integers.astype(np.int8), wide)


def coded(node: onnx.NodeProto, values: Mapping[str, np.ndarray], known: Mapping[str, Coded]) -> Coded | None:
    """What a node that computes constants makes of integers; ``values`` has its operands and its first output."""
    made = values[node.output[0]]
    if made.dtype != np.float32 or made.size < _WORTH:
        return None
    of = [name for name in node.input if name in known]
    if not of:
        return _integers(made)
    one = known[of[0]]
    if node.op_type == "Mul" and len(of) == 1:
        others = [values[name] for name in node.input if name != of[0]]
        scale = one.scale * others[0] if others else one.scale
        fits = np.broadcast_shapes(scale.shape, one.integers.shape) == one.integers.shape
        return Coded(one.integers, scale) if fits else None
    if has_any(node, Trait.MOVES) and of == [node.input[0]]:
        rest = [values.get(name) for name in node.input[1:]]
        full = np.broadcast_to(one.scale, one.integers.shape)
        integers, scale = (moved(node, [part, *rest]) for part in (one.integers, full))
        return Coded(integers[0], scale[0]) if integers and scale else None
    return None


def _integers(made: np.ndarray) -> Coded | None:
    """Floats that are integers of 8 bits."""
    if float(made.min()) < -128 or float(made.max()) > 127 or not np.array_equal(made, np.rint(made)):
        return None
    return Coded(made.astype(np.int8), np.ones((), np.float32))
