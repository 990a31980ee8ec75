"""Who makes and who reads each tensor, and which of them are constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import onnx

from ....graph.errors import BadModel, IntaglioError
from ....graph.index import index_of
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.nodes import is_standard
from ....graph.shapes import Shapes
from ....graph.traits import Trait, has_any
from ....measure.run.session import open_session, run
from ...calibration.activation_cache import part


class Wires:
    """A view on a model that is not changed.

    ``known`` are the values of constants, computed ones included, ``layers`` the layers that multiply by them. ``same`` maps a tensor to another one that it equals
    but for a gradient: ``(a - b) + b`` is how training code writes "``a``, with the gradient of ``b``".
    """

    def __init__(self, model: Model) -> None:
        self.model, self._index = model, index_of(model)
        self.nodes, self.place, self.outputs = self._index.nodes, self._index.place, frozenset(self._index.outputs)
        self.known = {**model.weights, **_computed(model)}
        self.same = dict(self._carried())
        seen = model.copy()
        seen.weights = self.known
        self.layers = Layers(seen)

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; None for constants and graph inputs."""
        name = self.resolve(name)
        at = self.place.get(name)
        return None if at is None or name in self.known else self.nodes[at]

    def resolve(self, name: str) -> str:
        """The tensor itself, or the one that it equals but for a gradient."""
        while name in self.same:
            name = self.same[name]
        return name

    def readers(self, name: str) -> list[int]:
        """Places of the nodes that read a tensor."""
        return self._index.readers(name)

    def is_private(self, name: str) -> bool:
        """Whether one node alone reads the tensor, and no caller."""
        return name not in self.outputs and len(self.readers(name)) == 1

    @cached_property
    def _shapes(self) -> Shapes:
        first = {v.type.tensor_type.shape.dim[0].dim_param for v in self.model.graph.input if _rank(v)}
        for batch, size in ((3, 64), (1, 1)):  # a batch that is no 1 tells factors of one sample from those of all
            sizes = dict.fromkeys(first, batch)
            try:
                return self._index.shapes_at(lambda symbol, s=sizes, n=size: s.get(symbol, n))  # type: ignore[misc]
            except BadModel:
                continue
        return Shapes({}, {}, {})

    def dims(self, name: str) -> tuple[int, ...] | None:
        return self.known[name].shape if name in self.known else self._shapes.dims.get(name)

    @cached_property
    def of_one_sample(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes in a run of one sample, as far as they are known."""
        return self._index.shapes.dims

    def is_float32(self, name: str) -> bool:
        """Whether a tensor is single precision, as far as is known."""
        return self._shapes.dtypes.get(name, onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT

    def _carried(self) -> Iterator[tuple[str, str]]:
        for node in self.nodes:
            if node.op_type != "Add" or not is_standard(node):
                continue
            for left, b in (tuple(node.input), tuple(node.input)[::-1]):
                at = self.place.get(left)
                minus = None if at is None else self.nodes[at]
                if minus is None or minus.op_type != "Sub" or left in self.known:
                    continue
                if b in self.known:
                    continue
                if minus.input[1] == b:  # (a - b) + b
                    yield node.output[0], minus.input[0]
                elif minus.input[0] == minus.input[1]:  # (c - c) + b
                    yield node.output[0], b
                else:
                    continue
                break


def _rank(value: onnx.ValueInfoProto) -> int:
    return len(value.type.tensor_type.shape.dim)


def _computed(model: Model) -> dict[str, np.ndarray]:
    """Values of the tensors that are computed from constants alone, where a node with other operands reads them."""
    constant = set(model.weights)
    inside: list[onnx.NodeProto] = []
    for node in model.graph.node:
        # Constants behind a conversion are stored small on purpose and are no signs.
        plain = is_standard(node) and not has_any(node, Trait.QUANTIZES | Trait.BODIES)
        if plain and any(node.input) and all(not i or i in constant for i in node.input):
            inside.append(node)
            constant.update(o for o in node.output if o)
    if not inside:
        return {}
    made = {o for n in inside for o in n.output if o}
    chosen = {id(n) for n in inside}
    wanted = sorted({i for n in model.graph.node if id(n) not in chosen for i in n.input if i in made})
    try:
        return run(open_session(part(model, wanted, ())[0], optimize=False), {}) if wanted else {}
    except IntaglioError:
        return {}
