"""Models that were trained from one base, merged into one by what training changed: sparse task vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph.errors import BadModel, NothingChanged
from ...graph.model import Model
from ..blocks import highest_in_blocks

_VARIANCE = 4
"""Operand of BatchNormalization that must not fall below nought."""


@dataclass(frozen=True)
class Merged:
    """``kept`` counts the numbers that each tuned model gives, ``changed`` those in which it differs from the base."""

    model: Model
    kept: Sequence[int]
    changed: Sequence[int]


def merge(
    base: Model, tuned: Sequence[Model], *, n: int = 64, m: int = 256, scales: Sequence[float] = (), apart: bool = True
) -> Merged:
    """base + sum of scale_i (mask_i * (tuned_i - base)): of every ``m`` differences in a row of memory the ``n`` largest.

    With ``apart``, a number that one model changes no later one does, so that no two pull at the same: before its mask is
    chosen, a difference is nought wherever an earlier mask is set. All constants of floats are merged.

    Source: Yang et al., "CABS: Conflict-Aware and Balanced Sparsification for Enhancing Model Merging", ICML 2025,
    arXiv:2503.01874.

    Raises:
        BadModel: a tuned model is no other state of the same network.
        NothingChanged: no tuned model differs from the base.
    """
    for number, one in enumerate(tuned):
        _require_same(base, one, str(one.file.path) if one.file else f"model {number + 1} behind the base")
    merged = base.copy()
    kept, changed = [0] * len(tuned), [0] * len(tuned)
    floors = {node.input[_VARIANCE] for node in base.graph.node if node.op_type == "BatchNormalization"}
    for name, old in base.weights.items():
        if old.dtype.kind != "f" or all(np.array_equal(old, one.weights[name]) for one in tuned):
            continue
        flat = old.astype(np.float64).reshape(-1)
        total, taken = flat.copy(), np.zeros(flat.shape, bool)
        for number, one in enumerate(tuned):
            vector = one.weights[name].astype(np.float64).reshape(-1) - flat
            changed[number] += int(np.count_nonzero(vector))
            if apart:
                vector = np.where(taken, 0.0, vector)
            mask = highest_in_blocks(np.abs(vector), n, m) & (vector != 0)
            total += (scales[number] if scales else 1.0) * np.where(mask, vector, 0.0)
            taken |= mask
            kept[number] += int(mask.sum())
        new = np.maximum(total, 0.0) if name in floors else total
        merged.put(name, new.reshape(old.shape).astype(old.dtype))
    if not any(changed):
        raise NothingChanged("no tuned model differs from the base", fix="name models that were trained further")
    return Merged(merged, kept, changed)


def _require_same(base: Model, other: Model, name: str) -> None:
    """Raises BadModel that tells the first difference."""
    what = f"{name} is no other state of the same network"
    fix = "export all of them from one program in the same way"
    mine, theirs = base.graph.node, other.graph.node
    if len(mine) != len(theirs):
        raise BadModel(what, why=f"it has {len(theirs)} nodes, the base has {len(mine)}", fix=fix)
    for a, b in zip(mine, theirs, strict=True):
        if _told(a) != _told(b):
            raise BadModel(
                what, why=f"{b.op_type} {b.name or b.output[0]!r} is not {a.op_type} {a.name or a.output[0]!r}", fix=fix
            )
    if gone := base.weights.keys() ^ other.weights.keys():
        raise BadModel(what, why=f"constant {min(gone)!r} is in one of them only", fix=fix)
    for constant, weight in base.weights.items():
        found = other.weights[constant]
        if (weight.shape, weight.dtype) != (found.shape, found.dtype):
            why = f"constant {constant!r} is {found.dtype} {list(found.shape)}, of the base {weight.dtype} {list(weight.shape)}"
            raise BadModel(what, why=why, fix=fix)
        if weight.dtype.kind != "f" and not np.array_equal(weight, found):
            raise BadModel(
                what,
                why=f"constant {constant!r} holds other integers, which cannot be added up",
                fix="merge the floats, and quantize what comes of it",
            )


def _told(node: onnx.NodeProto) -> bytes:
    """All of a node but its name."""
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    bare.name = ""
    return bytes(bare.SerializeToString(deterministic=True))
