"""Free dimensions: what depends on a size stays computed, and pruning is right at every size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.coupling import Coupling, Removal, analyse, remove
from intaglio.graph.index import index_of
from intaglio.graph.io.load import from_proto
from intaglio.graph.readings import readings
from tests.passes.parsed import parsed

from .arithmetic import Arithmetic, int64
from .drawn import Drawn, profile
from .equality import Values, choose, first_difference

SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 36, 37, 38, 64)
MLP = "float[6, 12] w1, float[12, 3] w2"
LAYERS = "a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) "


def halved(coupling: Coupling) -> Removal:
    removed = coupling.nothing()
    for group in coupling.groups:
        if group.prunable:
            removed[group.atoms[::2]] = True
    assert removed.any(), "nothing could be pruned"
    return Removal(coupling, removed)


def right_at(removal: Removal, shapes: Sequence[tuple[int, ...]]) -> None:
    pruned = remove(removal)
    for shape in shapes:
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        difference = first_difference(removal, pruned, {"x": x})
        assert difference is None, f"at {shape}: {difference}"


def scaled_by(numbers: str, **values: np.ndarray) -> Coupling:
    """Layers times a number that is computed from the sizes: ``n``, of type int64 or bool."""
    weights = ", ".join([MLP, *(f"int64[{v.size}] {k}" for k, v in values.items())])
    text = f"{LAYERS} len = Shape <start = 1, end = 2> (x) {numbers} f = Cast <to = 1> (n) y = Mul(c, f)"
    return analyse(parsed("float[B, T, 6] x", "float[B, T, 3] y", weights, text, **values))


@pytest.mark.parametrize(
    "numbers",
    [
        "n = Min(len, k)",
        "n = Max(len, k)",
        "n = Clip(len, lowest, highest)",
        "n = Equal(len, k)",
        "n = Less(k, len)",
        "g = Greater(len, k) n = Where(g, k, len)",
        "n = Div(k, len)",
        "d = Div(len, big) n = Add(d, k)",
        "d = Sub(len, k) s = Sign(d) n = Add(s, k)",
        "d = Mod(big, len) n = Min(d, k)",
        "m = Min(len, k) z = Sub(m, k) n = Add(z, k)",
        "e = Equal(len, big) i = Cast <to = 7> (e) n = Add(i, k)",
        "p = Slice(table, zero, len) s = Shape(p) n = Min(s, big)",
    ],
)
def test_what_saturates_is_no_constant(numbers: str) -> None:
    small = {"lowest": np.array(1), "highest": np.array(5)}
    if "Clip" in numbers:
        text = f"{LAYERS} len = Shape <start = 1, end = 2> (x) {numbers} f = Cast <to = 1> (n) y = Mul(c, f)"
        weights = f"{MLP}, int64 lowest, int64 highest"
        coupling = analyse(parsed("float[B, T, 6] x", "float[B, T, 3] y", weights, text, **small))
    else:
        coupling = scaled_by(numbers, k=int64(4), big=int64(37), zero=int64(0), table=np.arange(37))
    made = {o for node in coupling.model.graph.node for o in node.output}
    assert "n" in made, "it was folded"
    right_at(halved(coupling), [(2, size, 6) for size in SIZES])


def test_a_comparison_out_of_reach_of_every_reading_is_no_constant() -> None:
    """The sizes that are tried lie far below: only that it compares says that it may turn."""
    coupling = scaled_by("e = Less(big, len) i = Cast <to = 7> (e) n = Add(i, k)", k=int64(4), big=int64(1 << 40))
    assert "n" in {o for node in coupling.model.graph.node for o in node.output}


def test_polynomials_that_cancel_are_constants() -> None:
    """As exporters write the width of a layer: all elements, divided by the number of rows."""
    text = f"{LAYERS} all = Size(c) s = Shape(x) bt = Slice(s, zero, two) rows = ReduceProd <keepdims = 0> (bt) n = Div(all, rows) u = Unsqueeze(n, zero) t = Concat <axis = 0> (bt, u) d = Reshape(c, t) y = Relu(d)"
    weights = f"{MLP}, int64[1] zero, int64[1] two"
    coupling = analyse(parsed("float[B, T, 6] x", "float[B, T, 3] y", weights, text, zero=int64(0), two=int64(2)))
    np.testing.assert_array_equal(coupling.model.weights["u"], [3])
    right_at(halved(coupling), [(2, size, 6) for size in SIZES])


def test_a_quotient_by_a_constant_is_not_taken_for_exact() -> None:
    """The primes are all odd: half of one more leaves a remainder at even sizes alone."""
    coupling = scaled_by(
        "p = Add(len, one) h = Div(p, two) t = Mul(h, two) n = Sub(t, len)", one=int64(1), two=int64(2)
    )
    assert "n" in {o for node in coupling.model.graph.node for o in node.output}
    right_at(halved(coupling), [(2, size, 6) for size in SIZES])


def branching(number: int) -> onnx.ModelProto:
    """Layers, negated where the batch is as long as a number says."""
    then = helper.make_graph(
        [helper.make_node("Neg", ["c"], ["o1"])], "then", [], [helper.make_tensor_value_info("o1", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["o2"])], "else", [], [helper.make_tensor_value_info("o2", 1, None)]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Equal", ["n", "number"], ["is"]),
        helper.make_node("If", ["is"], ["y"], then_branch=then, else_branch=other),
    ]
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.standard_normal((6, 12)).astype(np.float32),
        "w2": rng.standard_normal((12, 3)).astype(np.float32),
        "zero": np.array(0),
        "number": np.array(number),
    }
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_branch_that_a_size_takes_stays(number: int) -> None:
    coupling = analyse(from_proto(branching(number)))
    assert [n.op_type for n in coupling.model.graph.node][-1] == "If"
    right_at(halved(coupling), [(size, 6) for size in SIZES])


def test_a_table_of_positions_is_cut_at_every_length() -> None:
    values = {"pos": np.arange(37)[None], "zero": int64(0), "one": int64(1), "scale": np.ones((37, 1), np.float32)}
    weights = "int64[1, 37] pos, int64[1] zero, int64[1] one, float[37, 6] e, float[37, 1] scale, " + MLP
    text = "len = Shape <start = 1, end = 2> (x) p = Slice(pos, zero, len, one, one) q = Mul(e, scale) g = Gather(q, p)"
    text += f" s = Add(x, g) {LAYERS.replace('MatMul(x,', 'MatMul(s,')} y = Identity(c)"
    coupling = analyse(parsed("float[B, T, 6] x", "float[B, T, 3] y", weights, text, **values))
    assert "p" not in coupling.model.weights
    right_at(halved(coupling), [(2, size, 6) for size in SIZES if size <= 37])


def test_both_sides_of_a_comparison_are_looked_at() -> None:
    model = parsed(
        "float[B, T, 6] x",
        "float[B, T, 3] y",
        MLP + ", int64[1] k, int64[1] two",
        LAYERS + "l = Shape <start = 1, end = 2> (x) h = Div(l, two) n = Min(h, k) f = Cast <to = 1> (n) y = Mul(c, f)",
        k=int64(50),
        two=int64(2),
    )
    sizes = [size for name, size in readings(model).turns if name == "T"]
    assert min(abs(s - 100) for s in sizes if s < 100) <= 2
    assert min(abs(s - 100) for s in sizes if s > 100) <= 2
    assert 100 in sizes


@pytest.mark.parametrize("name", ["B", "other"])
def test_names_of_output_sizes_say_nothing(name: str) -> None:
    """The same groups and MACs, whatever the sizes of outputs are called, also behind a computed shape."""
    weights = (
        "float[8, 3, 3, 3] w1, float[12, 8, 3, 3] w2, float[5, 12, 3, 3] w3, int64[1] zero, int64[1] one, int64[3] hw"
    )
    pads = "<pads = [1, 1, 1, 1]>"
    text = f"a = Conv {pads} (x, w1) b = Relu(a) s = Shape(b) n = Slice(s, zero, one) t = Concat <axis = 0> (n, hw) q = Reshape(b, t) z = Conv {pads} (q, w2) f = Relu(z) y = Conv {pads} (f, w3)"
    outputs = f"float[{name}, h0, w0, d0] f, float[{name}, h1, w1_, d1] y"
    coupling = analyse(
        parsed("float[B, 3, 8, 8] x", outputs, weights, text, zero=int64(0), one=int64(1), hw=int64(8, 8, 8))
    )
    assert coupling.trace.failures == []
    assert coupling.unit_shapes.dims["y"] == (1, 5, 8, 8)
    assert sum(coupling.macs(k) for k in range(len(coupling.nodes))) == 64 * 9 * (3 * 8 + 8 * 12 + 12 * 5)
    assert [len(g.atoms) for g in coupling.groups if g.prunable] == [8]


def pyramid(join: str) -> Coupling:
    """Two scales that fit where height and width are multiples of 8, and a flattened head that is cut and joined."""
    convs = [("c1", "x", 2), ("c2", "c1", 2), ("c3", "c2", 2)]
    text = " ".join(f"{y} = Conv <pads=[1,1,1,1], strides=[{s},{s}]> ({x}, w{k})" for k, (y, x, s) in enumerate(convs))
    text += f' u = Resize <mode = "nearest"> (c3, , scales) f = {join} q = Conv <pads=[1,1,1,1]> (f, w3) r = Reshape(q, flat)'
    text += " lt = Slice(r, s0, s2, s1) rb = Slice(r, s2, s4, s1) y = Concat <axis = 1> (rb, lt)"
    width = 16 if "Concat" in join else 8
    weights = f"float[8, 3, 3, 3] w0, float[8, 8, 3, 3] w1, float[8, 8, 3, 3] w2, float[4, {width}, 3, 3] w3, "
    weights += "float[4] scales, int64[3] flat, int64[1] s0, int64[1] s1, int64[1] s2, int64[1] s4"
    values = {f"s{k}": int64(k) for k in (0, 1, 2, 4)}
    scales = np.array([1, 1, 2, 2], np.float32)
    inputs, outputs = "float[B, 3, H, W] x", "float[B, 4, anchors] y"
    return analyse(parsed(inputs, outputs, weights, text, scales=scales, flat=int64(0, 4, -1), **values))


@pytest.mark.parametrize("join", ["Concat <axis = 1> (u, c2)", "Add(u, c2)"])
def test_a_pyramid_of_free_height_and_width_is_prunable_within_little_memory(join: str) -> None:
    tracemalloc.start()
    coupling = pyramid(join)
    removal = halved(coupling)
    remove(removal)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6, "labels of a made-up size were held"
    assert coupling.trace.failures == []
    assert sum(len(g.atoms) for g in coupling.groups if g.prunable) == 24 if "Concat" in join else 16
    right_at(removal, [(2, 3, 16, 24), (1, 3, 8, 8)])


def test_no_rule_holds_an_axis_of_a_made_up_size() -> None:
    """Cut, split, gathered, padded and joined along flattened height and width."""
    text = "a = Conv <pads=[1,1,1,1]> (x, w) r = Reshape(a, flat) s = Slice(r, one, big, two) g = Gather <axis = 2> (r, one)"
    text += " p = Pad(r, pads) c = Concat <axis = 2> (s, g, p, r) y = Relu(c)"
    values = {
        "flat": int64(0, 4, -1),
        "one": int64(1),
        "two": int64(2),
        "big": int64(1 << 40),
        "pads": int64(0, 0, 1, 0, 0, 1),
    }
    weights = "float[4, 3, 3, 3] w, int64[3] flat, int64[1] one, int64[1] two, int64[1] big, int64[6] pads"
    tracemalloc.start()
    coupling = analyse(parsed("float[B, 3, H, W] x", "float[B, 4, n] y", weights, text, **values))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    assert coupling.trace.failures == []


def test_surgery_holds_no_axis_of_a_made_up_size() -> None:
    """Batch and width fold into one axis, as long as the square of a made-up size."""
    text = "t = MatMul(x, w1) a = Relu(t) f = Reshape(a, flat) y = MatMul(f, w2)"
    weights = "float[6, 12] w1, float[12, 3] w2, int64[3] flat"
    removal = halved(analyse(parsed("float[N, N, 2, 6] x", "float[A, 2, 3] y", weights, text, flat=int64(-1, 2, 12))))
    longest = max(max(dims, default=0) for dims in removal.coupling.trace.dims.values())
    tracemalloc.start()
    remove(removal)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert longest > 5e7, "made-up sizes are small now: fold more of them"
    assert peak < 10e6
    right_at(removal, [(2, 2, 2, 6), (1, 1, 2, 6)])


def at_sizes(shapes: Sequence[tuple[int, ...]]) -> list[Mapping[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for shape in shapes]


FEEDS: list[Values] = at_sizes([(b, t, 6) for b in (1, 2, 3) for t in SIZES] + [(37, 37, 6), (40, 1, 6), (5, 1009, 6)])


@profile(60)
@given(st.data())
def test_arithmetic_on_sizes_is_right_at_every_size(data: st.DataObject) -> None:
    choice = Drawn(data)
    numbers = Arithmetic(choice)
    for _ in range(choice.integer(2, 8)):
        numbers.grow()
    coupling = analyse(from_proto(numbers.model()))
    removal = choose(coupling, choice.integer, most=choice.integer(0, 1) == 1)
    pruned = remove(removal)
    for feed in FEEDS:
        difference = first_difference(removal, pruned, feed)
        assert difference is None, f"at {feed['x'].shape}: {difference}"


@pytest.mark.parametrize("width", [4, 40])
def test_a_cut_behind_a_window_longer_than_the_input_ends_nothing(width: int) -> None:
    """onnx's inference ends the process at a Slice of a length below 0, as small sizes give behind a convolution."""
    weights = f"float[8, 1, {width}] w, float[8, 8, 3] v, float[8, 4] u, int64[1] start, int64[1] end, int64[1] axis"
    text = "a = Conv (x, w) b = Relu(a) c = Conv(b, v) d = Relu(c) l = Slice(d, start, end, axis)"
    text += " p = Conv(l, v) q = Slice(p, start, end, axis) t = Transpose <perm = [0, 2, 1]> (q) y = MatMul(t, u)"
    values = {"start": int64(-4), "end": int64(1 << 31), "axis": int64(2)}
    model = parsed("float[B, 1, T] x", "float[B, n, 4] y", weights, text, **values)
    assert "y" not in index_of(model).shapes.dims
    coupling = analyse(model)
    right_at(halved(coupling), [(2, 1, width + 7), (1, 1, 100)])


def test_layers_behind_spectra_of_a_free_length_are_pruned() -> None:
    model = parsed(
        "float[B, T] x",
        "float[B, 3, F] y",
        "int64 step, float[16] window, float[9, 8] mel, float[12, 8, 3] w1, float[12] b1, float[3, 12, 1] w2",
        "s = STFT(x, step, window) e = ReduceSumSquare <axes = [3], keepdims = 0> (s) m = MatMul(e, mel) "
        "t = Transpose <perm = [0, 2, 1]> (m) h = Conv(t, w1, b1) r = Relu(h) y = Conv(r, w2)",
        step=np.asarray(np.int64(5)),
    )
    coupling = analyse(model)
    assert {name for group in coupling.groups if group.prunable for name, _ in group.members} == {
        "mel",
        "w1",
        "b1",
        "w2",
    }
    assert not [group.frozen_by for group in coupling.groups if "rule" in str(group.frozen_by)]
    right_at(halved(coupling), [(1, 31), (2, 64), (3, 200)])
