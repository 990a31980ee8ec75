"""How many operations on bits an order of a layer's filters could save: an analysis, which changes nothing.

Two rows of signs that differ at the places D have dot products with one vector x that differ by twice the sum of
w[k] x[k] over D, w being the second row. So each row can be had from a similar one with as many operations as there
are places at which they differ, instead of one for every place; the cheapest way to reach all rows is a minimum
spanning tree. It is a chain of dependent, irregular steps, while vector instructions take 512 places at once: what it
saves is operations, of which no time follows. Rows of random signs already take less than half: only what goes beyond
that says something of the weights.

Source: Vo et al., "MST-compression: Compressing and Accelerating Binary Neural Networks with Minimum Spanning Tree",
ICCV 2023, arXiv:2308.13735. Differs: no training; compared with random signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..graph.bits import bit_operator, holds_signs
from ..graph.model import Model
from ..graph.nodes import attribute, display_name
from ..graph.traits import Trait, has
from ..kernels.packing import unpack

Signs = NDArray[np.float32]
MOST_ROWS = 2048
"""Rows of one product above which no tree is sought: it would take many seconds."""


@dataclass(frozen=True)
class Tree:
    """A minimum spanning tree over rows of signs.

    ``parent`` of each row, -1 for the root, and ``distance`` to it, in places; ``order`` has parents before children.
    ``depth`` is the number of edges of the longest chain from the root, which is chosen so that it is least.
    """

    parent: NDArray[np.int64]
    distance: NDArray[np.int64]
    order: NDArray[np.int64]
    depth: int

    @property
    def cost(self) -> int:
        """Operations beside those of the root."""
        return int(self.distance.sum())


@dataclass(frozen=True)
class LayerOrder:
    """What a tree saves in one layer; ``groups`` of rows have a tree each.

    ``operations`` of one product with all rows, and of one by the trees; ``random`` is the latter for random signs of
    the same shape. ``depth`` and ``random_depth`` are those of the deepest tree. The last four are None for a layer
    with too many rows.
    """

    name: str
    groups: int
    rows: int
    length: int
    operations: int
    tree: int | None = None
    random: int | None = None
    depth: int | None = None
    random_depth: int | None = None

    @property
    def saved(self) -> float | None:
        """How many times fewer operations."""
        return self.operations / self.tree if self.tree else None

    @property
    def random_saved(self) -> float | None:
        return self.operations / self.random if self.random else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "saved": self.saved, "random_saved": self.random_saved}


def bit_orders(model: Model, *, seed: int = 0) -> list[LayerOrder]:
    """The trees of all layers whose weights are signs, packed or as floats of one size a filter.

    ``seed`` is for the random signs.
    """
    rng = np.random.default_rng(seed)
    return [_measured(display_name(node), signs, rng) for node, signs in sign_layers(model)]


def sign_layers(model: Model) -> Iterator[tuple[onnx.NodeProto, Signs]]:
    """Nodes whose weights are signs, with these. Shapes: (groups, rows, length).

    Planes of a weight are rows of their own: they meet the same inputs.
    """
    cast = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Cast" and n.input[0] in model.weights}
    for node in model.graph.node:
        signs = _packed(node, model) if bit_operator(node) else _plain(node, model, cast)
        if signs is not None and signs.size:
            yield node, signs


def spanning_tree(signs: Signs) -> Tree:
    """The minimum spanning tree of rows of +1 and -1. Shapes: (rows, length)."""
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    rows = len(signs)
    apart = distances(signs)
    # Equal rows are no edge to SciPy, which takes 0 for none: one more on every edge is the same tree.
    tree = minimum_spanning_tree(np.triu(apart + 1, 1))
    root, depth = _middle(tree)
    order, parent = breadth_first_order(tree, root, directed=False)
    parent = np.where(np.arange(rows) == root, -1, parent).astype(np.int64)
    distance = np.where(parent < 0, 0, apart[np.arange(rows), parent]).astype(np.int64)
    return Tree(parent, distance, order.astype(np.int64), depth)


def distances(signs: Signs) -> NDArray[np.int32]:
    """At how many places each two rows differ: half of what their dot product lacks. Shapes: (N, K) -> (N, N)."""
    if signs.shape[1] >= 1 << 24:
        raise ValueError("rows are too long for exact sums in float32")
    return ((signs.shape[1] - signs @ signs.T) / 2).astype(np.int32)


def _middle(tree: Any) -> tuple[int, int]:
    """The row from which the farthest one is nearest, and how far that is, in edges.

    On a tree the farthest row from any row is an end of a longest path.
    """
    from scipy.sparse.csgraph import shortest_path

    def steps(start: int) -> NDArray[np.int64]:
        found = shortest_path(tree, method="D", directed=False, unweighted=True, indices=start)
        return np.asarray(found, dtype=np.int64)

    one_end = steps(int(steps(0).argmax()))
    farthest = np.maximum(one_end, steps(int(one_end.argmax())))
    return int(farthest.argmin()), int(farthest.min())


def _measured(name: str, signs: Signs, rng: np.random.Generator) -> LayerOrder:
    groups, rows, length = signs.shape
    told = LayerOrder(name, groups, rows, length, groups * rows * length)
    if rows > MOST_ROWS:
        return told
    found, chance = ([spanning_tree(g) for g in s] for s in (signs, _random_signs(signs.shape, rng)))
    tree, random = (groups * length + sum(t.cost for t in trees) for trees in (found, chance))
    depths = [max(t.depth for t in trees) for trees in (found, chance)]
    return LayerOrder(name, groups, rows, length, told.operations, tree, random, *depths)


def _random_signs(shape: tuple[int, ...], rng: np.random.Generator) -> Signs:
    return 1 - 2 * rng.integers(0, 2, shape, dtype=np.int8).astype(np.float32)


def _packed(node: onnx.NodeProto, model: Model) -> Signs | None:
    known, position = bit_operator(node), holds_signs(node)
    weight = model.weights.get(node.input[position]) if position is not None else None
    if weight is None or known is None or known.length is None:
        return None
    planes, rows, _ = weight.shape
    signs, groups = unpack(weight, known.length(node)), int(attribute(node, "group", 1))
    grouped = signs.reshape(planes, groups, rows // groups, -1).swapaxes(0, 1)
    return grouped.reshape(groups, planes * rows // groups, -1)


def _plain(node: onnx.NodeProto, model: Model, cast: Mapping[str, str]) -> Signs | None:
    """Signs of a weight, of floats or cast to floats, if each of its filters has numbers of one size only."""
    if not has(node, Trait.LAYER) or len(node.input) < 2:
        return None
    weight = model.weights.get(cast.get(node.input[1], node.input[1]))
    if weight is None or weight.dtype.kind not in "fi":
        return None
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        if weight.ndim != 2:
            return None
        weight = weight.T
    matrix = np.asarray(weight, dtype=np.float32).reshape(weight.shape[0], -1)
    sizes = np.abs(matrix)
    if matrix.shape[1] < 2 or not (sizes == sizes[:, :1]).all() or not sizes[:, 0].all():
        return None
    groups = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
    return np.sign(matrix).reshape(groups, len(matrix) // groups, -1)
