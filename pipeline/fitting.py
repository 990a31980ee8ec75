"""A result in the operator set and the format that it may have, where that changes nothing of what it computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..graph.errors import BadModel
from ..graph.io.fit import Fit, fitted
from ..graph.model import Model
from ..measure.run.inputs import runnable_inputs
from ..measure.run.session import open_session, run
from ..passes.change import Change


def fit_change(change: Change, fit: Fit) -> Change:
    """The same with a model that needs no more than it may, and notes of what it needs all the same.

    Raises:
        BadModel: it would need more than was asked for, or mean something else.
    """
    if not change.changed:
        return change
    model, notes = fitted(change.model, fit)
    if model.opset < change.model.opset:
        _require_same(change.model, model)
    return replace(change, model=model, notes=[*change.notes, *notes])


def _require_same(newer: Model, older: Model) -> None:
    feed = runnable_inputs(newer)
    pair = [run(open_session(model, optimize=False), feed).values() for model in (newer, older)]
    if not all(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f") for a, b in zip(*pair, strict=True)):
        raise BadModel(
            f"operator set {newer.opset} cannot be lowered to {older.opset}",
            why="the model would compute something else there",
        )
