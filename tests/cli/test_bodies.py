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

from intaglio.graph.io.load import load
from intaglio.graph.io.save import save
from intaglio.graph.model import Model
from intaglio.measure.run.latency import Timing
from intaglio.passes.change import amounts

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


@pytest.mark.parametrize("scheme", ["fp16", "bf16", "w8", "int8"])
def test_a_weight_that_is_an_output_has_one_copy(intaglio: Command, tmp_path: Path, scheme: str) -> None:
    nodes = [make_node("MatMul", ["x", "w"], ["a"]), make_node("Relu", ["a"], ["b"]), make_node("MatMul", ["b", "v"], ["y"])]  # fmt: skip
    model, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    ends = [port("y", ["N", 64]), port("w", [64, 256])]
    write(model, nodes, [port("x", ["N", 64])], ends, {"w": drawn(64, 256), "v": drawn(256, 64)})
    x = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    ran = intaglio("quantize", model, "-o", out, "-s", scheme, "--data", tmp_path / "x.npz", *QUIET)
    assert ran.code == 0, ran.err
    assert out.stat().st_size < 0.52 * model.stat().st_size
    for before, after in zip(outputs(model, {"x": x}), outputs(out, {"x": x}), strict=True):
        assert before.dtype == after.dtype
        assert decibels(before, after) > 30


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


def switched(path: Path, kind: int = TensorProto.INT64) -> Path:
    """One network for each value of an input, in the branches of an If, with tensors and nodes of the same names."""

    def branch(width: int) -> onnx.GraphProto:
        nodes = [
            make_node("MatMul", ["x", "w1"], ["a"], "first"),
            make_node("Relu", ["a"], ["b"], "between"),
            make_node("MatMul", ["b", "w2"], ["z"], "second"),
        ]
        held = {"w1": drawn(64, width), "w2": drawn(width, 16)}
        return make_graph(
            nodes, "b", [], [port("z", None)], [numpy_helper.from_array(w, name) for name, w in held.items()]
        )

    nodes = [
        make_node("Cast", ["rate", ], ["r"], to=TensorProto.FLOAT),
        make_node("Greater", ["r", "limit"], ["go"]),
        make_node("If", ["go"], ["y"], then_branch=branch(96), else_branch=branch(48)),
        make_node("Relu", ["y"], ["a2"], "first"),
    ]  # fmt: skip
    weights = {"limit": np.array(8000.5, np.float32)}
    return write(path, nodes, [port("x", ["N", 64]), port("rate", [], kind)], [port("a2", None)], weights)


def test_a_pinned_input_decides_a_branch(intaglio: Command, tmp_path: Path) -> None:
    model, x = switched(tmp_path / "two.onnx"), np.random.default_rng(4).standard_normal((5, 64)).astype(np.float32)
    for rate, hidden in ((8000, 48), (16000, 96)):
        out, proof = tmp_path / "small.onnx", tmp_path / "proof.onnx"
        ran = intaglio("inspect", model, "--input", f"rate={rate}", "--json")
        assert ran.json["params"] == hidden * 80
        ran = intaglio(
            "prune", model, "-o", out, "--proof", proof, "--params", "0.5", "--input", f"rate={rate}", *QUIET
        )
        assert ran.code == 0, ran.err
        assert np.allclose(outputs(out, {"x": x})[0], outputs(proof, {"x": x})[0], atol=1e-5)
        whole = tmp_path / "whole.onnx"
        assert intaglio("quantize", model, "-o", whole, "-s", "w8", "--input", f"rate={rate}", *QUIET).code == 0
        exact = outputs(model, {"x": x, "rate": np.array(rate)})[0]
        assert decibels(exact, outputs(whole, {"x": x})[0]) > 30
        assert intaglio("compare", model, whole, "--input", f"rate={rate}", "--json").code == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rate=8000.5", "takes int64"),
        ("rate=fast", "takes int64"),
        ("pace=1", "no graph input 'pace'"),
        ("rate", "cannot read --input"),
        ("rate=1,2", "has the shape"),
    ],
)
def test_values_that_inputs_do_not_take_are_refused(intaglio: Command, tmp_path: Path, given: str, said: str) -> None:
    ran = intaglio("inspect", switched(tmp_path / "two.onnx"), "--input", given, "--json")
    assert ran.code == 2
    assert said in ran.json["error"]["what"] + ran.json["error"]["why"]


