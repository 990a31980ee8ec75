"""Single operators in ONNX Runtime, as floats, integers and bits, to set kernels beside. One thread each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.io.load import from_proto
from intaglio.kernels.operators import DOMAIN, attach
from intaglio.measure.run.session import open_session

from .turns import Run

FLOATS, INT8, OURS = "floats", "int8", "in ONNX Runtime"
BLOCK = 128
"""Weights that share a scale in 4 and 2 bits."""
_STEP, _ZERO = 0.02, 128
_THRESHOLD = np.zeros(1, np.float32)


def conv_runs(x: np.ndarray, weight: np.ndarray, planes: np.ndarray, affine: np.ndarray) -> dict[str, Run]:
    """A 3 x 3 convolution. Shapes: x (1, C, H, W), weight (O, C, 3, 3), planes (1, O, bytes), affine (2, O)."""
    outputs, channels = weight.shape[:2]
    pads = [1, 1, 1, 1]
    floats = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=pads)
    integers = helper.make_node("QLinearConv", ["x", "s", "z", "w", "t", "o", "s", "z", "b"], ["y"], pads=pads)
    settings = {"channels": channels, "kernel": [3, 3], "strides": [1, 1], "pads": pads, "dilations": [1, 1]}
    ours = _bits("BConv", [0, 2, 3, 1], **settings, group=1, pad_value=1.0)
    shift = {"b": np.zeros(outputs, np.int32)}
    return {
        FLOATS: session([floats], x, {"w": np.ascontiguousarray(weight), "b": affine[1]}),
        INT8: session([integers], _bytes(x), {**_integer_weights(weight.shape, outputs), **shift}),
        OURS: session(ours, x, {"w": planes, "a": affine[0], "b": affine[1], "t": _THRESHOLD}),
    }


def gemm_runs(x: np.ndarray, signs: np.ndarray, planes: np.ndarray, affine: np.ndarray) -> dict[str, Run]:
    """A matrix product. Shapes: x (M, K), signs (N, K), planes (1, N, bytes), affine (2, N)."""
    matrix = np.ascontiguousarray(signs.T)
    floats = helper.make_node("MatMul", ["x", "w"], ["y"])
    integers = helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "t", "o", "s", "z"], ["y"])
    ours = _bits("BGemm", [0, 1], channels=signs.shape[1])
    return {
        FLOATS: session([floats], x, {"w": matrix}),
        INT8: session([integers], _bytes(x), _integer_weights(matrix.shape, len(signs))),
        OURS: session(ours, x, {"w": planes, "a": affine[0], "b": affine[1], "t": _THRESHOLD}),
    }


def row_runs(x: np.ndarray, planes: np.ndarray, scale: np.ndarray) -> dict[str, Run]:
    """A product of one row. Shapes: x (1, K), planes (1, N, bytes), scale (1, N, 1)."""
    length, columns = x.shape[1], planes.shape[1]
    matrix = np.random.default_rng(0).standard_normal((length, columns)).astype(np.float32)
    runs = {FLOATS: session([helper.make_node("MatMul", ["x", "w"], ["y"])], x, {"w": matrix})}
    runs |= {f"{bits} bits": _few_bits(x, columns, bits) for bits in (4, 2)}
    for kind, op in (("exact", "MatMul1Bit"), ("rounded", "MatMul1BitInt8")):
        node = helper.make_node(op, ["x", "w", "s"], ["y"], domain=DOMAIN, channels=length, block=length)
        runs[f"{OURS}, {kind}"] = session([node], x, {"w": planes, "s": scale})
    return runs


def session(nodes: Sequence[onnx.NodeProto], x: np.ndarray, weights: Mapping[str, np.ndarray]) -> Run:
    """A run of ``nodes`` from x to y, both in memory that stays where it is: nothing is copied."""
    made = TensorProto.UINT8 if nodes[-1].op_type.startswith("QLinear") else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", made, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    attach(proto)
    opened = open_session(from_proto(proto), threads=1, spin=False)
    binding = opened.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    return lambda: opened.run_with_iobinding(binding)


def _bits(op: str, perm: list[int], **attributes: Any) -> list[onnx.NodeProto]:
    return [
        helper.make_node("BitPack", ["x", "t"], ["bits"], domain=DOMAIN, perm=perm),
        helper.make_node(op, ["bits", "w", "a", "b"], ["y"], domain=DOMAIN, **attributes),
    ]


def _bytes(x: np.ndarray) -> np.ndarray:
    return np.clip(np.round(x / _STEP) + _ZERO, 0, 255).astype(np.uint8)


def _integer_weights(shape: tuple[int, ...], outputs: int) -> dict[str, np.ndarray]:
    """Signed weights with a scale for every output, and the scale and zero point of input and output."""
    return {
        "s": np.array(_STEP, np.float32),
        "z": np.array(_ZERO, np.uint8),
        "w": np.random.default_rng(0).integers(-127, 128, shape, dtype=np.int8),
        "t": np.full(outputs, 0.01, np.float32),
        "o": np.zeros(outputs, np.int8),
    }


def _few_bits(x: np.ndarray, columns: int, bits: int) -> Run:
    length = x.shape[1]
    blocks = -(-length // BLOCK)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        domain="com.microsoft",
        K=length,
        N=columns,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=4,
    )
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (columns, blocks, BLOCK * bits // 8), dtype=np.uint8)
    return session([node], x, {"w": packed, "s": np.full(columns * blocks, 0.01, np.float32)})
