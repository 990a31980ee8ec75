"""A small model that uses operators on bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.kernels.operators import DOMAIN, attach
from intaglio.kernels.packing import pack


def two_layers() -> Model:
    """Weights of one bit: once on real activations, once on signs."""
    rng = np.random.default_rng(1)
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "{DOMAIN}" : 1]> net (float[N,40] x) => (float[N,9] y, float[N,7] z)
        <uint8[1,9,5] W, float[1,9,1] scale, float[1] zero, uint8[1,7,5] V, float[7] one>
        {{
            y = {DOMAIN}.MatMul1Bit <channels = 40, block = 40> (x, W, scale)
            b = {DOMAIN}.BitPack <perm = [0, 1]> (x, zero)
            z = {DOMAIN}.BGemm <channels = 40> (b, V, one, one)
        }}"""
    )
    held = {
        "W": pack(rng.standard_normal((1, 9, 40))),
        "scale": np.ones((1, 9, 1), np.float32),
        "zero": np.zeros(1, np.float32),
        "V": pack(rng.standard_normal((1, 7, 40))),
        "one": np.ones(7, np.float32),
    }
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in held.items())
    attach(proto)
    return from_proto(proto)
