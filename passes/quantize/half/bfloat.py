"""Weights stored in bfloat16, computed with in float32.

ONNX Runtime's CPU has next to no bfloat16 kernels. A Cast to float32 stands behind each weight; it is computed once, when
the file is opened, so the model is as fast as before and its file half as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import ml_dtypes
import numpy as np
from onnx import TensorProto

from ....graph.model import Model
from ....graph.nodes import display_name
from ...patterns import choose_nodes
from ...precision.decibels import sqnr_db
from ...precision.result import Result
from ...rewrite.edit import Edit, Outcome
from ..prepare import convert_prepared
from ..scheme import SCHEMES, Job

SMALLEST = 1024
"""Elements of weights below which the Cast is not worth it."""


def bfloat16_weights(
    model: Model,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    least_db: float = 30.0,
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
        if value.dtype != np.float32 or value.size < SMALLEST:
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
    found = partial(bfloat16_weights, least_db=job.options.min_sqnr)
    return convert_prepared(
        job, found, lambda one, done: one.weight in done and not one.unfit, "bfloat16", method="nearest"
    )