def ranks(path: Path) -> Path:
    """Whether an axis is dropped depends on its length, in a branch of a branch; what both make is a constant's table."""

    def squeezed(inner: str) -> onnx.GraphProto:
        nodes = [make_node("Constant", [], [f"{inner}axes"], value_ints=[1]), make_node("Squeeze", ["a", f"{inner}axes"], [inner])]  # fmt: skip
        return make_graph(nodes, inner, [], [port(inner, None)])

    same = make_graph([make_node("Identity", ["a"], ["i"])], "i", [], [port("i", None)])
    again = make_graph([make_node("Identity", ["a"], ["j"])], "j", [], [port("j", None)])
    inner = make_graph([make_node("If", ["one"], ["k"], then_branch=squeezed("s"), else_branch=again)], "k", [], [port("k", None)])  # fmt: skip
    nodes = [
        make_node("MatMul", ["x", "w"], ["a"]),
        make_node("Shape", ["a"], ["shape"], start=1, end=2),
        make_node("Equal", ["shape", "length"], ["one"]),
        make_node("If", ["one"], ["c"], then_branch=inner, else_branch=same),
        make_node("MatMul", ["c", "v"], ["y"]),
    ]
    weights = {"w": drawn(32, 64), "v": drawn(64, 16), "length": np.array([1])}
    return write(path, nodes, [port("x", ["N", "T", 32])], [port("y", None)], weights)


def test_a_pinned_size_decides_branches_in_branches(intaglio: Command, tmp_path: Path) -> None:
    model, out = ranks(tmp_path / "ranks.onnx"), tmp_path / "small.onnx"
    for length in (1, 3):
        x = np.random.default_rng(5).standard_normal((4, length, 32)).astype(np.float32)
        ran = intaglio("factorize", model, "-o", out, "--params", "0.8", "--shape", f"x:-1,{length},32", *QUIET)
        assert ran.code == 0, ran.err
        assert "If" not in {node.op_type for node in onnx.load(out).graph.node}
        assert outputs(out, {"x": x})[0].shape == outputs(model, {"x": x})[0].shape


INSIDE = [
    ("prune", "--params", "0.6"),
    ("factorize", "--params", "0.7"),
    ("quantize", "--scheme", "w8"),
    ("quantize", "--scheme", "w4"),
    ("quantize", "--scheme", "dynamic"),
    ("quantize", "--scheme", "fp16"),
    ("binarize", "--edges"),
]
DECIBELS = {"w8": 30, "w4": 9, "dynamic": 25, "fp16": 45, "--edges": 2}


def looped(path: Path, op: str, turns: int = 3, wide: int = 80) -> Path:
    """A perceptron in the body of a Loop or a Scan, with weights of the graph and of the body, between two layers."""
    held = [numpy_helper.from_array(drawn(64, 96), "inner1")]
    step = [
        make_node("MatMul", ["state", "inner1"], ["h1"], "first"),
        make_node("Relu", ["h1"], ["h2"], "between"),
        make_node("MatMul", ["h2", "inner2"], ["h3"], "second"),
        make_node("Tanh", ["h3"], ["next"]),
    ]
    if op == "Loop":
        body = make_graph(
            [make_node("Identity", ["on"], ["again"]), *step], "b",
            [port("k", [], TensorProto.INT64), port("on", [], TensorProto.BOOL), port("state", None)],
            [port("again", [], TensorProto.BOOL), port("next", None)], held,
        )  # fmt: skip
        middle = make_node("Loop", ["times", "true", "a"], ["last"], body=body)
    else:
        step[-1:] = [make_node("Add", ["h3", "xt"], ["h4"]), make_node("Tanh", ["h4"], ["next"])]
        body = make_graph(step, "b", [port("state", None), port("xt", None)], [port("next", None)], held)
        middle = make_node("Scan", ["a", "frames"], ["last"], body=body, num_scan_inputs=1)
    nodes = [
        make_node("MatMul", ["x", "w"], ["a0"], "outer"),
        make_node("Relu", ["a0"], ["a1"]),
        make_node("MatMul", ["a1", "u"], ["a"], "outer2"),
        middle,
        make_node("MatMul", ["last", "v"], ["y"], "first"),
    ]
    weights = {"w": drawn(32, wide), "u": drawn(wide, 64), "v": drawn(64, 16), "inner2": drawn(96, 64)}
    weights |= {"times": np.array(turns), "true": np.array(True), "frames": drawn(turns + 1, 1, 64)}
    return write(path, nodes, [port("x", ["N", 32])], [port("y", ["N", 16])], weights)


