"""Stored integers: the model computes exactly what the integers stand for, in every form, type and kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest

from intaglio.graph.cost import cost
from intaglio.graph.io.check import check_graph
from intaglio.graph.io.load import load
from intaglio.graph.io.save import file_bytes, save, to_bytes
from intaglio.graph.layer import Layer
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.graph.nodes import set_attribute
from intaglio.measure.run.session import open_session, run
from intaglio.passes.calibration.walk import Rounded
from intaglio.passes.precision.grid import Grid, Quantized
from intaglio.passes.precision.layout import fitting_block, independent, laid, weight_bytes
from intaglio.passes.quantize.rounding.nearest import mse, nearest
from intaglio.passes.quantize.storage.nbits import nbits_block, pack, pack_bits
from intaglio.passes.quantize.storage.storage import store
from intaglio.passes.rounding.problem import Problem
from tests.passes.parsed import parsed

MODELS: dict[str, Callable[[], Model]] = {
    "conv": lambda: parsed(
        "float[N,32,5,5] x", "float[N,8,3,3] y", "float[8,32,3,3] w, float[8] b", "y = Conv(x, w, b)"
    ),
    "pointwise": lambda: parsed("float[N,40,5,5] x", "float[N,8,5,5] y", "float[8,40,1,1] w", "y = Conv(x, w)"),
    "grouped": lambda: parsed(
        "float[N,32,5,5] x", "float[N,8,3,3] y", "float[8,16,3,3] w", "y = Conv <group=2> (x, w)"
    ),
    "depthwise": lambda: parsed(
        "float[N,6,5,5] x", "float[N,6,3,3] y", "float[6,1,3,3] w", "y = Conv <group=6> (x, w)"
    ),
    "conv 1d": lambda: parsed("float[N,16,9] x", "float[N,4,7] y", "float[4,16,3] w", "y = Conv(x, w)"),
    "conv 3d": lambda: parsed("float[N,8,4,4,4] x", "float[N,4,3,3,3] y", "float[4,8,2,2,2] w", "y = Conv(x, w)"),
    "gemm": lambda: parsed("float[N,40] x", "float[N,12] y", "float[40,12] w, float[12] b", "y = Gemm(x, w, b)"),
    "gemm transB": lambda: parsed(
        "float[N,40] x", "float[N,12] y", "float[12,40] w, float[1,12] b", "y = Gemm <transB=1> (x, w, b)"
    ),
    "gemm alpha": lambda: parsed(
        "float[N,40] x",
        "float[N,12] y",
        "float[12,40] w, float[12] b",
        "y = Gemm <transB=1, alpha=-0.5, beta=2.0> (x, w, b)",
    ),
    "matmul": lambda: parsed("float[N,3,64] x", "float[N,3,12] y", "float[64,12] w", "y = MatMul(x, w)"),
    "matmul add": lambda: parsed(
        "float[2,N,70] x", "float[2,N,12] y", "float[70,12] w, float[12] b", "a = MatMul(x, w) y = Add(a, b)"
    ),
}


def the_layer(model: Model) -> Layer:
    (layer,) = Layers(model)
    assert isinstance(layer, Layer)
    return layer


def rounded(
    where: Layer, weight: np.ndarray, grid: Grid, *, block: int = 0, symmetric: bool = True
) -> Rounded[Quantized]:
    method = mse if grid.bits < 8 else nearest
    block = fitting_block(where, block)
    return Rounded(where, method(Problem(where.matrix(weight), grid, None, block, symmetric)), "")


def floats(where: Layer, quantized: Quantized, weight: np.ndarray) -> np.ndarray:
    """The weight that the integers stand for, by another way than the storage takes."""
    matrix = quantized.floats()
    if not where.unfit:
        return where.weight_like(matrix, weight)
    rest = np.delete(np.array(weight.shape), where.axis)
    rows = matrix.reshape(weight.shape[where.axis], *rest)
    return np.ascontiguousarray(np.moveaxis(rows, 0, where.axis)).astype(weight.dtype)


def expected(model: Model, *entries: Rounded[Quantized]) -> Model:
    changed = model.copy()
    for one in entries:
        name = one.layer.weight
        changed.weights[name] = floats(one.layer, one.quantized, model.weights[name])
    return changed


def feed(model: Model, batch: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    found = {}
    for value in model.graph.input:
        shape = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        integer = kind.kind in "iu"
        found[value.name] = (rng.integers(0, 5, shape) if integer else rng.normal(size=shape)).astype(kind)
    return found


def outputs(model: Model, feeds: dict[str, np.ndarray], *, optimize: bool = False) -> list[np.ndarray]:
    return list(run(open_session(model, optimize=optimize), feeds).values())


def check(model: Model, stored: Model, *entries: Rounded[Quantized], atol: float = 1e-5) -> None:
    """Same outputs as with floats in the integers' place, and nothing left over; the original is as it was."""
    check_graph(stored)
    onnx.checker.check_model(onnx.load_from_string(to_bytes(stored)), full_check=False)
    feeds = feed(model)
    for one, two in zip(outputs(stored, feeds), outputs(expected(model, *entries), feeds), strict=True):
        np.testing.assert_allclose(one, two, atol=atol, rtol=1e-4)
    read = {i for n in stored.graph.node for i in n.input} | {o.name for o in stored.graph.output}
    assert set(stored.weights) <= read


