"""Columns named for a group's channels are those that surgery takes out of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.coupling import Coupling, Removal, analyse, remove
from intaglio.graph.coupling.certificate import too_short
from intaglio.graph.load import load
from intaglio.graph.model import Model
from intaglio.passes.calibration.layers import Layer
from intaglio.passes.prune.readers import Readers
from tests.passes.parsed import parsed

from .nets import attention, conv_pair

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
IMAGE = "float[N, 3, 6, 6] x"


def image(weights: str, nodes: str) -> Model:
    return parsed(IMAGE, "float[N, 5] y", weights, nodes + " p = GlobalAveragePool(z) f = Flatten(p) y = Gemm(f, head)")


def chain() -> Model:
    return image(
        "float[6, 3, 3, 3] w1, float[6] b1, float[4, 6, 3, 3] w2, float[4, 5] head",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) r = Relu(a) z = Conv(r, w2)",
    )


def residual() -> Model:
    return image(
        "float[6, 3, 3, 3] w1, float[8, 6, 1, 1] w2, float[6, 8, 3, 3] w3, float[6, 5] head",
        "a = Conv(x, w1) b = Conv(a, w2) r = Relu(b) c = Conv <pads = [1, 1, 1, 1]> (r, w3) z = Add(a, c)",
    )


def concat() -> Model:
    """Two widths side by side, one of them twice, and a part that is the graph input."""
    return image(
        "float[4, 3, 1, 1] w1, float[6, 3, 1, 1] w2, float[5, 17, 3, 3] w3, float[5, 5] head",
        "a = Conv(x, w1) b = Conv(x, w2) j = Concat <axis = 1> (b, a, x, a) z = Conv(j, w3)",
    )


def flattened() -> Model:
    return parsed(
        IMAGE,
        "float[N, 5] y",
        "float[4, 3, 3, 3] w1, float[64, 7] w2, float[7] b2, float[5, 7] w3",
        "a = Conv(x, w1) f = Flatten(a) h = Gemm(f, w2, b2) r = Relu(h) y = Gemm <transB = 1> (r, w3)",
    )


def shuffled() -> Model:
    """As in ShuffleNet: a grouped convolution, its channels shuffled, another one."""
    return image(
        "float[8, 3, 1, 1] w1, float[12, 4, 1, 1] w2, float[8, 6, 1, 1] w3, float[8, 5] head, "
        "int64[5] apart = {0, 2, 6, 6, 6}, int64[4] together = {0, 12, 6, 6}",
        "a = Conv(x, w1) b = Conv <group = 2> (a, w2) q = Reshape(b, apart) t = Transpose <perm = [0, 2, 1, 3, 4]> (q) "
        "s = Reshape(t, together) z = Conv <group = 2> (s, w3)",
    )


def split() -> Model:
    """As in ShuffleNetV2: half of the channels goes on as it is."""
    return image(
        "float[8, 3, 1, 1] w1, float[4, 4, 1, 1] w2, float[5, 8, 1, 1] w3, float[5, 5] head, int64[2] parts = {4, 4}",
        "a = Conv(x, w1) l, m = Split <axis = 1> (a, parts) b = Conv(l, w2) r = Relu(b) j = Concat <axis = 1> (r, m) "
        "z = Conv(j, w3)",
    )


def grouped() -> Model:
    return image(
        "float[6, 3, 1, 1] w1, float[9, 2, 3, 3] w2, float[5, 9, 1, 1] w3, float[5, 5] head",
        "a = Conv(x, w1) b = Conv <group = 3> (a, w2) z = Conv(b, w3)",
    )


def depthwise() -> Model:
    return image(
        "float[6, 3, 1, 1] w1, float[6, 1, 3, 3] w2, float[5, 6, 1, 1] w3, float[5, 5] head",
        "a = Conv(x, w1) b = Conv <group = 6> (a, w2) r = Relu(b) z = Conv(r, w3)",
    )


def excited() -> Model:
    """Squeeze and excitation: the same channels are read by two layers and multiplied."""
    return image(
        "float[6, 3, 3, 3] w1, float[3, 6, 1, 1] w2, float[6, 3, 1, 1] w3, float[4, 6, 1, 1] w4, float[4, 5] head",
        "a = Conv(x, w1) g = GlobalAveragePool(a) h = Conv(g, w2) r = Relu(h) e = Conv(r, w3) i = Sigmoid(e) "
        "m = Mul(a, i) z = Conv(m, w4)",
    )


def perceptron() -> Model:
    return parsed(
        "float[N, 7, 4] x",
        "float[N, 7, 3] y",
        "float[4, 8] w1, float[8] b1, float[8, 3] w2",
        "a = MatMul(x, w1) b = Add(b1, a) r = Relu(b) y = MatMul(r, w2)",
    )


GRAPHS = {
    f.__name__: f
    for f in (chain, residual, concat, flattened, shuffled, split, grouped, depthwise, excited, perceptron)
} | {
    "conv pair": conv_pair,
    "attention": attention,
    "digits": lambda: load(EXAMPLES / "digits.onnx"),
    "two heads": lambda: load(EXAMPLES / "attention.onnx"),
}


def surviving(removal: Removal, layer: Layer) -> Iterator[tuple[int, np.ndarray]]:
    """For each matrix of a layer that keeps an output: which columns are still there after surgery.

    Weights hold their own places, so that what is left of them can be told.
    """
    model = removal.coupling.model
    small = remove(removal)
    places = layer.matrix(model.weights[layer.weight])
    node = next((n for n in small.graph.node if layer.node in n.output), None)
    left = small.weights[node.input[1]].ravel() if node is not None else np.zeros(0)
    stays = np.isin(places, left)
    for g in range(layer.groups):
        if stays[g].any():
            yield g, stays[g].any(axis=0)


def numbered(model: Model) -> Model:
    """The same with each weight's entries counted through."""
    changed = model.copy()
    for name, weight in model.weights.items():
        if weight.dtype.kind == "f" and weight.ndim > 1:
            changed.weights[name] = np.arange(1, weight.size + 1, dtype=np.float32).reshape(weight.shape)
    return changed


