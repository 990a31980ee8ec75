"""Models that insist on one sample a run, made to take many at once where they can."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from ...graph.errors import IntaglioError
from ...graph.index import index_of
from ...graph.io.fix_dims import pin_shapes
from ...graph.model import Model
from ...graph.nodes import attribute, is_standard
from ...graph.shapes import Shapes
from ..difference import Difference, add_outputs
from .inputs import random_inputs
from .session import open_session, run
from .tensor_specs import TensorSpec, input_specs, output_specs

SYMBOL = "intaglio_batch"
_TRIED = 3
"""Samples of the run that shows whether the samples of a batch keep apart."""
_SAME = 1e-4
"""How far outputs may lie apart, relative to the largest one: kernels may sum in another order."""


def open_batch(model: Model) -> Model | None:
    """The same model with a symbolic first axis, where it insists on one sample; None where that is not possible.

    Declared shapes and the constants of ``Reshape`` nodes change. Whether samples are then computed independently of
    each other is tried: a run of several made-up samples must give what single runs give. ``pin_shapes`` with the old
    shapes makes the result take one sample again.
    """
    ports, outputs = input_specs(model), output_specs(model)
    if not ports or not outputs or not all(_takes_one(p) for p in (*ports, *outputs)):
        return None
    try:
        opened = _opened(model, index_of(model).shapes, {p.name for p in ports})
        return opened if _keeps_apart(model, opened) else None
    except IntaglioError:
        return None


def open_for_batches(model: Model) -> tuple[Model, Callable[[Model], None]]:
    """The model to work with, and what makes it, or a model made of it, take one sample again, in place.

    A model that takes any number of samples, or that cannot be opened, is given back as it is.
    """
    opened = open_batch(model)
    if opened is None:
        return model, lambda _: None
    shapes = {p.name: [d if isinstance(d, int) else -1 for d in p.shape or ()] for p in input_specs(model)}
    return opened, lambda changed: pin_shapes(changed, shapes)


def _takes_one(port: TensorSpec) -> bool:
    return port.shape is not None and len(port.shape) > 1 and port.shape[0] == 1


def _opened(model: Model, shapes: Shapes, inputs: set[str]) -> Model:
    opened = model.copy()
    for value in (*(v for v in opened.graph.input if v.name in inputs), *opened.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = SYMBOL
    del opened.graph.value_info[:]
    constants = {**_constant_nodes(opened), **opened.weights}
    for index, node in enumerate(opened.graph.node):
        target = constants.get(node.input[1]) if is_standard(node) and node.op_type == "Reshape" else None
        if target is not None and _fixes_one(node, target, shapes):
            name = f"{node.input[1]}/{SYMBOL}.{index}"
            opened.weights[name] = np.concatenate([[0], target[1:]]).astype(np.int64)
            node.input[1] = name
    return opened


def _constant_nodes(model: Model) -> Mapping[str, np.ndarray]:
    nodes = [n for n in model.graph.node if n.op_type == "Constant" and is_standard(n)]
    found = {n.output[0]: attribute(n, "value") for n in nodes}
    return {name: onnx.numpy_helper.to_array(v) for name, v in found.items() if isinstance(v, onnx.TensorProto)}


def _fixes_one(node: onnx.NodeProto, target: np.ndarray, shapes: Shapes) -> bool:
    """Whether the first axis is one before and after, and would be copied if it were given as 0."""
    before = shapes.dims.get(node.input[0])
    return bool(before and before[0] == 1 and target.size and target[0] == 1 and not attribute(node, "allowzero", 0))


def _keeps_apart(model: Model, opened: Model) -> bool:
    inputs = random_inputs(opened, dims={SYMBOL: _TRIED})
    together = run(open_session(opened), inputs)
    session = open_session(model)
    singles = [run(session, {name: x[i : i + 1] for name, x in inputs.items()}) for i in range(_TRIED)]
    if any(np.shape(values)[:1] != (_TRIED,) for values in together.values()):
        return False
    apart = {name: np.concatenate([single[name] for single in singles]) for name in together}
    found: dict[str, Difference] = {}
    add_outputs(found, apart, together)
    return all(d.max_rel <= _SAME and not d.not_finite for d in found.values())
