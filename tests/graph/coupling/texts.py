"""Models written as text, with random weights, and one call that checks all that must hold of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from intaglio.graph.coupling import Coupling

from .equality import analysed, assert_nothing_changes, choose, verify

Shape = tuple[int, ...]


def net(body: str, inputs: str, outputs: str, opset: int = 17, ir: int = 8, /, **weights: Any) -> onnx.ModelProto:
    """A model from the text of its nodes. ``_`` stands for an operand or output left out.

    ``weights``: a tuple is the shape of random ones, a list or an integer holds int64, anything else is taken as is.
    """
    text = f'<ir_version: {ir}, opset_import: ["" : {opset}]> net ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.input[:] = ["" if name == "_" else name for name in node.input]
        node.output[:] = ["" if name == "_" else name for name in node.output]
    rng = np.random.default_rng(len(body))
    model.graph.initializer.extend(numpy_helper.from_array(_array(v, rng), k) for k, v in weights.items())
    return model


def _array(value: Any, rng: np.random.Generator) -> np.ndarray:
    if isinstance(value, tuple):
        fan_in = math.prod(value[1:])
        return np.asarray(rng.standard_normal(value) / np.sqrt(max(1, fan_in)), dtype=np.float32)
    return np.asarray(value, dtype=np.int64) if isinstance(value, int | list) else np.asarray(value)


def feeds(model: onnx.ModelProto, sizes: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """Inputs for a model: normal floats, small integers, truth values."""
    rng = np.random.default_rng(seed)
    held = {t.name for t in model.graph.initializer}
    found = {}
    for value in model.graph.input:
        if value.name in held:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [d.dim_value or sizes.get(d.dim_param, 2) for d in value.type.tensor_type.shape.dim]
        drawn = rng.integers(0, 5, shape) if kind.kind == "i" else rng.standard_normal(shape)
        found[value.name] = np.asarray(drawn > 0 if kind.kind == "b" else drawn, dtype=kind)
    return found


def holds(
    model: onnx.ModelProto, *, prunable: list[int], sizes: Mapping[str, int] | None = None, checked: bool = True
) -> Coupling:
    """Prune a model in several ways and compare; ``prunable`` are the widths of the groups that must be prunable.

    ``sizes`` are numbers for symbolic dimensions, other than the twos that are tried too.
    """
    coupling = analysed(model)
    found = sorted(g.channels for g in coupling.groups if g.prunable)
    assert found == sorted(prunable), [(g.name, g.channels, str(g.frozen_by)) for g in coupling.groups]
    inputs = [feeds(model, {}, 0)] + ([feeds(model, sizes, 1)] if sizes else [])
    assert_nothing_changes(coupling, inputs[0])
    for seed, exact, most in ((0, False, False), (1, True, False), (2, False, True)):
        removal = choose(coupling, _number(seed), wanted=lambda g, e=exact: g.exact or not e, most=most)  # type: ignore[misc]
        for values in inputs:
            verify(removal, values, checked=checked)
    return coupling


def _number(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return lambda low, high: int(rng.integers(low, high + 1))