def drawn(coupling: Coupling, group: int, seed: int) -> np.ndarray | None:
    """Some channels of a group, not all, with no axis left empty. Shapes: (channels,) boolean."""
    atoms = coupling.groups[group].atoms
    rng = np.random.default_rng(seed)
    gone = np.zeros(len(atoms), dtype=bool)
    gone[rng.permutation(len(atoms))[: rng.integers(1, len(atoms))]] = True
    removed = coupling.nothing()
    removed[atoms[gone]] = True
    return None if too_short(Removal(coupling, removed)) else gone


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_columns_of_a_group_are_those_that_surgery_removes(name: str) -> None:
    coupling = analyse(numbered(GRAPHS[name]()))
    readers = Readers(coupling)
    looked = 0
    for k, group in enumerate(coupling.groups):
        seats = {seat.layer.node: seat for seat in readers.seats(k)}
        for seed in range(3) if group.prunable else ():
            gone = drawn(coupling, k, seed)
            if gone is None:
                continue
            removed = coupling.nothing()
            removed[group.atoms[gone]] = True
            removal = Removal(coupling, removed)
            for layer in readers.layers:
                for g, stays in surviving(removal, layer):
                    named = np.full(len(stays), -1)
                    if layer.node in seats:
                        named = seats[layer.node].channel[g]
                    expected = (named < 0) | ~gone[named]
                    np.testing.assert_array_equal(stays, expected, err_msg=f"{group.name} at {layer.node}, matrix {g}")
                    looked += layer.node in seats
    assert looked


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(GRAPHS)), st.integers(0, 999))
def test_groups_that_go_together_take_the_columns_of_each(name: str, seed: int) -> None:
    coupling = analyse(numbered(GRAPHS[name]()))
    readers = Readers(coupling)
    chosen = {k: drawn(coupling, k, seed + k) for k, g in enumerate(coupling.groups) if g.prunable}
    removed = coupling.nothing()
    for k, gone in chosen.items():
        if gone is not None:
            removed[coupling.groups[k].atoms[gone]] = True
    removal = Removal(coupling, removed)
    if too_short(removal):
        return
    for layer in readers.layers:
        seats = {k: s.channel for k in chosen for s in readers.seats(k) if s.layer.node == layer.node}
        for g, stays in surviving(removal, layer):
            expected = np.ones(len(stays), dtype=bool)
            for k, channel in seats.items():
                gone = chosen[k]
                if gone is not None:
                    expected &= (channel[g] < 0) | ~gone[channel[g]]
            np.testing.assert_array_equal(stays, expected, err_msg=f"{layer.node}, matrix {g}")


def test_layers_come_in_graph_order() -> None:
    readers = Readers(analyse(residual()))
    for k in range(len(readers.coupling.groups)):
        places = [readers.place[s.layer.node] for s in readers.seats(k)]
        assert places == sorted(places)


def test_a_depthwise_convolution_reads_nobody_since_it_goes_along() -> None:
    readers = Readers(analyse(depthwise()))
    read = {
        g.name: [s.layer.node for s in readers.seats(k)] for k, g in enumerate(readers.coupling.groups) if g.prunable
    }
    assert read == {"a": ["z"], "z": ["y"]}


def test_a_depthwise_convolution_of_a_channel_that_goes_is_one_less() -> None:
    coupling = analyse(numbered(depthwise()))
    removed = coupling.nothing()
    removed[coupling.groups[0].atoms[[1, 4]]] = True
    layer = Readers(coupling).layers.by_output["b"]
    assert [g for g, _ in surviving(Removal(coupling, removed), layer)] == [0, 2, 3, 5]


def test_products_of_two_activations_are_told_apart_from_layers() -> None:
    readers = Readers(analyse(attention()))
    nodes = readers.coupling.nodes
    told = {
        g.name: ([s.layer.node for s in readers.seats(k)], [nodes[mark.node].name for mark in readers.opaque(k)])
        for k, g in enumerate(readers.coupling.groups)
        if g.prunable
    }
    assert told == {"q/heads": (["out"], []), "q/width": ([], ["scores"]), "v/width": (["out"], [])}


def test_operands_are_found_wherever_channels_stand() -> None:
    """At an axis of a tensor with more than one group, each has its own numbers."""
    readers = Readers(analyse(concat()))
    found = readers.at("j", 1)
    names = {readers.coupling.groups[k].name: channel for k, channel in found.items()}
    np.testing.assert_array_equal(names["b"], [0, 1, 2, 3, 4, 5] + [-1] * 11)
    np.testing.assert_array_equal(names["a"], [-1] * 6 + [0, 1, 2, 3] + [-1] * 3 + [0, 1, 2, 3])
    assert len(names) == 2
    assert readers.at("x", 1) == {}
    assert readers.at("nowhere", 0) == {}