def inside(path: Path) -> list[onnx.GraphProto]:
    return [a.g for node in onnx.load(path).graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


@pytest.mark.parametrize("command", INSIDE)
@pytest.mark.parametrize("op", ["Loop", "Scan"])
def test_weights_in_loops_are_compressed(intaglio: Command, tmp_path: Path, op: str, command: tuple[str, ...]) -> None:
    model, out, proof = looped(tmp_path / "loop.onnx", op), tmp_path / "out.onnx", tmp_path / "proof.onnx"
    exact = command[0] in ("prune", "factorize")
    more = ["--proof", proof] if exact else []
    ran = intaglio(command[0], model, *command[1:], "-o", out, *more, *QUIET)
    assert ran.code == 0, ran.err
    (body,) = inside(out)
    assert sum(np.prod(t.dims) for t in body.initializer if len(t.dims) > 1) > 0
    assert any("/body/" in one["name"] for one in ran.json["groups" if command[0] == "prune" else "layers"])
    for rows in (1, 5):
        x = np.random.default_rng(rows).standard_normal((rows, 32)).astype(np.float32)
        (before,), (after,) = outputs(proof if exact else model, {"x": x}), outputs(out, {"x": x})
        assert decibels(before, after) > (90 if exact else DECIBELS[command[-1]])
    if exact:
        assert float(command[-1]) - 0.06 < ran.json["kept"]["params"] < float(command[-1]) + 0.03


@pytest.mark.parametrize("command", INSIDE)
def test_weights_in_branches_are_compressed(intaglio: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
    model, out, proof = switched(tmp_path / "two.onnx"), tmp_path / "out.onnx", tmp_path / "proof.onnx"
    exact = command[0] in ("prune", "factorize")
    more = ["--proof", proof] if exact else []
    ran = intaglio(command[0], model, *command[1:], "-o", out, *more, *QUIET)
    assert ran.code == 0, ran.err
    x = np.random.default_rng(6).standard_normal((5, 64)).astype(np.float32)
    for rate in (8000, 16000):
        feeds = {"x": x, "rate": np.array(rate)}
        (before,), (after,) = outputs(proof if exact else model, feeds), outputs(out, feeds)
        assert decibels(before, after) > (90 if exact else DECIBELS[command[-1]])


def test_branches_are_calibrated_on_what_reaches_them(intaglio: Command, tmp_path: Path) -> None:
    model, out = switched(tmp_path / "two.onnx"), tmp_path / "out.onnx"
    x = np.random.default_rng(9).standard_normal((32, 64)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, rate=np.array(8000))
    ran = intaglio("quantize", model, "-o", out, "-s", "int8", "--data", tmp_path / "x.npz", *QUIET)
    assert ran.code == 0, ran.err
    assert {one["name"] for one in ran.json["layers"]} == {"y/else_branch/first", "y/else_branch/second"}
    assert any("y/then_branch stays as it is: no data reach it" in note for note in ran.json["notes"])
    for rate, least in ((8000, 25), (16000, 200)):
        feeds = {"x": x, "rate": np.array(rate)}
        assert decibels(outputs(model, feeds)[0], outputs(out, feeds)[0]) > least
    assert ran.json["sqnr_db"]["a2"] > 25


@pytest.mark.parametrize(("op", "turns"), [("Loop", 1), ("Loop", 6), ("Scan", 1), ("Scan", 6)])
def test_loops_are_calibrated_on_what_reaches_them(intaglio: Command, tmp_path: Path, op: str, turns: int) -> None:
    model, out = looped(tmp_path / "loop.onnx", op, turns), tmp_path / "out.onnx"
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(9).standard_normal((512, 32)).astype(np.float32))
    for command, least in ((("quantize", "-s", "int8"), 20), (("binarize", "--edges"), 6)):
        ran = intaglio(command[0], model, "-o", out, *command[1:], "--data", tmp_path / "x.npz", *QUIET)
        assert ran.code == 0, ran.err
        names = {one["name"] for one in ran.json["layers"]}
        assert names == {"outer", "outer2", "first", "last/body/first", "last/body/second"}
        for rows in (8, 64):
            x = np.random.default_rng(rows).standard_normal((rows, 32)).astype(np.float32)
            assert decibels(outputs(model, {"x": x})[0], outputs(out, {"x": x})[0]) > least


def test_channels_and_factors_in_loops_fit_what_reaches_them(intaglio: Command, tmp_path: Path) -> None:
    """The state has four directions only, which weights alone do not tell."""
    model, out = looped(tmp_path / "loop.onnx", "Loop", 4, wide=4), tmp_path / "out.onnx"
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(9).standard_normal((256, 32)).astype(np.float32))
    x = np.random.default_rng(5).standard_normal((5, 32)).astype(np.float32)
    for command in ("prune", "factorize"):
        noise = []
        for data in ([], ["--data", tmp_path / "x.npz"]):
            ran = intaglio(command, model, "-o", out, "--params", "0.6", *data, *QUIET)
            assert ran.code == 0, ran.err
            noise.append(decibels(outputs(model, {"x": x})[0], outputs(out, {"x": x})[0]))
        assert noise[1] > noise[0] + 3, (command, noise)


