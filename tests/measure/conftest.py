"""Small models, written as text."""

from __future__ import annotations

from collections.abc import Callable

import onnx.parser
import pytest

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model

MakeModel = Callable[..., Model]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """``make_model("float[N,4] x", "float[N,4] y", "y = Relu(x)")``"""

    def make(inputs: str, outputs: str, body: str, weights: str = "", opset: int = 17) -> Model:
        held = f" <{weights}>" if weights else ""
        text = f'<ir_version: 8, opset_import: ["" : {opset}]> net ({inputs}) => ({outputs}){held} {{ {body} }}'
        return from_proto(onnx.parser.parse_model(text))

    return make


@pytest.fixture(scope="session")
def images(make_model: MakeModel) -> Model:
    """Takes images NCHW, any number at once, and adds up each channel."""
    return make_model("float[N,3,4,5] image", "float[N,3] y", "y = ReduceMean <axes = [2, 3], keepdims = 0> (image)")
