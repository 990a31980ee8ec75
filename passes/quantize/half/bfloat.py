"""Weights stored in bfloat16, computed with in float32.

ONNX Runtime's CPU has next to no bfloat16 kernels. A Cast to float32 stands behind each weight; it is computed once, when
the file is opened, so the model is as fast as before and its file half as large.
"""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
from onnx import TensorProto

from ....graph.index import index_of
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.nodes import display_name
from ...patterns import choose_nodes
from ...precision.decibels import sqnr_db
from ...precision.result import LayerNote, Result
from ...rewrite.edit import Edit, Outcome
from ..prepare import prepare_model
from ..scheme import SCHEMES, Job

SMALLEST = 1024
"""Elements of weights below which the Cast is not worth it."""


def bfloat16_weights(
    model: Model,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    least_db: float = 30.0,
    smallest: int = SMALLEST,
) -> Outcome:
    """Store float32 weights that a chosen node reads in bfloat16, but for those that would be off by too much.

    What was done and skipped is by name of the weight. A weight that an excluded node reads too stays as it is.

    Raises:
        UsageError: a pattern matches nothing.
    """
    edit = Edit(model)
    done: dict[str, str] = {}
    skipped: dict[str, str] = {}
    excluded = _excluded(model, include, exclude)
    for name, value in model.weights.items():
        if value.dtype != np.float32 or value.size < smallest:
            continue
        with np.errstate(over="ignore"):
            rounded = value.astype(ml_dtypes.bfloat16)
        quality = sqnr_db(value, rounded)
        if name in excluded:
            skipped[name] = f"{excluded[name]!r} reads it and is excluded"
        elif quality < least_db:
            skipped[name] = f"it would be off by {quality:.1f} dB"
        else:
            stored = edit.constant(f"{name}_bfloat16", rounded)
            edit.add("Cast", [stored], name, name=f"{name}_restored", to=TensorProto.FLOAT)
            del edit.model.weights[name]
            done[name] = f"bfloat16, off by {quality:.1f} dB"
    for node in model.graph.node:
        edit.keep(node)
    return Outcome(edit.finish() if done else model, done, skipped)


def _excluded(model: Model, include: Sequence[str], exclude: Sequence[str]) -> dict[str, str]:
    """Weights that must stay, and a node that says so."""
    chosen = choose_nodes(model, include, exclude)
    return {
        name: display_name(node)
        for node, wanted in zip(model.graph.node, chosen, strict=True)
        if not wanted
        for name in node.input
        if name in model.weights
    }


@SCHEMES.register("bf16")
def bf16(job: Job) -> Result:
    """Large weights in bfloat16, computed in float32: half the file."""
    options, ready = job.options, prepare_model(job)
    found = bfloat16_weights(
        ready.model, include=options.include, exclude=(*options.exclude, *job.spared), least_db=options.min_sqnr
    )
    nodes = index_of(ready.model).names
    layers = [
        LayerNote(nodes[one.node], one.node, one.x, "bfloat16", method="nearest")
        for one in Layers(ready.model)
        if one.weight in found.done
    ]
    return Result.of(found, ready.model, layers).noted(*ready.notes)
