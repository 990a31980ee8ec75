"""Whatever a node holds and is given, it is computed or refused with an error: nothing crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.kernels.operators import OPERATORS
from intaglio.kernels.register import ops_library

from .cases import Case, cases, session
from .signs import needs_library

NATIVE = [op for op in OPERATORS if op != "UnpackWeight"]
NUMBERS = {
    "channels": st.sampled_from([-1, 0, 1, 2, 8, 9, 17, 1 << 31, 1 << 40]),
    "group": st.sampled_from([-1, 0, 1, 1, 1, 2, 3, 1 << 33]),
    "block": st.sampled_from([-1, 0, 1, 8, 9, 100, 1 << 31]),
    "kernel": st.sampled_from([-1, 0, 1, 1, 2, 3, 1 << 16, 1 << 31]),
    "strides": st.sampled_from([0, 1, 1, 2, (1 << 31) - 1, 1 << 31]),
    "dilations": st.sampled_from([0, 1, 1, 2, (1 << 31) - 1, 1 << 40]),
    "pads": st.sampled_from([-1, 0, 0, 1, 2, 3]),
    "perm": st.integers(-1, 3),
}
LENGTHS = {"kernel": 2, "strides": 2, "dilations": 2, "pads": 4}


@st.composite
def strange_nodes(draw: Any) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A node of any operator whose attributes and inputs need not fit together, or be there at all."""
    op = draw(st.sampled_from(NATIVE))
    usual, rng = draw(cases(op)), np.random.default_rng(draw(st.integers(0, 99)))
    attributes: dict[str, Any] = {}
    for name, value in usual.attributes.items():
        if draw(st.integers(0, 20)) == 0:
            continue
        if draw(st.booleans()) or name not in NUMBERS:
            attributes[name] = value
        elif name in LENGTHS or name == "perm":
            length = LENGTHS.get(name, 0) if draw(st.booleans()) and name in LENGTHS else draw(st.integers(1, 5))
            attributes[name] = [draw(NUMBERS[name]) for _ in range(length)]
        else:
            attributes[name] = draw(NUMBERS[name])
    inputs = {}
    for name, value in usual.inputs.items():
        shape = value.shape if draw(st.booleans()) else tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
        inputs[name] = np.asarray(rng.standard_normal(shape) * 100).astype(value.dtype)
    fed = tuple(inputs) if draw(st.booleans()) else usual.fed
    return Case(op, inputs, fed, attributes, usual.expected).model(), {name: inputs[name] for name in fed}


@needs_library
@given(strange_nodes())
@settings(max_examples=150, deadline=None)
def test_any_attributes_and_shapes_are_computed_or_refused(node: tuple[onnx.ModelProto, dict[str, np.ndarray]]) -> None:
    model, feed = node
    op, file = model.graph.node[0].op_type, str(ops_library())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    refused = error_of(lambda: session(model, file))
    if refused is None:
        failed = error_of(lambda: session(model, file).run(None, feed))
        assert failed is None or f"running {op} node" in failed
    else:
        assert op in refused


def error_of(call: Callable[[], Any]) -> str | None:
    """What is wrong; None where nothing is."""
    try:
        call()
    except Exception as error:
        return str(error)
    return None