def ops(model: Model) -> list[str]:
    return [n.op_type for n in model.graph.node]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_dequantized_weights_are_what_the_integers_stand_for(name: str) -> None:
    model = MODELS[name]()
    layer = the_layer(model)
    weight = model.weights["w"]
    for bits, block, symmetric in product((4, 8), (0, 16), (True, False)):
        one = rounded(layer, weight, Grid(bits, signed=symmetric), block=block, symmetric=symmetric)
        stored = store(model, [one])
        check(model, stored, one)
        assert ops(stored)[0] == "DequantizeLinear"
        assert stored.graph.node[0].output[0] == "w"
        assert stored.weights["w/q"].dtype == one.quantized.grid.dtype
        assert stored.weights["w/q"].shape == weight.shape
        assert stored.opset == (21 if bits == 4 or one.quantized.block else 17)
        unasked = ["w/zero"] if one.quantized.grid.signed else []  # zero points that no pass asks for
        parts = [w for n, w in stored.weights.items() if n.startswith("w/") and n not in unasked]
        counted = sum(-(-w.size * (bits if w.dtype != np.float32 else 32) // 8) for w in parts)
        assert weight_bytes(layer, one.quantized.grid, block=block) == counted
        # what a reading of the definition gives, number by number
        node = stored.graph.node[0]
        np.testing.assert_allclose(
            by_definition(node, stored), floats(layer, one.quantized, weight), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("form", ["dq", "once"])
def test_integers_take_as_many_bits_as_they_have(name: str, form: str) -> None:
    """Where no type holds so many bits, or floats are made once: the constants say so, in nodes of constants alone."""
    model = MODELS[name]()
    layer = the_layer(model)
    weight = model.weights["w"]
    for bits, block, symmetric in product((2, 3, 4, 5, 6, 7), (0, 16, 24), (True, False)):
        if (form == "dq" and bits == 4) or fitting_block(layer, block) != fitting_block(
            layer, fitting_block(layer, block)
        ):
            continue
        one = rounded(layer, weight, Grid(bits, signed=symmetric), block=block, symmetric=symmetric)
        stored = store(model, [one], form="dq" if form == "dq" else "once")
        check(model, stored, one)
        assert stored.opset == 17
        assert {w.dtype.name for w in stored.weights.values()} <= {"uint8", "int8", "float32", "int64"}
        scales = one.quantized.scale.size
        padded = -(-layer.columns // (one.quantized.block or layer.columns)) * (one.quantized.block or layer.columns)
        count = weight.size // layer.columns * padded
        assert stored.weights["w/q"].nbytes == -(-count // (8 // bits if bits in (2, 4) else 8)) * (
            1 if bits in (2, 4) else bits
        )
        assert stored.weights["w/scale"].size == scales
        assert cost(stored).params == cost(model).params
        assert cost(stored).macs == cost(model).macs
        made = onnx.numpy_helper.to_array(constants(stored, "w"))
        assert np.array_equal(made, floats(layer, one.quantized, weight).astype(np.float32)) or block or not symmetric
        np.testing.assert_allclose(made, floats(layer, one.quantized, weight), rtol=1e-5, atol=1e-8)


def constants(model: Model, name: str) -> onnx.TensorProto:
    """A tensor that constants alone make, as the reference implementation of the operators computes it."""
    proto = onnx.load_from_string(to_bytes(model))
    makers = {o: n for n in proto.graph.node for o in n.output}
    wanted, kept = [name], []
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None and node not in kept:
            kept.append(node)
            wanted += node.input
    nodes = [n for n in proto.graph.node if n in kept]
    known = [t for t in proto.graph.initializer if any(t.name in n.input for n in nodes)]
    graph = onnx.helper.make_graph(nodes, "g", [], [onnx.ValueInfoProto(name=name)], known)
    made = onnx.helper.make_model(graph, opset_imports=proto.opset_import)
    (value,) = onnx.reference.ReferenceEvaluator(made).run(None, {})
    return onnx.numpy_helper.from_array(np.asarray(value))


def by_definition(node: onnx.NodeProto, model: Model) -> np.ndarray:
    """``(q - zero) * scale`` of DequantizeLinear, in blocks along an axis or one for each of its indices."""
    attributes = {a.name: a.i for a in node.attribute}
    q, scale, *zero = (model.weights[i].astype(np.float64) for i in node.input)
    axis, block = attributes["axis"], attributes.get("block_size", 0)
    shape = [1] * q.ndim
    shape[axis] = -1

    def wide(v: np.ndarray) -> np.ndarray:
        return np.take(np.repeat(v, block, axis), range(q.shape[axis]), axis) if block else v.reshape(shape)

    return np.asarray((q - (wide(zero[0]) if zero else 0)) * wide(scale))


def test_blocks_of_convolutions_divide_the_input_channels() -> None:
    layer = the_layer(MODELS["conv"]())
    assert fitting_block(replace(layer, shape=(8, 32, 3, 3)), 16) == 16
    assert fitting_block(replace(layer, shape=(8, 24, 3, 3)), 16) == 12
    assert fitting_block(replace(layer, shape=(8, 24, 3, 3)), 32) == 24
    assert fitting_block(replace(layer, shape=(8, 3, 3, 3)), 16) == 0
    assert fitting_block(replace(layer, shape=(8, 23, 3, 3)), 16) == 0
    assert fitting_block(replace(layer, shape=(8, 32, 3, 3)), 1000) == 0
    pointwise = the_layer(MODELS["pointwise"]())
    assert fitting_block(replace(pointwise, shape=(8, 40, 1, 1)), 16) == 16
    assert fitting_block(replace(pointwise, shape=(8, 40, 1, 1)), 64) == 0
    one = Rounded(layer, nearest(Problem(np.ones((1, 8, 288)), Grid(4), None, 20)), "")
    with pytest.raises(ValueError, match="blocks of 20 do not fit"):
        store(MODELS["conv"](), [one])


LINEAR = sorted(n for n in MODELS if n.startswith(("gemm", "matmul")))


@pytest.mark.parametrize("name", LINEAR)
def test_matmul_nbits_computes_what_the_integers_stand_for(name: str) -> None:
    model = MODELS[name]()
    layer = the_layer(model)
    for bits, block, symmetric in product((2, 4, 8), (0, 16, 32), (True, False)):
        one = rounded(layer, model.weights["w"], Grid(bits, signed=symmetric), block=block, symmetric=symmetric)
        stored = store(model, [one], form="nbits")
        if name == "gemm alpha":
            assert "MatMulNBits" not in ops(stored)
            check(model, stored, one)
            continue
        assert ops(stored)[0] == "MatMulNBits"
        assert stored.opset == 17
        check(model, stored, one, atol=0.1)  # with activations rounded to 8 bits
        set_attribute(stored.graph.node[0], "accuracy_level", 0)
        check(model, stored, one)
        assert cost(stored).macs == cost(model).macs
        feeds = feed(model)
        assert [o.shape for o in outputs(stored, feeds)] == [o.shape for o in outputs(model, feeds)]


def test_packed_integers_come_back() -> None:
    rng = np.random.default_rng(0)
    for bits, columns, block in product((2, 4, 8), (1, 16, 40, 100), (0, 16, 32)):
        grid = Grid(bits, signed=False)
        shape = (1, 5, -(-columns // block) if block else 1)
        integers = rng.integers(grid.low, grid.high + 1, size=(1, 5, columns)).astype(np.int32)
        zero = rng.integers(grid.low, grid.high + 1, size=shape).astype(np.float64)
        quantized = Quantized(grid, integers, rng.normal(size=shape), zero, block)
        size = nbits_block(columns, block)
        assert size is not None
        packed, scale, zeros = pack(quantized, size)
        blocks = -(-columns // size)
        assert packed.shape == (5, blocks, size * bits // 8)
        assert scale.shape == (5 * blocks,)
        assert zeros is not None
        assert zeros.shape == (5 * -(-blocks * bits // 8),)
        each = 8 // bits
        unpacked = np.stack([packed >> (bits * k) & (2**bits - 1) for k in range(each)], -1).reshape(5, -1)
        np.testing.assert_array_equal(unpacked[:, :columns], integers[0])
        ends = np.stack([zeros.reshape(5, -1) >> (bits * k) & (2**bits - 1) for k in range(each)], -1).reshape(5, -1)
        values = (unpacked.astype(int) - np.repeat(ends[:, :blocks], size, 1)) * np.repeat(
            scale.reshape(5, -1), size, 1
        )
        np.testing.assert_allclose(values[:, :columns], quantized.floats()[0], rtol=1e-6)
        assert (values[:, columns:] == 0).all()
    np.testing.assert_array_equal(pack_bits(np.array([[1, 2, 3]]), 2), [[1 | 2 << 2 | 3 << 4]])


def test_symmetric_integers_need_no_zero_points_in_nbits() -> None:
    for bits in (2, 4, 8):
        one = rounded(the_layer(MODELS["gemm"]()), MODELS["gemm"]().weights["w"], Grid(bits))
        assert pack(one.quantized, 32)[2] is None
    assert nbits_block(100, 24) is None
    assert nbits_block(100, 8) is None
    assert [nbits_block(n, 0) for n in (10, 33, 100, 5000)] == [32, 64, 128, 128]


def test_blocks_that_the_operator_does_not_know_are_dequantized() -> None:
    model = MODELS["matmul"]()
    one = rounded(the_layer(model), model.weights["w"], Grid(4), block=24)
    stored = store(model, [one], form="nbits")
    assert ops(stored)[-1] == "MatMul"
    assert "DequantizeLinear" not in ops(stored)
    check(model, stored, one)


OTHERS: dict[str, Callable[[], Model]] = {
    "transposed": lambda: parsed(
        "float[N,6,4,4] x", "float[N,4,6,6] y", "float[6,4,3,3] w, float[4] b", "y = ConvTranspose(x, w, b)"
    ),
    "transposed, groups": lambda: parsed(
        "float[N,6,4,4] x", "float[N,8,6,6] y", "float[6,4,3,3] w", "y = ConvTranspose <group=2> (x, w)"
    ),
    "transposed, depthwise": lambda: parsed(
        "float[N,6,4,4] x", "float[N,6,6,6] y", "float[6,1,3,3] w", "y = ConvTranspose <group=6> (x, w)"
    ),
    "lstm": lambda: parsed(
        "float[5,N,4] x", "float[5,2,N,3] y", "float[2,12,4] w, float[2,12,3] r",
        'y = LSTM <hidden_size=3, direction="bidirectional"> (x, w, r)',
    ),
    "gru": lambda: parsed(
        "float[5,N,4] x", "float[5,1,N,3] y", "float[1,9,4] w, float[1,9,3] r", "y = GRU <hidden_size=3> (x, w, r)"
    ),
    "table": lambda: parsed("int64[N,2] x", "float[N,2,32] y", "float[9,32] w", "y = Gather(w, x)"),
    "odd table": lambda: parsed("int64[N,2] x", "float[N,2,7] y", "float[9,7] w", "y = Gather(w, x)"),
    "left": lambda: parsed("float[N,8,3] x", "float[N,6,3] y", "float[6,8] w", "y = MatMul(w, x)"),
    "stack": lambda: parsed("float[N,2,3,8] x", "float[N,2,3,5] y", "float[2,8,5] w", "y = MatMul(x, w)"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OTHERS))
@pytest.mark.parametrize("form", ["dq", "nbits"])
def test_weights_that_are_no_layers_are_stored_as_well(name: str, form: str) -> None:
    model = OTHERS[name]()
    found = independent(model)
    assert found
    for bits, symmetric in product((2, 3, 4, 8), (True, False)):
        entries = [
            rounded(p, model.weights[p.weight], Grid(bits, signed=symmetric), symmetric=symmetric) for p in found
        ]
        stored = store(model, entries, form="dq" if form == "dq" else "nbits")
        check(model, stored, *entries)
        assert file_bytes(stored) > 0
        assert not set(stored.weights) & {p.weight for p in found}


def test_every_output_channel_of_a_transposed_convolution_has_a_scale() -> None:
    (place,) = independent(OTHERS["transposed"]())
    assert place.axis == 1
    (place,) = independent(OTHERS["transposed, depthwise"]())
    assert place.axis == 0


def test_tables_are_not_dequantized_as_a_whole() -> None:
    model = OTHERS["table"]()
    (place,) = independent(model)
    for bits, block in product((2, 3, 4, 6, 8), (0, 16, 24)):
        one = rounded(place, model.weights["w"], Grid(bits), block=block)
        stored = store(model, [one])
        check(model, stored, one)
        assert stored.opset == 17
        filled = 9 * (48 - 32) if block == 24 else 0  # what the last block lacks cannot be told from weights
        beside = stored.weights["w/scale"].size + (bits if bits in (3, 6) else 0)  # what digits are worth
        assert cost(stored).params == cost(model).params + beside + filled
        assert [n.op_type for n in stored.graph.node if n.input[0] == "w/q"] == ["Gather"]
        assert stored.weights["w/q"].nbytes == 9 * -(-32 // (block or 32)) * (block or 32) * bits // 8


def test_nodes_that_share_a_weight_read_the_same_integers_or_their_own() -> None:
    model = parsed(
        "float[N,32] x",
        "float[N,32] y",
        "float[32,32] w",
        "a = Gemm(x, w) b = Relu(a) c = Gemm(b, w) y = Gemm <transB=1> (c, w)",
    )
    first, second, third = Layers(model)
    weight = model.weights["w"]
    one, other = rounded(first, weight, Grid(4)), rounded(third, weight, Grid(4))
    same = Rounded(second, one.quantized, "")
    for form in ("dq", "nbits"):
        stored = store(model, [one, same, other], form="dq" if form == "dq" else "nbits")
        count = sum(n.startswith(("w/q", "w/packed")) for n in stored.weights)
        assert count == 2
        assert "w" not in stored.weights
        # one after the other, by hand
        x = feed(model)
        values = floats(first, one.quantized, weight), floats(third, other.quantized, weight)
        by_hand = np.maximum(x["x"] @ values[0], 0) @ values[0] @ values[1].T
        for node in stored.graph.node:
            if node.op_type == "MatMulNBits":
                set_attribute(node, "accuracy_level", 0)
        np.testing.assert_allclose(outputs(stored, x)[0], by_hand, atol=1e-4)


@pytest.mark.parametrize("form", ["dq", "nbits"])
def test_readers_that_were_not_rounded_read_what_the_integers_stand_for(form: str) -> None:
    model = parsed(
        "float[N,32] x",
        "float[N,32] y, float[N,32] z",
        "float[32,32] w",
        "y = MatMul(x, w) a = Abs(w) z = MatMul(x, a)",
    )
    layer = next(iter(Layers(model)))
    one = rounded(layer, model.weights["w"], Grid(8))
    stored = store(model, [one], form="dq" if form == "dq" else "nbits")
    feeds = feed(model)
    y, z = outputs(stored, feeds)
    near = floats(layer, one.quantized, model.weights["w"])
    np.testing.assert_allclose(y, feeds["x"] @ near, atol=0.05)
    np.testing.assert_allclose(z, feeds["x"] @ np.abs(near), atol=1e-5)
    assert "w" not in stored.weights


def test_weights_in_half_precision_and_in_double_keep_their_type(tmp_path: Path) -> None:
    for kind, text in ((np.float16, "float16"), (np.float64, "double")):
        model = parsed(f"{text}[N,32] x", f"{text}[N,8] y", f"{text}[32,8] w", "y = MatMul(x, w)")
        model.weights["w"] = model.weights["w"].astype(kind)
        model = load(saved(model, tmp_path / f"{text}.onnx"))
        one = rounded(the_layer(model), model.weights["w"], Grid(4), block=16)
        stored = store(model, [one])
        check(model, stored, one, atol=5e-3 if kind == np.float16 else 1e-6)


def saved(model: Model, path: Path) -> Path:
    save(model, path)
    return path


def test_small_integers_survive_the_file_and_make_it_small(tmp_path: Path) -> None:
    model = parsed("float[N,64,8,8] x", "float[N,64,6,6] y", "float[64,64,3,3] w", "y = Conv(x, w)")
    layer = the_layer(model)
    for bits in (2, 4, 8):
        one = rounded(layer, model.weights["w"], Grid(bits))
        stored = store(model, [one])
        path = saved(stored, tmp_path / f"{bits}.onnx")
        size = path.stat().st_size
        assert abs(size - 64 * 64 * 9 * bits / 8) < 1500
        assert size == file_bytes(stored)
        check(model, load(path), one)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_the_runtime_makes_of_the_nodes_is_right(name: str) -> None:
    """It fuses DequantizeLinear and MatMul, and folds what only depends on constants."""
    model = MODELS[name]()
    layer = the_layer(model)
    for bits, block, symmetric in product((2, 4, 8), (0, 16), (True, False)):
        one = rounded(layer, model.weights["w"], Grid(bits, signed=symmetric), block=block, symmetric=symmetric)
        feeds = feed(model)
        (exact,) = outputs(expected(model, one), feeds)
        for stored in (store(model, [one]), store(model, [one], form="nbits")):
            (near,) = outputs(stored, feeds, optimize=True)
            np.testing.assert_allclose(near, exact, atol=0.02 * np.abs(exact).max())


def test_the_operator_set_is_raised_no_further_than_needed() -> None:
    model = MODELS["conv"]()
    layer = the_layer(model)
    assert store(model, [rounded(layer, model.weights["w"], Grid(8))]).opset == 17
    assert store(model, [rounded(layer, model.weights["w"], Grid(8), block=16)]).opset == 21
    assert store(model, [rounded(layer, model.weights["w"], Grid(4))]).opset == 21
    assert store(model, [rounded(layer, model.weights["w"], Grid(2))]).opset == 17
    assert laid(layer, rounded(layer, model.weights["w"], Grid(6)).quantized, model.weights["w"]).bits == 8
    assert "w" in model.weights  # the original is as it was
