"""Columns named for a group's channels are those that surgery takes out of the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.coupling import Coupling, Removal, analyse, remove
from intaglio.graph.coupling.certificate import too_short
from intaglio.graph.layer import Layer
from intaglio.graph.model import Model
from intaglio.passes.prune.readers import Readers

from .nets import attention
from .small import GRAPHS, concat, depthwise, residual


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
        places = [s.layer.place for s in readers.seats(k)]
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
