"""What is quantized for OpenVINO, in OpenVINO, where it is installed."""

from __future__ import annotations

import onnx
import pytest

from intaglio.graph.io.save import to_bytes
from intaglio.passes import Context
from intaglio.passes.quantize import Quantize
from tests.graph.traits.test_openvino import EIGHT_BITS, GENERATED, executed
from tests.passes.parsed import data_for, parsed
from tests.passes.quantize.placement.test_kernels import images


@pytest.mark.parametrize(("target", "joined"), [("openvino", True), ("x86", False)])
def test_a_gate_between_layers_is_computed_at_the_end_of_the_first(target: str, joined: bool) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: nothing is run in it")
    model = parsed(
        "float[N, 4, 8, 8] x",
        "float[N, 6, 8, 8] y",
        "float[8, 4, 3, 3] w, float[8] b, float[6, 8, 1, 1] w2",
        "c = Conv <pads = [1, 1, 1, 1]> (x, w, b) s = Sigmoid(c) m = Mul(c, s) y = Conv(m, w2)",
    )
    done = Quantize(target=target, ranges="minmax").run(model, Context(data=data_for(model, x=images())))
    assert done.details["sqnr_db"]["y"] > 25
    nodes = executed(onnx.load_from_string(to_bytes(done.model)), openvino)
    first = [(read, made) for kind, _, read, made in nodes if kind == "Convolution"]
    between = [names for kind, names, *_ in nodes if kind in GENERATED and "y" not in names]
    assert [(read in EIGHT_BITS, made in EIGHT_BITS) for read, made in first] == [(True, True)]
    assert (not between) == joined
