"""Classical learners of ai.onnx.ml, whose weights are attributes: features go from those too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..labels import LENGTH_ONE, Axes
from ..node import Node, couples, rewrites
from ..surgery import Edit


@couples("ai.onnx.ml:Scaler", "ai.onnx.ml:Imputer")
def scaler(n: Node) -> Sequence[Axes]:
    """Features stand on the last axis; each attribute has one number, or one for each."""
    return [n.axes(0)] if n.rank(0) < 3 else n.frozen("counts features across its axes")


@rewrites("ai.onnx.ml:Scaler", "ai.onnx.ml:Imputer")
def scaler_features(e: Edit) -> None:
    for name in ("offset", "scale", "imputed_value_floats", "imputed_value_int64s"):
        _cut(e, name, 1)


@couples("ai.onnx.ml:Normalizer")
def normalizer(n: Node) -> Sequence[Axes]:
    """A sum over the features is exact: what went adds nothing. An extreme may have been what went."""
    if n.attr("norm", "MAX") == "MAX":
        n.inexact(n.axis(0, -1), "takes an extreme over it")
    else:
        n.contract(0, -1)
    return [n.axes(0)]


@couples("ai.onnx.ml:LinearRegressor", "ai.onnx.ml:LinearClassifier")
def linear(n: Node) -> Sequence[Axes]:
    """Shapes: x (N, F), coefficients (outputs, F). What it makes is numbered by its attributes."""
    n.share(*n.axes(0)[:-1], n.contract(0, -1))
    why = n.why("numbers what it makes")
    rows = n.axis(0, 0) if n.rank(0) > 1 else LENGTH_ONE
    return [(rows, *n.unlabelled(j, why)[1:]) for j in range(len(n.outputs))]


@rewrites("ai.onnx.ml:LinearRegressor", "ai.onnx.ml:LinearClassifier")
def linear_features(e: Edit) -> None:
    _cut(e, "coefficients", 0)


def _cut(e: Edit, name: str, least: int) -> None:
    """Keep of an attribute the numbers of features that stay; ``least`` of them are said of all features."""
    kept = e.keep(0, -1)
    values = e.attr(name) or []
    if len(values) > least:
        e.set_attr(name, np.array(values).reshape(-1, len(kept))[:, kept].reshape(-1).tolist())
