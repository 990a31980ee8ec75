"""What no output depends on goes first, and weights and data must be numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intaglio.measure.run.session import open_session, run

from .conftest import Command

RNG = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


def write(
    path: Path, nodes: list[onnx.NodeProto], x: list[int | str], y: list[int | str], **weights: np.ndarray
) -> Path:
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)] for n, shape in (("x", x), ("y", y))]
    held = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def perceptron(path: Path, *more: onnx.NodeProto, **weights: np.ndarray) -> Path:
    nodes = [node("MatMul", "x a", "h"), node("Relu", "h", "r"), node("MatMul", "r b", "s"), node("Tanh", "s", "t")]
    held = {"a": drawn(48, 64), "b": drawn(64, 64), "c": drawn(64, 8), **weights}
    return write(path, [*nodes, node("MatMul", "t c", "y"), *more], ["n", 48], ["n", 8], **held)


def with_dead_layer(path: Path) -> Path:
    """Half of the bytes are of a layer that leads nowhere and of a constant that nobody reads."""
    return perceptron(path, node("MatMul", "r dead", "nobody"), dead=drawn(64, 60), lost=drawn(63, 60))


def samples(tmp_path: Path, x: np.ndarray) -> Path:
    np.savez(tmp_path / "x.npz", x=x)
    return tmp_path / "x.npz"


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(run(open_session(path), {"x": x})["y"])


@pytest.mark.parametrize(
    "command",
    [
        ("prune", "--params", "0.7"),
        ("prune", "--size", "0.7"),
        ("factorize", "--params", "0.7"),
        ("factorize", "--size", "0.7"),
        ("quantize", "--size", "0.7"),
        ("binarize", "--size", "0.7"),
    ],
)
def test_a_target_met_by_what_nothing_reads_costs_nothing_else(
    intaglio: Command, tmp_path: Path, command: tuple[str, ...]
) -> None:
    model, x = with_dead_layer(tmp_path / "m.onnx"), drawn(32, 48)
    ran = intaglio(*command, model, "-o", tmp_path / "o.onnx", "--data", samples(tmp_path, x), "--no-measure", "--json")
    assert ran.code == 0
    result = ran.json
    assert "1 node and 2 constants that no output depends on went first: " in result["notes"][0]
    assert (result["kept"]["macs"], result["kept"]["params"]) == (1.0, pytest.approx(0.5, abs=0.01))
    np.testing.assert_array_equal(outputs(tmp_path / "o.onnx", x), outputs(model, x))


@pytest.mark.parametrize("command", [("prune",), ("factorize", "--align", "1", "--min-gain", "1")], ids=" ".join)
def test_below_that_only_as_much_goes_as_is_asked(intaglio: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
    args = (
        with_dead_layer(tmp_path / "m.onnx"),
        "-o",
        tmp_path / "o.onnx",
        "--params",
        "0.35",
        "--no-measure",
        "--json",
    )
    assert intaglio(*command, *args).json["kept"]["params"] == pytest.approx(0.35, abs=0.02)


EVERY = [
    ("prune", "--params", "0.6"),
    ("factorize", "--params", "0.6"),
    ("factorize", "--energy", "0.9"),
    ("factorize", "--evbmf"),
    ("quantize",),
    ("quantize", "--bits", "4"),
    ("quantize", "--size", "0.3"),
    *(("quantize", "--scheme", scheme) for scheme in ("w8", "w4", "dynamic", "fp16", "bf16", "w4a8")),
    ("binarize", "--include-first-last"),
]


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(
    intaglio: Command, tmp_path: Path, command: tuple[str, ...], bad: float
) -> None:
    broken = drawn(64, 64)
    broken[3, 5] = bad
    model, data = perceptron(tmp_path / "m.onnx", b=broken), samples(tmp_path, drawn(16, 48))
    ran = intaglio(*command, model, "-o", tmp_path / "o.onnx", "--data", data, "--no-measure")
    assert ran.code == 1
    assert "MatMul 's' has weights that are NaN or infinite" in ran.err
    assert "1 of the 4096 numbers in 'b', the first at [3, 5]" in ran.err
    assert not (tmp_path / "o.onnx").exists()


def test_weights_that_other_constants_make_are_looked_at_too(intaglio: Command, tmp_path: Path) -> None:
    broken = drawn(8, 64)
    broken[0, 1] = np.nan
    model = perceptron(tmp_path / "m.onnx")
    proto = onnx.load(model)
    proto.graph.initializer[2].CopyFrom(numpy_helper.from_array(broken, "kept"))
    proto.graph.node.insert(0, node("Transpose", "kept", "c"))
    onnx.save(proto, model)
    ran = intaglio("prune", model, "-o", tmp_path / "o.onnx", "--params", "0.6", "--no-measure")
    assert (ran.code, "numbers in 'c', the first at [1, 0]" in ran.err) == (1, True)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_data_that_are_no_numbers_are_named_with_their_sample(
    intaglio: Command, tmp_path: Path, command: tuple[str, ...]
) -> None:
    x = drawn(16, 48)
    x[11, 2] = np.nan
    model, data = perceptron(tmp_path / "m.onnx"), samples(tmp_path, x)
    ran = intaglio(*command, model, "-o", tmp_path / "o.onnx", "--data", data, "--no-measure")
    assert (ran.code, "input 'x' holds NaN or infinite values in sample 11" in ran.err) == (1, True)


def attention(path: Path, kind: str) -> Path:
    """Minus infinity in a mask that is added, in a table of masks, in a choice, and for outputs that must never win."""
    mask = np.triu(np.full((8, 8), -np.inf, np.float32), 1)
    middle = {
        "added": [node("Add", "raw mask", "s")],
        "looked up": [node("Gather", "mask rows", "m"), node("Add", "raw m", "s")],
        "chosen": [node("Where", "seen raw low", "s")],
        "outputs": [node("Neg", "raw", "s")],
    }[kind]
    nodes = [*(node("MatMul", f"x w{n}", n) for n in "qkv"), node("Transpose", "k", "kt", perm=[0, 2, 1])]
    nodes += [node("MatMul", "q kt", "raw"), *middle, node("Softmax", "s", "p"), node("MatMul", "p v", "o")]
    nodes += [node("MatMul", "o w", "z"), node("Add", "z never", "y")]
    held = {"wq": drawn(64, 64), "wk": drawn(64, 64), "wv": drawn(64, 64), "w": drawn(64, 64)}
    held |= {"mask": mask, "rows": np.arange(8), "seen": np.isfinite(mask), "low": np.array(-np.inf, np.float32)}
    held["never"] = np.where(np.arange(64) == (3 if kind == "outputs" else -1), -np.inf, 0).astype(np.float32)
    return write(path, nodes, ["n", 8, 64], ["n", 8, 64], **held)


@pytest.mark.parametrize(
    "command",
    [("prune", "--params", "0.8"), ("factorize", "--params", "0.9"), ("quantize", "--bits", "4"), ("quantize",)],
    ids=" ".join,
)
@pytest.mark.parametrize("kind", ["added", "looked up", "chosen", "outputs"])
def test_minus_infinity_in_masks_is_no_weight(
    intaglio: Command, tmp_path: Path, kind: str, command: tuple[str, ...]
) -> None:
    model, x = attention(tmp_path / "m.onnx", kind), drawn(32, 8, 64)
    ran = intaglio(*command, model, "-o", tmp_path / "o.onnx", "--data", samples(tmp_path, x), "--no-measure", "--json")
    assert ran.code == 0, ran.err
    before, after = outputs(model, x), outputs(tmp_path / "o.onnx", x)
    np.testing.assert_array_equal(np.isfinite(after), np.isfinite(before))
    assert all(ratio > 5 for ratio in ran.json.get("sqnr_db", {}).values())


@pytest.mark.parametrize("scheme", ["w8", "dynamic", "int8"])
@pytest.mark.parametrize("size", [1e-42, 1e-40, 1e-39, 1e-36, 1e-30])
def test_weights_next_to_nothing_keep_their_signal(intaglio: Command, tmp_path: Path, scheme: str, size: float) -> None:
    nodes = [node("MatMul", "x a", "h"), node("Mul", "h up", "u"), node("Tanh", "u", "t"), node("MatMul", "t c", "y")]
    up = np.array(min(1 / size, 3e38), np.float32)
    held = {"a": (drawn(64, 64).astype(np.float64) * size).astype(np.float32), "c": drawn(64, 64), "up": up}
    model, x = write(tmp_path / "m.onnx", nodes, ["n", 64], ["n", 64], **held), drawn(64, 64) * 8
    args = ("--scheme", scheme, "--data", samples(tmp_path, x), "--no-measure")
    ran = intaglio("quantize", model, "-o", tmp_path / "o.onnx", *args, "--json")
    assert ran.code == 0, ran.err
    assert ("its weights are below 1.9e-40" in ran.out) == (size < 1e-39)
    exact, near = outputs(model, x), outputs(tmp_path / "o.onnx", x)
    assert np.square(near - exact).sum() < (3e-3 if scheme == "int8" else 1e-3) * np.square(exact).sum()


def tied(path: Path, kind: str) -> Path:
    """A table whose rows are looked up, and which makes the scores of words, too."""
    head = {
        "Gemm": [node("Reshape", "t flat", "r"), node("Gemm", "r table", "y", transB=1)],
        "Transpose": [node("Transpose", "table", "turned"), node("MatMul", "t turned", "y")],
    }[kind]
    nodes = [node("Gather", "table x", "e"), node("MatMul", "e a", "h"), node("Tanh", "h", "t"), *head]
    held = {"table": drawn(600, 64), "a": drawn(64, 64), "flat": np.array([-1, 64])}
    write(path, nodes, ["n", 8], ["m", 600] if kind == "Gemm" else ["n", 8, 600], **held)
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("scheme", ["w8", "w4", "dynamic", "int8", "w4a8", "bf16", "planes"])
@pytest.mark.parametrize("kind", ["Gemm", "Transpose"])
def test_a_weight_used_in_two_ways_is_not_stored_twice(
    intaglio: Command, tmp_path: Path, kind: str, scheme: str
) -> None:
    model, x = tied(tmp_path / "m.onnx", kind), RNG.integers(0, 600, (16, 8))
    command = "binarize" if scheme == "planes" else "quantize"
    args = ("--scheme", scheme, "--data", samples(tmp_path, x), "--no-measure", "--json")
    more = ("--include-first-last",) if scheme == "planes" else ()
    ran = intaglio(command, model, "-o", tmp_path / "o.onnx", *args, *more)
    assert ran.code == 0, ran.err
    assert ran.json["kept"]["size_bytes"] < 0.97
    exact, near = outputs(model, x), outputs(tmp_path / "o.onnx", x)
    assert np.square(near - exact).sum() < 0.2 * np.square(exact).sum()
    if ran.json["kept"]["size_bytes"] > 0.8:  # the table stayed as it is, and that is said
        assert any("'turned'" in told or "also read by" in told for told in ran.json["skipped"].values())


@pytest.mark.parametrize(("scheme", "first"), [("fp16", "fp16"), ("bf16", "bf16"), ("w8", "w8"), ("int8", "w8")])
def test_what_is_small_already_is_not_made_smaller_again(
    intaglio: Command, tmp_path: Path, scheme: str, first: str
) -> None:
    model = perceptron(tmp_path / "m.onnx")
    assert intaglio("quantize", model, "-o", tmp_path / "a.onnx", "--scheme", first, "--no-measure").code == 0
    data = ("--data", samples(tmp_path, drawn(16, 48)))
    again = (tmp_path / "a.onnx", "-o", tmp_path / "b.onnx", "--scheme", scheme, "--no-measure", *data)
    ran = intaglio("quantize", *again)
    assert (ran.code, (tmp_path / "b.onnx").exists()) == (4, False), ran.out


def test_a_file_that_would_be_larger_is_not_written_unless_forced(intaglio: Command, tmp_path: Path) -> None:
    nodes = [node("MatMul", "x a", "h"), node("Relu", "h", "r"), node("MatMul", "r b", "y")]
    model = write(tmp_path / "m.onnx", nodes, ["n", 4], ["n", 4], a=drawn(4, 4), b=drawn(4, 4))
    args = ("--data", samples(tmp_path, drawn(16, 4)), "--no-measure")
    ran = intaglio("quantize", model, "-o", tmp_path / "o.onnx", *args)
    assert (ran.code, "bytes, it has" in ran.err, (tmp_path / "o.onnx").exists()) == (4, True, False)
    assert intaglio("quantize", model, "-o", tmp_path / "o.onnx", "--force", *args).code == 0


def pyramid(path: Path) -> Path:
    """Its free height and width fit where they are multiples of 4, and 1 is none."""
    kernel = [node("Conv", "x k1", "a", strides=[2, 2], pads=[1] * 4), node("Relu", "a", "ar")]
    kernel += [node("Conv", "ar k2", "b", strides=[2, 2], pads=[1] * 4), node("Relu", "b", "br")]
    join = [node("Resize", "br  twice", "u", mode="nearest"), node("Concat", "u ar", "c", axis=1)]
    join[0].input[:] = ["br", "", "twice"]
    tail = [node("Conv", "c k3", "e", pads=[1] * 4), node("Relu", "e", "er"), node("Conv", "er k4", "y", pads=[1] * 4)]
    held = {
        f"k{k}": drawn(3, 3, i, o).transpose(3, 2, 0, 1).copy() for k, i, o in ((1, 3, 16), (2, 16, 32), (3, 48, 64))
    }
    held |= {"k4": drawn(3, 3, 64, 8).transpose(3, 2, 0, 1).copy(), "twice": np.array([1, 1, 2, 2], np.float32)}
    return write(path, [*kernel, *join, *tail], ["n", 3, "h", "w"], ["n", 8, "p", "q"], **held)


@pytest.mark.parametrize(("scheme", "kept"), [("fp16", 0.55), ("int8", 0.35)])
def test_sizes_that_do_not_fit_hide_no_types(intaglio: Command, tmp_path: Path, scheme: str, kept: float) -> None:
    model, x = pyramid(tmp_path / "m.onnx"), drawn(8, 3, 16, 16)
    args = ("--scheme", scheme, "--data", samples(tmp_path, x), "--no-measure", "--json")
    ran = intaglio("quantize", model, "-o", tmp_path / "o.onnx", *args)
    assert (ran.code, ran.json["kept"]["size_bytes"] < kept) == (0, True), ran.out
    exact, near = outputs(model, x), outputs(tmp_path / "o.onnx", x)
    assert np.square(near - exact).sum() < 1e-2 * np.square(exact).sum()


@pytest.mark.parametrize(
    ("command", "amount"),
    [
        (("prune", "--min-channels", "32"), "size"),
        (("prune", "--min-channels", "32"), "params"),
        (("factorize",), "size"),
        (("factorize",), "macs"),
        (("quantize",), "size"),
        (("quantize", "--allocator", "ompq"), "size"),
        (("binarize",), "size"),
    ],
)
def test_the_lowest_that_is_told_can_be_reached_and_less_cannot(
    intaglio: Command, tmp_path: Path, command: tuple[str, ...], amount: str
) -> None:
    data = samples(tmp_path, drawn(32, 48))
    args = (perceptron(tmp_path / "m.onnx"), "-o", tmp_path / "o.onnx", "--data", data, "--no-measure", "--json")
    ran = intaglio(*command, f"--{amount}", "0.01", *args)
    assert ran.code == 1
    lowest = ran.json["error"]["what"].split("lowest reachable is ")[1].rstrip(")")
    assert f"(--{amount} {lowest})" in ran.json["error"]["fix"]
    assert intaglio(*command, f"--{amount}", f"{0.8 * float(lowest):.3f}", *args).code == 1
    ran = intaglio(*command, f"--{amount}", lowest, *args)
    assert (ran.code, ran.json["kept"]["size_bytes" if amount == "size" else amount] <= float(lowest)) == (0, True), (
        ran.out
    )


def unrolled(path: Path, steps: int) -> Path:
    """A recurrent cell, written out: its weight is read once a step."""
    nodes, x = [], "x"
    for k in range(steps):
        nodes += [node("MatMul", f"{x} a", f"h{k}"), node("Tanh", f"h{k}", "y" if k == steps - 1 else f"t{k}")]
        x = f"t{k}"
    return write(path, nodes, ["n", 48], ["n", 48], a=drawn(48, 48))


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("scheme", ["w4", "dynamic", "planes"])
def test_a_weight_that_is_read_at_every_step_is_stored_once(
    intaglio: Command, tmp_path: Path, scheme: str, data: bool
) -> None:
    command = "binarize" if scheme == "planes" else "quantize"
    more = ["--include-first-last"] if scheme == "planes" else ["--include", "MatMul"]
    more += ["--data", str(samples(tmp_path, drawn(16, 48)))] if data else []
    stored = []
    for steps in (1, 6):
        model = unrolled(tmp_path / f"{steps}.onnx", steps)
        args = ("--scheme", scheme, *more, "--no-measure", "--force")
        assert intaglio(command, model, "-o", tmp_path / "o.onnx", *args).code == 0
        stored.append(sum(len(one.raw_data) for one in onnx.load(tmp_path / "o.onnx").graph.initializer if one.dims))
    assert stored[1] <= stored[0] + 64
