"""Filters computed from similar ones: the identity, the tree, and how little it says beyond random signs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path

from intaglio.graph.io.load import from_proto
from intaglio.kernels.packing import unpack
from intaglio.measure import bit_order
from intaglio.measure.bit_order import Signs, bit_orders, distances, sign_layers, spanning_tree
from tests.packed import Net, binary_cnn, one_bit_cnn


def signs(rows: int, length: int, seed: int = 0) -> Signs:
    return np.random.default_rng(seed).choice([-1.0, 1.0], (rows, length)).astype(np.float32)


sizes = st.tuples(st.integers(1, 24), st.integers(1, 40), st.integers(0, 9))


@given(sizes)
@settings(deadline=None)
def test_distances_count_the_places_that_differ(size: tuple[int, int, int]) -> None:
    w = signs(*size)
    assert np.array_equal(distances(w), (w[:, None] != w[None]).sum(axis=2))


@given(sizes)
@settings(deadline=None)
def test_every_product_follows_from_its_parents_exactly(size: tuple[int, int, int]) -> None:
    w = signs(*size)
    tree = spanning_tree(w)
    x = np.random.default_rng(1).integers(-127, 128, w.shape[1])
    found = np.full(len(w), np.iinfo(np.int64).min)
    operations = 0
    for row in tree.order:
        parent = tree.parent[row]
        if parent < 0:
            found[row], operations = w[row].astype(np.int64) @ x, operations + w.shape[1]
            continue
        differs = w[row] != w[parent]
        assert found[parent] != np.iinfo(np.int64).min, "a parent comes after its child"
        found[row] = found[parent] + 2 * (w[row].astype(np.int64) @ (differs * x))
        operations += int(differs.sum())
    assert np.array_equal(found, w.astype(np.int64) @ x)
    assert operations == w.shape[1] + tree.cost


@given(sizes)
@settings(deadline=None)
def test_the_tree_is_the_cheapest_and_its_root_the_middle(size: tuple[int, int, int]) -> None:
    w = np.unique(signs(*size), axis=0)  # SciPy sees no edge between equal rows
    tree = spanning_tree(w)
    assert tree.cost == minimum_spanning_tree(distances(w)).sum()
    assert sorted(tree.order) == list(range(len(w)))
    assert (tree.parent < 0).sum() == 1
    children = np.flatnonzero(tree.parent >= 0)
    edges = csr_array((np.ones(len(children)), (children, tree.parent[children])), shape=(len(w), len(w)))
    steps = shortest_path(edges, directed=False, unweighted=True)
    assert tree.depth == steps.max(axis=1).min()
    assert steps[int(np.flatnonzero(tree.parent < 0)[0])].max() == tree.depth


def test_equal_filters_cost_nothing_more() -> None:
    w = np.repeat(signs(3, 50), 5, axis=0)
    tree = spanning_tree(w)
    assert len(np.unique(tree.parent)) > 1
    assert (tree.distance == 0).sum() == 13  # 12 repetitions, and the root
    assert tree.cost == spanning_tree(w[::5]).cost


def test_two_opposite_filters_differ_everywhere() -> None:
    w = signs(1, 33)
    assert spanning_tree(np.concatenate([w, -w])).cost == 33


@pytest.mark.parametrize("filters", [64, 256])
def test_random_signs_alone_already_save_more_than_half(filters: int) -> None:
    w = signs(filters, 9 * filters)
    tree = spanning_tree(w)
    assert 2.05 < w.size / (w.shape[1] + tree.cost) < 2.25
    assert 5 <= tree.depth <= 40


def test_layers_of_a_packed_network_are_read_with_their_planes() -> None:
    model = from_proto(binary_cnn())
    found = {node.name: w for node, w in sign_layers(model)}
    assert {name: w.shape for name, w in found.items()} == {
        "bconv1": (1, 24, 108),
        "bconvbits1": (1, 12, 108),
        "bconv2": (1, 24, 108),
        "bgemm1": (1, 16, 12),
        "matmul1bit1": (1, 10, 16),
    }
    (node,) = [n for n in model.graph.node if n.name == "bconv1"]
    assert np.array_equal(found["bconv1"][0].reshape(2, 12, 108), unpack(model.weights[node.input[1]], 108))
    assert [node.op_type for node, _ in sign_layers(from_proto(one_bit_cnn()))] == ["UnpackWeight", "MatMul1Bit"]


def test_groups_have_trees_of_their_own() -> None:
    """Their filters meet different channels."""
    n = Net()
    y = n.convolved(n.packed("x", 0, 2, 3, 1), 6, 8, group=2)
    model = from_proto(n.model({"x": [1, 6, 5, 5]}, {y: TensorProto.FLOAT}))
    ((_, w),) = sign_layers(model)
    packed = model.weights[model.graph.node[-1].input[1]]
    assert np.array_equal(w, unpack(packed, 27).reshape(2, 4, 27))
    (told,) = bit_orders(model)
    trees = [spanning_tree(g) for g in w]
    assert (told.operations, told.tree) == (8 * 27, 2 * 27 + sum(t.cost for t in trees))
    assert told.depth == max(t.depth for t in trees)


def test_float_weights_of_one_size_a_filter_are_signs() -> None:
    n = Net()
    w = signs(4, 27).reshape(4, 3, 3, 3)
    image = n.node("Conv", "x", n.weight(w * np.array([0.5, 1, 2, 3], np.float32).reshape(4, 1, 1, 1)))
    flat = n.node("Flatten", n.node("GlobalAveragePool", image))
    matrix = signs(6, 4, seed=1)
    flat = n.node("MatMul", flat, n.weight(np.ascontiguousarray(matrix.T)))
    bytes_ = n.node("Cast", n.weight(signs(5, 6, seed=2).astype(np.int8)), to=TensorProto.FLOAT)
    flat = n.node("Gemm", flat, bytes_, transB=1)
    y = n.node("MatMul", flat, n.floats(5, 3))
    found = [w for _, w in sign_layers(from_proto(n.model({"x": [1, 3, 8, 8]}, {y: TensorProto.FLOAT})))]
    assert [f.shape for f in found] == [(1, 4, 27), (1, 6, 4), (1, 5, 6)]
    assert np.array_equal(found[0][0], w.reshape(4, 27))
    assert np.array_equal(found[1][0], matrix)
    assert np.array_equal(found[2][0], signs(5, 6, seed=2))


def test_the_same_seed_gives_the_same_figures_and_trained_patterns_stand_out() -> None:
    n = Net()
    pattern = np.repeat(signs(4, 9 * 16), 8, axis=0)
    pattern[:, ::50] *= signs(32, 3, seed=3)
    y = n.node("Conv", "x", n.weight(pattern.reshape(32, 16, 3, 3)))
    model = from_proto(n.model({"x": [1, 16, 8, 8]}, {y: TensorProto.FLOAT}))
    (told,) = bit_orders(model)
    assert told == bit_orders(model)[0]
    assert told.saved is not None
    assert told.random_saved is not None
    assert told.saved > 3 * told.random_saved


def test_a_layer_of_too_many_filters_is_named_without_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bit_order, "MOST_ROWS", 20)
    told = {o.name: o for o in bit_orders(from_proto(binary_cnn()))}
    assert told["bconv1"].tree is None
    assert told["bconv1"].saved is None
    assert told["bconvbits1"].tree