def test_what_is_not_done_in_bodies_is_told(intaglio: Command, tmp_path: Path) -> None:
    model, out = looped(tmp_path / "loop.onnx", "Loop", 0), tmp_path / "out.onnx"
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(9).standard_normal((32, 32)).astype(np.float32))
    ran = intaglio("quantize", model, "-o", out, "-s", "int8", "--data", tmp_path / "x.npz", *QUIET)
    assert ran.code == 0, ran.err
    assert {one["name"] for one in ran.json["layers"]} == {"outer", "outer2", "first"}
    assert any("last/body stays as it is: no data reach it" in note for note in ran.json["notes"])


@pytest.mark.parametrize("op", ["Loop", "Scan"])
@pytest.mark.parametrize("command", ["prune", "factorize"])
def test_a_time_is_met_by_what_bodies_lose(
    intaglio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op: str, command: str
) -> None:
    """On a machine that takes as long for what is no multiplication as for all of them."""

    def timed(before: Model, after: Model, **_: object) -> Timing:
        full, left = (amounts(one).of("macs") for one in (before, after))
        return Timing(np.array([[2.0] * 40, [1 + left / full] * 40]), 1, "a machine")

    monkeypatch.setattr("intaglio.passes.bodies.time_pair", timed)
    model, out = looped(tmp_path / "loop.onnx", op), tmp_path / "out.onnx"
    ran = intaglio(command, model, "-o", out, "--latency", "0.8", *QUIET)
    assert ran.code == 0, ran.err
    told = ran.json["latency_target"]
    assert told["verdict"] == "met"
    assert told["kept"] == pytest.approx((1 + ran.json["kept"]["macs"]) / 2)
    assert 0.75 <= told["kept"] <= 0.83
    (before,), (after,) = inside(model), inside(out)
    sizes = [sum(np.prod(t.dims) for t in body.initializer if len(t.dims) > 1) for body in (before, after)]
    assert 0 < sizes[1] < sizes[0] + 96 * 64


