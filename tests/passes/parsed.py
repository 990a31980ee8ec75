"""Small networks written as text, with weights drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import numpy_helper
from onnx.parser import parse_model

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.data.readers import read_arrays
from intaglio.measure.data.source import DataSource, read_data
from intaglio.measure.run.session import open_session, run


def parsed(inputs: str, outputs: str, weights: str, nodes: str, **values: np.ndarray) -> Model:
    """A network in ONNX's text form: ``inputs`` and ``weights`` such as ``float[N, 3, 8, 8] x, float[4, 3, 3, 3] w``.

    Weights are drawn with a size that keeps activations near 1; ``values`` gives some of them by name.
    """
    return parsed_in('"" : 17', inputs, outputs, weights, nodes, **values)


def parsed_in(opsets: str, inputs: str, outputs: str, weights: str, nodes: str, **values: np.ndarray) -> Model:
    """The same, of these operator sets."""
    text = f"<ir_version: 9, opset_import: [{opsets}]> net ({inputs}) => ({outputs}) <{weights}> {{ {nodes} }}"
    proto = parse_model(text)
    rng = np.random.default_rng(0)
    for value in proto.graph.value_info:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else next(iter(shape), 1)
        drawn = (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values.get(value.name, drawn)), value.name))
    del proto.graph.value_info[:]
    return from_proto(proto)


def run_plainly(model: Model, feeds: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Any tensors of a model, computed node by node."""
    return run(open_session(model, outputs=list(dict.fromkeys(names)), optimize=False), feeds)


def data_for(model: Model, **arrays: np.ndarray) -> DataSource:
    """Calibration data from arrays, one for each graph input."""
    return read_data("arrays", read_arrays(arrays), model)
