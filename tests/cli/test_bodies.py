"""Models with If, Loop and Scan, and models whose names or ends are in the way, through the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from .conftest import Command

FLOAT = TensorProto.FLOAT
QUIET = ("--no-measure", "--json")


def drawn(*shape: int) -> np.ndarray:
    fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def port(name: str, shape: Sequence[int | str] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return make_tensor_value_info(name, kind, shape)


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, np.ndarray],
    opset: int = 17,
) -> Path:
    graph = make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights.items()])
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=6 if opset < 13 else 8), path)
    return path


def outputs(path: Path, feeds: Mapping[str, np.ndarray]) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return list(ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, dict(feeds)))


def decibels(exact: np.ndarray, near: np.ndarray) -> float:
    gap = float(np.square(near.astype(np.float64) - exact).sum())
    return float(10 * np.log10(np.square(exact.astype(np.float64)).sum() / gap)) if gap else np.inf


X = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)


def old_branches(path: Path, opset: int) -> Path:
    """Both branches, and what stands behind them, hold nodes whose attributes became operands later."""

    def branch(k: str) -> onnx.GraphProto:
        nodes = [
            make_node("ReduceSum", ["c"], [k + "1"], axes=[1]),
            make_node("Add", ["c", k + "1"], [k + "2"]),
            make_node("Unsqueeze", [k + "2"], [k + "3"], axes=[0]),
            make_node("Squeeze", [k + "3"], [k + "z"], axes=[0]),
        ]
        return make_graph(nodes, k, [], [port(k + "z", None)])

    nodes = [
        make_node("Conv", ["x", "w"], ["_v_9"], pads=[1] * 4),
        make_node("Relu", ["_v_9"], ["c"]),
        make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        make_node("Greater", ["most", "nought"], ["go"]),
        make_node("If", ["go"], ["f"], then_branch=branch("t"), else_branch=branch("e")),
        make_node("Unsqueeze", ["f"], ["f5"], axes=[0]),
        make_node("Squeeze", ["f5"], ["g"], axes=[0]),
        make_node("Conv", ["g", "v"], ["y"], pads=[1] * 4),
    ]
    weights = {"w": drawn(16, 3, 3, 3), "v": drawn(8, 16, 3, 3), "nought": np.zeros((), np.float32)}
    return write(path, nodes, [port("x", [4, 3, 8, 8])], [port("y", [4, 8, 8, 8])], weights, opset)


@pytest.mark.parametrize("opset", [9, 12])
def test_branches_of_old_operator_sets_are_raised(intaglio: Command, tmp_path: Path, opset: int) -> None:
    model, out = old_branches(tmp_path / "old.onnx", opset), tmp_path / "w4.onnx"
    assert intaglio("check", model).code == 0
    ran = intaglio("quantize", model, "-o", out, "--scheme", "w8", *QUIET)
    assert ran.code == 0, ran.err
    assert decibels(outputs(model, {"x": X})[0], outputs(out, {"x": X})[0]) > 30


def scan(path: Path) -> Path:
    """A recurrence whose body says nothing of shapes, behind a layer and before one."""
    body = make_graph(
        [make_node("MatMul", ["s", "r"], ["t"]), make_node("Add", ["t", "xt"], ["u"]), make_node("Tanh", ["u"], ["s2"]),
         make_node("Identity", ["s2"], ["o"])],
        "b", [port("s", None), port("xt", None)], [port("s2", None), port("o", None)],
    )  # fmt: skip
    nodes = [
        make_node("MatMul", ["x", "w"], ["a0"]),
        make_node("Relu", ["a0"], ["a"]),
        make_node("Scan", ["h0", "a"], ["hn", "ys"], body=body, num_scan_inputs=1),
        make_node("MatMul", ["ys", "v"], ["y0"]),
        make_node("Relu", ["y0"], ["y1"]),
        make_node("MatMul", ["y1", "last"], ["y"]),
    ]
    weights = {"w": drawn(32, 32), "r": drawn(32, 32), "v": drawn(32, 48), "last": drawn(48, 16)}
    weights["h0"] = np.zeros((4, 32), np.float32)
    return write(path, nodes, [port("x", ["T", 4, 32])], [port("y", ["T", 4, 16])], weights)


@pytest.mark.parametrize(
    "command", [("quantize", "--scheme", "int8"), ("prune", "--params", "0.8"), ("binarize", "--edges")]
)
def test_scans_with_open_shapes_are_calibrated(intaglio: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
    model, out, name = scan(tmp_path / "scan.onnx"), tmp_path / "out.onnx", command[0]
    x = np.random.default_rng(2).standard_normal((8, 6, 4, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    ran = intaglio(name, model, *command[1:], "-o", out, "--data", tmp_path / "x.npz", *QUIET)
    assert ran.code == 0, ran.err
    least = {"quantize": 25, "prune": 0, "binarize": 3}[name]
    assert decibels(outputs(model, {"x": x[0]})[0], outputs(out, {"x": x[0]})[0]) > least


def convolutions(
    path: Path, between: Sequence[onnx.NodeProto], more: Mapping[str, np.ndarray], ends: Sequence[str] = ()
) -> Path:
    nodes = [
        make_node("Conv", ["x", "w"], ["c0"], "x/Quantize", pads=[1] * 4),
        *between,
        make_node("Conv", ["c1", "v"], ["y"], "c1/Quantize", pads=[1] * 4),
    ]
    weights = {"w": drawn(16, 3, 3, 3), "v": drawn(8, 16, 3, 3), **more}
    given = [port("y", ["N", 8, 8, 8]), *(port(name, more[name].shape) for name in ends)]
    return write(path, nodes, [port("x", ["N", 3, 8, 8])], given, weights)


ODD: dict[str, tuple[Any, ...]] = {
    "limits of shape [1]": (
        [make_node("Clip", ["c0", "low", "high"], ["c1"], "w/Dequantize")],
        {"low": np.zeros(1, np.float32), "high": np.full(1, 6, np.float32)},
    ),
    "an output that is a constant": ([make_node("Relu", ["c0"], ["c1"])], {"k": np.ones(2, np.float32)}, ["k"]),
}


@pytest.mark.parametrize("scheme", ["int8", "w8", "fp16"])
@pytest.mark.parametrize("name", ODD)
def test_odd_constants_and_names_that_are_taken(intaglio: Command, tmp_path: Path, name: str, scheme: str) -> None:
    model, out = convolutions(tmp_path / "odd.onnx", *ODD[name]), tmp_path / "out.onnx"
    np.savez(tmp_path / "x.npz", x=X)
    ran = intaglio("quantize", model, "-o", out, "--scheme", scheme, "--data", tmp_path / "x.npz", *QUIET)
    assert ran.code == 0, ran.err
    before, after = outputs(model, {"x": X}), outputs(out, {"x": X})
    assert decibels(before[0], after[0]) > 25
    assert all(np.array_equal(a, b) for a, b in zip(before[1:], after[1:], strict=True))


@pytest.mark.parametrize("more", [("--data",), ("--eval-data", "--no-verify"), ("--no-verify",), ()])
def test_ends_in_float16_are_fed_float16(intaglio: Command, tmp_path: Path, more: tuple[str, ...]) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "half.onnx"
    nodes = [
        make_node("MatMul", ["x", "w"], ["a"]),
        make_node("Relu", ["a"], ["b"]),
        make_node("MatMul", ["b", "v"], ["y"]),
    ]
    x = np.random.default_rng(3).standard_normal((16, 64)).astype(np.float32)
    write(model, nodes, [port("x", ["N", 64])], [port("y", ["N", 64])], {"w": drawn(64, 128), "v": drawn(128, 64)})
    (exact,) = outputs(model, {"x": x})
    np.savez(tmp_path / "x.npz", x=x, labels=exact.argmax(1))
    np.savez(tmp_path / "d.npz", x=x)
    named = {"--data": tmp_path / "d.npz", "--eval-data": tmp_path / "x.npz"}
    given = [word for option in more for word in ((option, named[option]) if option in named else (option,))]
    ran = intaglio("quantize", model, "-o", out, "--scheme", "fp16", "--no-keep-io", *given, "--json")
    assert ran.code == 0, ran.err
    assert decibels(exact, outputs(out, {"x": x.astype(np.float16)})[0]) > 45
    if "--eval-data" in more:
        assert ran.json["accuracy"]["after"]["top1"] == 1


def test_another_runtime_is_not_judged_by_what_this_one_makes_of_the_file(intaglio: Command, tmp_path: Path) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "q.onnx"
    depthwise = drawn(16, 1, 3, 3)
    depthwise[::4] *= 1e-9
    nodes = [
        make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        make_node("HardSwish", ["a"], ["b"]),
        make_node("Conv", ["b", "d", "bias"], ["c"], pads=[1] * 4, group=16),
        make_node("HardSigmoid", ["c"], ["s"]),
        make_node("Mul", ["s", "b"], ["e"]),
        make_node("Conv", ["e", "v"], ["y"], pads=[1] * 4),
    ]
    bias = np.where(np.arange(16) % 4, 0.1, 5).astype(np.float32)
    weights = {"w": drawn(16, 3, 3, 3), "d": depthwise, "bias": bias, "v": drawn(8, 16, 3, 3)}
    write(model, nodes, [port("x", ["N", 3, 8, 8])], [port("y", ["N", 8, 8, 8])], weights)
    np.savez(tmp_path / "x.npz", x=np.concatenate([X, -X]))
    ran = intaglio("quantize", model, "-o", out, "--target", "tensorrt", "--data", tmp_path / "x.npz", *QUIET)
    assert ran.code == 0, ran.err
    assert ran.json["sqnr_db"]["y"] > 25
    assert decibels(outputs(model, {"x": X})[0], outputs(out, {"x": X})[0]) > 25
