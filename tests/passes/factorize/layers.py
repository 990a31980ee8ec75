"""One layer as a model, and a way to split it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.factorize.rewrite import apply, split
from intaglio.passes.factorize.schemes.scheme import SCHEMES
from intaglio.passes.factorize.sites import Unit, find
from intaglio.passes.simplify import Names


def layer(
    op: str, inputs: dict[str, Any], weights: dict[str, np.ndarray], order: list[str], **attributes: Any
) -> Model:
    """``inputs`` maps names to shapes; ``order`` names the operands."""
    node = helper.make_node(op, order, ["y"], "layer", **attributes)
    kinds = {name: TensorProto.INT64 if name == "ids" else TensorProto.FLOAT for name in inputs}
    values = [helper.make_tensor_value_info(name, kinds[name], dims) for name, dims in inputs.items()]
    graph = helper.make_graph([node], "net", values, [onnx.ValueInfoProto(name="y")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Model(proto, weights)


def the_unit(model: Model) -> Unit:
    units, whole = find(model)
    assert not whole, whole
    (unit,) = units
    return unit


def factored(model: Model, unit: Unit, name: str, rank: int, moments: np.ndarray | None = None) -> Model:
    """The model with one unit split by a scheme."""
    scheme = SCHEMES[name]
    matrices = unit.matrices(model)
    factors = scheme.factor(unit.site, matrices, rank, moments)
    return apply(model, [split(model, unit, scheme, factors, Names(model))])


def outputs(model: Model, feed: dict[str, np.ndarray]) -> np.ndarray:
    (value,) = run(open_session(model), feed).values()
    return np.asarray(value)


def gap(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(a).max(), 1e-9))


def moments_of(columns: int, groups: int = 1, seed: int = 0) -> np.ndarray:
    """Second moments of correlated rows. Shapes: (groups, columns, columns)."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((groups, columns, columns)) / columns**0.5
    rows = rng.standard_normal((groups, 4 * columns, columns)) @ (mixing + np.eye(columns))
    return np.asarray(np.matmul(rows.transpose(0, 2, 1), rows) / rows.shape[1])