def detector(path: Path, turns: int) -> Path:
    """A Loop over pieces of a sound: a convolution, an LSTM whose states the loop carries, and a layer on top."""
    body = make_graph(
        [
            make_node("Gather", ["pieces", "k"], ["piece"], axis=1),
            make_node("Unsqueeze", ["piece", "one"], ["row"]),
            make_node("Conv", ["row", "filters"], ["c"], "encoder", strides=[4]),
            make_node("Relu", ["c"], ["r"]),
            make_node("Transpose", ["r"], ["steps"], perm=[2, 0, 1]),
            make_node("LSTM", ["steps", "w", "rec", "", "", "h", "c0"], ["", "h2", "c2"], "lstm", hidden_size=24),
            make_node("Squeeze", ["h2", "zero"], ["last"]),
            make_node("MatMul", ["last", "m"], ["s"], "decoder"),
            make_node("Sigmoid", ["s"], ["score"]),
            make_node("Identity", ["on"], ["again"]),
        ],
        "b",
        [port("k", [], TensorProto.INT64), port("on", [], TensorProto.BOOL), port("h", None), port("c0", None)],
        [port("again", [], TensorProto.BOOL), port("h2", None), port("c2", None), port("score", None)],
        [numpy_helper.from_array(drawn(64, 1, 16), "filters"), numpy_helper.from_array(drawn(24, 8), "m")]
        + [numpy_helper.from_array(2 * drawn(1, 96, n), name) for n, name in ((64, "w"), (24, "rec"))],
    )
    nodes = [
        make_node("Reshape", ["x", "cut"], ["pieces"]),
        make_node("Expand", ["state", "state_shape"], ["h0"]),
        make_node("Loop", ["turns", "true", "h0", "h0"], ["", "", "scores"], "loop", body=body),
    ]
    weights = {"cut": np.array([0, turns, 64]), "turns": np.array(turns), "true": np.array(True)}
    weights |= {"one": np.array([1]), "zero": np.array([0]), "state": np.zeros((1, 1, 1), np.float32)}
    weights["state_shape"] = np.array([1, 2, 24])
    return write(path, nodes, [port("x", [2, 64 * turns])], [port("scores", None)], weights)


