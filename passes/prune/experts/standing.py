"""A model in which fewer experts stand in for all, the model that it must equal, and units that may be reordered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from ....graph.coupling import Coupling, Removal, analyse
from ....graph.errors import ProofFailed
from ....graph.index import index_of
from ....graph.model import Model
from ....graph.nodes import copied, replace_nodes
from ...proof import Claim, Feed, prove_equal
from .merging import Merged, Units, reordered
from .routers import Router

_ALIGNED = Claim("reordered", "router", "the original")


def merged(model: Model, found: Sequence[Router], done: Mapping[str, Merged]) -> Model:
    """With the new constants, and the number of what stands in for an expert looked up between TopK and them."""
    small, places = model.copy(), {one.best: one for one in found}
    nodes: list[onnx.NodeProto] = []
    for node in small.graph.node:
        one = next((places[name] for name in node.output if name in places), None)
        if one is None:
            nodes.append(node)
            continue
        chosen, node = f"{one.best}/all", copied(node)
        node.output[1] = chosen
        table = small.put(f"{chosen}/place", done[one.name].place.astype(np.int64))
        nodes += [node, onnx.helper.make_node("Gather", [table, chosen], [one.best], chosen)]
        for name, stack in done[one.name].stacks.items():
            small.put(name, np.ascontiguousarray(stack, model.weights[name].dtype))
    replace_nodes(small.graph, nodes)
    return small


def shared(model: Model, found: Sequence[Router], done: Mapping[str, Merged]) -> Model:
    """The original with as many experts as before, each with the weights of what stands in for it."""
    changed = model.copy()
    for one in found:
        for name, stack in done[one.name].stacks.items():
            changed.put(name, np.asarray(stack, model.weights[name].dtype)[done[one.name].place])
    return changed


def interchangeable(
    model: Model, found: Sequence[Router], inputs: tuple[Sequence[Feed], str], seed: int, memory: int
) -> dict[str, list[Units]]:
    """Units of each router's experts, by its name; of none where another order of them changes what the model computes."""
    coupling = analyse(model)
    units = {one.name: list(_units(coupling, one)) for one in found}
    shuffled = _shuffled(model, found, units, seed)
    gone = coupling.nothing()
    for group in coupling.groups:
        gone[group.atoms] |= any(name in one.looked for one in found for name, _ in group.members)
    inside = Removal(coupling, gone).shrinking
    names = [name for name in index_of(model).place if name not in inside]
    try:
        prove_equal(model, shuffled, names, inputs, _ALIGNED, memory=memory)
    except ProofFailed:
        return {one.name: [] for one in found}
    return units


def _units(coupling: Coupling, one: Router) -> Iterator[Units]:
    """Groups of channels that stand on nothing but what is looked up for an expert."""
    for group in coupling.groups:
        inner = all(name in one.looked and axis for name, axis in group.members)
        if inner and len(group.atoms) > 1 and group.bundle < 0:
            places = {(name, axis): _entries(coupling, name, axis, group.atoms) for name, axis in group.members}
            if all(at is not None for at in places.values()):
                yield Units({key: at for key, at in places.items() if at is not None})


def _entries(coupling: Coupling, name: str, axis: int, atoms: np.ndarray) -> np.ndarray | None:
    """Which indices of an axis each atom takes, or None where that are not as many. Shapes: (atoms, indices)."""
    labels = coupling.axes(name)[axis] if name in coupling.trace.axes else None
    if not isinstance(labels, np.ndarray):
        return None
    entry, atom = coupling.solution.meets(labels)
    entry, atom = entry[np.isin(atom, atoms)], atom[np.isin(atom, atoms)]
    _, counts = np.unique(atom, return_counts=True)
    if len(counts) != len(atoms) or len({*counts.tolist()}) != 1 or len(np.unique(entry)) != len(entry):
        return None
    return entry[np.lexsort((entry, atom))].reshape(len(atoms), -1)


def _shuffled(model: Model, found: Sequence[Router], units: Mapping[str, Sequence[Units]], seed: int) -> Model:
    """The units of each expert in an order of its own."""
    random, changed = np.random.default_rng(seed), model.copy()
    for one in found:
        stacks = {name: np.array(model.weights[name]) for name in one.looked}
        for expert in range(one.experts):
            for some in units[one.name]:
                order = random.permutation(len(next(iter(some.places.values()))))
                for name, weight in reordered({name: s[expert] for name, s in stacks.items()}, some, order).items():
                    stacks[name][expert] = weight
        for name, stack in stacks.items():
            changed.put(name, stack)
    return changed
