"""One index of a graph: what makes and what reads each tensor, where nodes stand, shapes and element types.

An index belongs to one content of a model. ``index_of`` compares the model with what its index was made of: the
structure byte by byte, the nodes one by one, and of the weights all that shape inference sees. Whoever changes a model,
and however, has a new index the next time that he asks; one that was asked for before is a view of the model as it was.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from hashlib import blake2b
from operator import is_
from typing import NamedTuple

import numpy as np
import onnx

from .errors import BadModel
from .io.schemas import misfits, wrong
from .model import Model
from .nodes import captured_names, display_name, reads
from .shapes import Shapes, SymbolValue, all_symbols, infer_shapes, is_operand

CAPTURE = -1
"""The operand of a read that a subgraph of the node does."""
_REMEMBERED = 16
"""Results of shape inference that are kept, whatever models they were asked for."""

_ELSEWHERE = 9973
"""Another size for free dimensions: what fits at neither fits at none."""

_Content = tuple[bytes, tuple[tuple[object, ...], ...]]
_inferred: OrderedDict[tuple[_Content, tuple[int, ...]], Shapes] = OrderedDict()


class Read(NamedTuple):
    """One place that reads a tensor.

    ``place`` is where the node stands in the graph and ``operand`` which of its inputs it is, ``CAPTURE`` for a read in
    a subgraph. Callers read graph outputs: then there is no node, it stands behind all others, and ``operand`` counts
    outputs.
    """

    node: onnx.NodeProto | None
    place: int
    operand: int


class Index:
    """A view of a graph that stays as it was.

    Raises:
        RuntimeError: something was asked for the first time after the graph had changed.
    """

    def __init__(self, model: Model, content: _Content) -> None:
        # Not the model: it holds its index, and a circle would keep the weights until the collector runs.
        self._proto, self._weights, self._content = model.proto, model.weights, content
        self._sizes = dict(model.sizes)
        self.nodes: tuple[onnx.NodeProto, ...] = tuple(model.graph.node)
        self.inputs: tuple[str, ...] = tuple(v.name for v in model.graph.input)
        self.outputs: tuple[str, ...] = tuple(v.name for v in model.graph.output)
        self._shapes: dict[tuple[int, ...], Shapes] = {}

    def is_of(self, model: Model, content: _Content) -> bool:
        """Whether the model is still what the index was made of."""
        return (
            model.proto is self._proto
            and model.weights is self._weights
            and content == self._content
            and model.sizes == self._sizes
            and self._has_its_nodes()
        )

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Where the node that makes each tensor stands, in graph order."""
        self._require_unchanged()
        return {name: k for k, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def makers(self) -> Mapping[str, onnx.NodeProto]:
        """The node that makes each tensor, in graph order."""
        return {name: self.nodes[k] for name, k in self.place.items()}

    @cached_property
    def names(self) -> Mapping[str, str]:
        """What users can find the node by that makes each tensor."""
        return {name: display_name(node) for name, node in self.makers.items()}

    def reads(self, tensor: str) -> Sequence[Read]:
        """All that reads a tensor, in graph order: a node once for each operand, and once for all its subgraphs."""
        return self._reads.get(tensor, ())

    def readers(self, tensor: str) -> list[int]:
        """Where the nodes stand that read a tensor, in graph order."""
        return list(dict.fromkeys(read.place for read in self.reads(tensor) if read.node is not None))

    def sole_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The node of which one operand is all that reads a tensor."""
        found = self.reads(tensor)
        return found[0].node if len(found) == 1 and found[0].operand != CAPTURE else None

    @cached_property
    def uses(self) -> Counter[str]:
        """How many reads each tensor has; those of callers count."""
        return Counter({name: len(found) for name, found in self._reads.items()})

    @cached_property
    def captured(self) -> frozenset[str]:
        """Tensors that subgraphs read."""
        return frozenset(name for name, found in self._reads.items() if any(r.operand == CAPTURE for r in found))

    @cached_property
    def constant(self) -> frozenset[str]:
        """Weights, and what nodes make of them alone."""
        self._require_unchanged(weights=True)
        known = set(self._weights)
        for node in self.nodes:
            if node.input and known.issuperset(reads(node)):
                known.update(name for name in node.output if name)
        return frozenset(known)

    @cached_property
    def shapes(self) -> Shapes:
        """Shapes with every symbolic dimension as the model's ``sizes`` say, else 1.

        Raises:
            BadModel: shape inference finds the graph contradictory, or operands do not fit at any size.
        """
        found = self.shapes_at(lambda name: self._sizes.get(name, 1))
        if misfit := misfits(self.nodes, found.dims):
            place = min(misfit.items() & self._misfits_elsewhere(), default=None)
            if place is not None:
                raise wrong(self.nodes[place[0]], place[1])
        return found

    def _misfits_elsewhere(self) -> Set[tuple[int, str]]:
        """What does not fit where sizes are free and large, too."""
        try:
            return misfits(self.nodes, self.shapes_at(_ELSEWHERE).dims).items()
        except BadModel:
            return set()

    def shapes_at(self, symbol_value: SymbolValue | int) -> Shapes:
        """The same with other numbers; ``symbol_value`` maps the name of a symbol to one, or is one for all."""
        names = self._symbols
        numbers = tuple(symbol_value(name) if callable(symbol_value) else symbol_value for name in names)
        if numbers not in self._shapes:
            self._require_unchanged(weights=True)
            self._shapes[numbers] = self._infer(dict(zip(names, numbers, strict=True)))
        return self._shapes[numbers]

    @cached_property
    def _symbols(self) -> list[str]:
        self._require_unchanged()
        return all_symbols(Model(self._proto, self._weights))

    def _infer(self, numbers: Mapping[str, int]) -> Shapes:
        """Inferred shapes; equal graphs, such as copies with other weights of the same shapes, share them."""
        key = self._content, tuple(numbers.values())
        if key not in _inferred:
            _inferred[key] = infer_shapes(Model(self._proto, self._weights), numbers.__getitem__)
            if len(_inferred) > _REMEMBERED:
                _inferred.popitem(last=False)
        _inferred.move_to_end(key)
        return _inferred[key]

    @cached_property
    def _reads(self) -> Mapping[str, list[Read]]:
        self._require_unchanged()
        found: defaultdict[str, list[Read]] = defaultdict(list)
        for place, node in enumerate(self.nodes):
            for operand, name in enumerate(node.input):
                if name:
                    found[name].append(Read(node, place, operand))
            for name in captured_names(node):
                found[name].append(Read(node, place, CAPTURE))
        for number, name in enumerate(self.outputs):
            found[name].append(Read(None, len(self.nodes), number))
        return dict(found)

    def _has_its_nodes(self) -> bool:
        nodes = self._proto.graph.node
        return len(self.nodes) == len(nodes) and all(map(is_, self.nodes, nodes))

    def _require_unchanged(self, *, weights: bool = False) -> None:
        """With ``weights`` these must be the same, too."""
        same = _structure(self._proto) == self._content[0] and self._has_its_nodes()
        if not same or (weights and _weights(self._weights) != self._content[1]):
            raise RuntimeError("the graph has changed since this index was made: ask for a new one")


def index_of(model: Model) -> Index:
    """The index of a model as it is now."""
    content = _content(model)
    if not (isinstance(model.cache, Index) and model.cache.is_of(model, content)):
        model.cache = Index(model, content)
    return model.cache


def _content(model: Model) -> _Content:
    """All that an index depends on."""
    return _structure(model.proto), _weights(model.weights)


def _structure(proto: onnx.ModelProto) -> bytes:
    return blake2b(proto.SerializeToString(), digest_size=32).digest()


def _weights(weights: Mapping[str, np.ndarray]) -> tuple[tuple[object, ...], ...]:
    """Large ones count by shape and type, which is all that shape inference sees of them."""
    return tuple((n, w.shape, w.dtype, w.tobytes() if is_operand(w) else b"") for n, w in weights.items())
