"""MatMulNBits is trained as the integers that it holds, and stays the operator that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("torch", reason="torch is not installed: nothing is trained")

from intaglio import Train, run
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.measure.autograd.network import Network
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as run_session
from intaglio.passes.train.nbits import close_nbits, open_nbits

INPUTS, OUTPUTS, BLOCK = 40, 12, 32


def packed(bits: int, zeros: bool, bias: bool, accuracy: int = 0) -> Model:
    """A product of random integers, whose last block is not full."""
    draw, blocks = np.random.default_rng(bits), -(-INPUTS // BLOCK)
    values: dict[str, np.ndarray] = {
        "b": draw.integers(0, 256, (OUTPUTS, blocks, BLOCK * bits // 8)).astype(np.uint8),
        "s": draw.uniform(0.01, 0.02, OUTPUTS * blocks).astype(np.float32),
        "z": draw.integers(0, 256, OUTPUTS * -(-blocks * bits // 8)).astype(np.uint8),
        "c": draw.normal(size=OUTPUTS).astype(np.float32),
    }
    operands = ["x", "b", "s", "z" if zeros else "", "", "c" if bias else ""]
    node = onnx.helper.make_node(
        "MatMulNBits", operands, ["y"], "product", domain="com.microsoft",
        K=INPUTS, N=OUTPUTS, bits=bits, block_size=BLOCK, accuracy_level=accuracy,
    )  # fmt: skip
    x, y = (onnx.helper.make_tensor_value_info(n, 1, ["N", size]) for n, size in (("x", INPUTS), ("y", OUTPUTS)))
    given = [onnx.numpy_helper.from_array(v, n) for n, v in values.items() if n in operands]
    graph = onnx.helper.make_graph([node], "g", [x], [y], given)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    return from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))


@pytest.mark.parametrize(("zeros", "bias"), [(False, False), (True, True)])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_opened_computes_the_same_and_closes_to_the_same_bytes(bits: int, zeros: bool, bias: bool) -> None:
    model = packed(bits, zeros, bias)
    x = np.random.default_rng(0).normal(size=(5, INPUTS)).astype(np.float32)
    opened, nodes = open_nbits(model)
    assert "MatMulNBits" not in {node.op_type for node in opened.graph.node}
    wanted = run_session(open_session(model), {"x": x})["y"]
    np.testing.assert_allclose(Network(opened)({"x": x})["y"].numpy(), wanted, atol=1e-4)
    closed = close_nbits(opened, nodes)
    for name, value in model.weights.items():
        assert np.array_equal(closed.weights[name], value)
    (node,) = closed.graph.node
    assert list(node.input) == list(model.graph.node[0].input)
    assert node.op_type == "MatMulNBits"
    np.testing.assert_allclose(run_session(open_session(closed), {"x": x})["y"], wanted, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_products_are_trained_and_stay_packed(bits: int, tmp_path: Path) -> None:
    model, draw = packed(bits, True, True), np.random.default_rng(1)
    teacher, x = packed(bits, True, True), draw.normal(size=(300, INPUTS)).astype(np.float32)
    teacher.put("s", model.weights["s"] * draw.uniform(0.95, 1.05, len(model.weights["s"])).astype(np.float32))
    teacher.put("b", model.weights["b"] ^ np.uint8(1))
    paths = [tmp_path / "student.onnx", tmp_path / "teacher.onnx"]
    for path, one in zip(paths, (model, teacher), strict=True):
        path.write_bytes(to_bytes(one))
    np.savez(tmp_path / "x.npz", x=x)
    options: dict[str, Any] = {
        "batch": 32,
        "threads": 1,
        "steps": 200,
        "lr": 2e-3,
        "losses": ("mse",),
        "method": "lsq:pace=1",
    }
    done = run(paths[0], Train(teacher=str(paths[1]), **options), data=str(tmp_path / "x.npz"), measure=False)
    told, result = done.as_dict()["training"], done.change.model
    assert told["held_back_after"] < 0.6 * told["held_back_before"]
    (node,) = result.graph.node
    assert node.op_type == "MatMulNBits"
    assert {n: v.shape for n, v in result.weights.items()} == {n: v.shape for n, v in model.weights.items()}
    both = [run_session(open_session(one), {"x": x})["y"] for one in (model, teacher, result)]
    assert np.square(both[2] - both[1]).mean() < 0.6 * np.square(both[0] - both[1]).mean()