@pytest.mark.parametrize("turns", [1, 9])
def test_recurrent_layers_in_loops(intaglio: Command, tmp_path: Path, turns: int) -> None:
    """The Loop leaves its first outputs out, at which ONNX Runtime ends the process unless they are named."""
    model, out = detector(tmp_path / "m.onnx", turns), tmp_path / "out.onnx"
    x = np.random.default_rng(11).standard_normal((16, 2, 64 * turns)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    ran = intaglio("check", model, "--json")
    assert ran.code == 0, ran.err
    named = tmp_path / "named.onnx"
    save(load(model), named)
    for command in [("quantize", "-s", "int8"), ("quantize", "-s", "w8"), ("prune", "--params", "0.7")]:
        ran = intaglio(command[0], model, "-o", out, *command[1:], "--data", tmp_path / "x.npz", *QUIET)
        assert ran.code == 0, ran.err
        told = {one["name"] for one in ran.json["groups" if command[0] == "prune" else "layers"]}
        assert "loop/body/encoder" in told
        least = 5 if command[0] == "prune" else 20
        assert decibels(outputs(named, {"x": x[0]})[0], outputs(out, {"x": x[0]})[0]) > least


@pytest.mark.parametrize("command", [("quantize", "-s", "w2"), ("factorize",)])
def test_a_drop_of_accuracy_is_that_of_the_whole(intaglio: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
    model, out = looped(tmp_path / "loop.onnx", "Loop", 3, wide=4), tmp_path / "out.onnx"
    x = np.random.default_rng(9).standard_normal((256, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "t.npz", x=x, labels=outputs(model, {"x": x})[0].argmax(1))
    given = ["--data", tmp_path / "x.npz", "--eval-data", tmp_path / "t.npz", "--max-drop", "12"]
    ran = intaglio(command[0], model, "-o", out, *command[1:], *given, "--no-measure", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["accuracy"]["after"]["top1"] >= 0.88
    assert any("body/" in one["name"] and not one.get("reason") for one in ran.json["layers"])


def test_patterns_choose_bodies(intaglio: Command, tmp_path: Path) -> None:
    model, out = switched(tmp_path / "two.onnx"), tmp_path / "out.onnx"
    ran = intaglio("quantize", model, "-o", out, "-s", "w8", "--include", "y/then_branch/first", *QUIET)
    assert [one["name"] for one in ran.json["layers"]] == ["y/then_branch/first"]


def test_costs_of_free_sizes_are_those_of_the_data(intaglio: Command, tmp_path: Path) -> None:
    model, out = tmp_path / "free.onnx", tmp_path / "out.onnx"
    nodes = [
        make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        make_node("Relu", ["a"], ["b"]),
        make_node("Conv", ["b", "v"], ["y"], pads=[1] * 4, strides=[2, 2]),
    ]
    weights = {"w": drawn(16, 3, 3, 3), "v": drawn(8, 16, 3, 3)}
    write(model, nodes, [port("x", ["N", 3, "H", "W"])], [port("y", ["N", 8, "P", "Q"])], weights)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(7).standard_normal((4, 3, 12, 20)).astype(np.float32))
    ran = intaglio("prune", model, "-o", out, "--macs", "0.5", "--data", tmp_path / "x.npz", "--json")
    assert ran.json["before"]["macs"] == 16 * 27 * 240 + 8 * 144 * 60
    assert ran.json["latency_ms"]["inputs"] == {"x": [1, 3, 12, 20]}
    assert any("first sample of the data: H 12, W 20" in note for note in ran.json["notes"])
    ran = intaglio("prune", model, "-o", out, "--macs", "0.5", *QUIET)
    assert ran.json["before"]["macs"] == 16 * 27 + 8 * 144
    assert any("MACs count H, W as 1" in note for note in ran.json["notes"])


def test_groups_in_bodies_are_listed(intaglio: Command, tmp_path: Path) -> None:
    found = intaglio("groups", switched(tmp_path / "two.onnx"), "--json").json["groups"]
    widths = {group["name"]: group["channels"] for group in found if group["prunable"]}
    assert widths == {"y/then_branch/first": 96, "y/else_branch/first": 48}


def test_a_state_that_grows_keeps_its_width_known(intaglio: Command, tmp_path: Path) -> None:
    step = [
        make_node("Identity", ["on"], ["again"]),
        make_node("MatMul", ["rows", "g1"], ["a"], "wide"),
        make_node("Relu", ["a"], ["b"]),
        make_node("MatMul", ["b", "g2"], ["c"]),
        make_node("Concat", ["rows", "c"], ["grown"], axis=0),
    ]
    held = [numpy_helper.from_array(drawn(64, 80), "g1"), numpy_helper.from_array(drawn(80, 64), "g2")]
    ends = [port("again", [], TensorProto.BOOL), port("grown", None)]
    body = make_graph(
        step, "b", [port("k", [], TensorProto.INT64), port("on", [], TensorProto.BOOL), port("rows", None)], ends, held
    )
    model, out, proof = tmp_path / "grow.onnx", tmp_path / "out.onnx", tmp_path / "proof.onnx"
    nodes = [make_node("Loop", ["times", "true", "x"], ["y"], body=body)]
    write(
        model,
        nodes,
        [port("x", ["N", 64])],
        [port("y", ["M", 64])],
        {"times": np.array(3), "true": np.array(True)},
    )
    ran = intaglio("prune", model, "-o", out, "--proof", proof, "--params", "0.5", *QUIET)
    assert ran.code == 0, ran.err
    assert "y/body/wide" in [group["name"] for group in ran.json["groups"]]
    x = np.random.default_rng(8).standard_normal((2, 64)).astype(np.float32)
    assert decibels(outputs(proof, {"x": x})[0], outputs(out, {"x": x})[0]) > 90
    frozen = {g["name"]: g["frozen_by"] for g in intaglio("groups", model, "--frozen", "--json").json["groups"]}
    assert 'tensor "rows" comes from outside the body' in frozen.values()


@pytest.mark.parametrize("command", [("check",), ("quantize", "-s", "int8"), ("prune", "--params", "0.7")])
def test_ends_in_bfloat16_are_fed_through_casts(intaglio: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    nodes = [
        make_node("Cast", ["x"], ["x1"], to=TensorProto.FLOAT),
        make_node("MatMul", ["x1", "w"], ["a"]),
        make_node("Relu", ["a"], ["b"]),
        make_node("MatMul", ["b", "v"], ["c"]),
        make_node("Cast", ["c"], ["y"], to=TensorProto.BFLOAT16),
    ]
    ends = [port(name, ["N", 64], TensorProto.BFLOAT16) for name in "xy"]
    write(model, nodes, ends[:1], ends[1:], {"w": drawn(64, 128), "v": drawn(128, 64)})
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(3).standard_normal((16, 64)).astype(np.float32))
    more = () if command == ("check",) else ("-o", out, "--data", tmp_path / "x.npz", *QUIET)
    ran = intaglio(command[0], model, *command[1:], *more)
    assert ran.code == 0, ran.err
    if more:
        graph = onnx.load(out).graph
        kinds = {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
        assert kinds == {TensorProto.BFLOAT16}


def counted(path: Path, steps: str, go_on: str) -> Path:
    """A Loop over a layer, whose number of steps is cut out of a list, and whose body may be wrong."""
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 64] x) => (float[N, 64] y)
        <int64[1] none = {{0}}, int64[3] list = {{1, 2, 3}}, int64[1] end = {{{steps}}}>
        {{
            count = Slice (list, none, end)
            y = Loop (count, , x) <body = b (int64 i, bool go, float[a, 64] h) => (bool on, float[a, 64] next) {{
                on = {go_on} m = MatMul (h, w) next = Tanh (m)
            }}>
        }}
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(drawn(64, 64), "w"))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("command", ["check", "inspect", "groups", "prune --params 0.5", "binarize", "simplify"])
def test_a_loop_without_a_number_of_steps_is_refused(intaglio: Command, tmp_path: Path, command: str) -> None:
    """ONNX Runtime reads beyond the empty tensor, which ends the process."""
    model, (name, *options) = counted(tmp_path / "loop.onnx", "0", "Identity (go)"), command.split()
    out = () if name in {"check", "inspect", "groups"} else ("-o", tmp_path / "out.onnx")
    ran = intaglio(name, model, *options, *out)
    assert ran.code == 1, ran.err
    assert "operand 0 has shape [0], not that of a single number" in ran.err
    assert not (tmp_path / "out.onnx").exists()


def test_a_body_that_cannot_run_has_its_reason(intaglio: Command, tmp_path: Path) -> None:
    model = counted(tmp_path / "loop.onnx", "1", "MatMul (go, go)")
    ran = intaglio("binarize", model, "-o", tmp_path / "out.onnx", *QUIET)
    assert ran.code == 4, ran.err
    assert "operand 0 is a single number, not a matrix" in ran.json["error"]["why"]


def crashing(path: Path, count: str, go_on: str) -> Path:
    """A Loop without a number of steps, or a word to go on, when it runs: ONNX Runtime ends the process."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[3, 64] x) => (float[3, 64] y)
        <float most = {{1000}}, int64[3] list = {{1, 2, 3}}, int64 one = {{1}}>
        {{
            high = ReduceMax <axes = [1], keepdims = 0> (x)
            mask = Greater (high, most)
            none = Compress (list, mask)
            some = Size (x)
            y = Loop ({count}, , x) <body = b (int64 i, bool go, float[a, 64] h) => (bool on, float[a, 64] next) {{
                {go_on} m = MatMul (h, w) next = Tanh (m)
            }}>
        }}
    """)
    model.graph.initializer.append(numpy_helper.from_array(drawn(64, 64), "w"))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("command", ["check", "bench --runs 1", "quantize --scheme w8"])
def test_a_model_that_ends_the_process_gets_an_error(intaglio: Command, tmp_path: Path, command: str) -> None:
    name, *options = command.split()
    out = () if name in {"check", "bench"} else ("-o", tmp_path / "out.onnx")
    ran = intaglio(name, crashing(tmp_path / "loop.onnx", "some", "on = Equal (none, one)"), *options, *out)
    assert ran.code == 1, ran.err
    assert "it ended the process" in ran.err
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("target", ["onnx", "ort"])
def test_such_a_loop_is_exported_and_does_not_end_the_process(intaglio: Command, tmp_path: Path, target: str) -> None:
    model, data = crashing(tmp_path / "loop.onnx", "none", "on = Identity (go)"), tmp_path / "data.npz"
    np.savez(data, x=drawn(3, 64))
    ran = intaglio("export", model, "--to", target, "-o", tmp_path / f"out.{target}", "--data", data)
    assert ran.code == 1, ran.err
    assert "operand 0 is one number" in ran.err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data.npz", "loop.onnx"]


@pytest.mark.parametrize("command", ["check {m}", "bisect {m} {m}", "compare {m} {m}", "bench {m} --runs 1"])
def test_a_loop_without_a_number_of_steps_is_an_error_on_data(intaglio: Command, tmp_path: Path, command: str) -> None:
    model, data = crashing(tmp_path / "loop.onnx", "none", "on = Identity (go)"), tmp_path / "data.npz"
    np.savez(data, x=drawn(3, 64))
    ran = intaglio(*command.format(m=model).split(), "--data", data)
    assert ran.code == 1, ran.err
    assert "operand 0 is one number" in ran.err
