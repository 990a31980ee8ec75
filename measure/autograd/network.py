"""A model as a function in torch, of its inputs and its weights."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import cast

import numpy as np
import onnx
import torch

from ...graph.errors import BadModel, IntaglioError
from ...graph.evaluate import evaluate
from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import display_name, reads, subgraphs
from ...graph.traits import Trait, has, has_any, operator_key
from . import bits  # noqa: F401 (it fills the table)
from .bodies import RUN
from .call import KEPT_APART, Call, Result, Step, Unsupported, Value, as_tensor, is_float
from .table import OPERATORS

_FIX = "choose a way that needs no gradients: intaglio passes --json tells what each needs"


class Network:
    """What a model computes, in one float type, with gradients of the weights that are ``trained``.

    Normalizations are as in inference unless ``training`` is set; then their statistics, among ``weights``, move. Float
    weights and inputs are torch tensors, integers arrays. What follows from constants alone is computed once.
    """

    def __init__(
        self,
        model: Model,
        outputs: Sequence[str] | None = None,
        *,
        trained: Collection[str] = (),
        fed: Collection[str] = (),
        operators: Mapping[str, Callable[[Call], Result | Step]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """``fed`` are weights that each run is given anew, ``operators`` go before those of the table.

        Raises IntaglioError where a node on the way to an output has an operator that is not in the table.
        """
        self.outputs, self.dtype = list(outputs or (o.name for o in model.graph.output)), dtype
        self.nodes = _leading_to(model, self.outputs)
        self._operators: dict[str, Callable[[Call], Result | Step]] = {**OPERATORS, **KEPT_APART, **(operators or {})}
        self._held: dict[int, tuple[onnx.GraphProto, dict[str, Value]]] = {}
        """What bodies hold themselves, by their identity: that stays theirs as long as they are here, too."""
        for node in self.nodes:
            self._check(node)
        read = {*self.outputs, *(name for node in self.nodes for name in reads(node))}
        self.weights: dict[str, Value] = {
            name: as_tensor(value, dtype) if is_float(value) else value
            for name, value in model.weights.items()
            if name in read
        }
        for name in trained:
            if isinstance(weight := self.weights.get(name), torch.Tensor):
                weight.requires_grad_()
        self.training = False
        self._constants: dict[str, Value] = {}
        self._fold({*self.trained, *fed, *(v.name for v in model.graph.input if v.name not in model.weights)})

    @property
    def trained(self) -> dict[str, torch.Tensor]:
        """The weights with a gradient."""
        tensors = ((name, v) for name, v in self.weights.items() if isinstance(v, torch.Tensor))
        return {name: tensor for name, tensor in tensors if tensor.requires_grad}

    def __call__(self, inputs: Mapping[str, Value]) -> dict[str, torch.Tensor]:
        """The outputs. Raises IntaglioError where a node cannot be run, BadModel where it fails."""
        fed = {name: as_tensor(v, self.dtype) if is_float(v) else v for name, v in inputs.items()}
        known: dict[str, Value] = {**self.weights, **self._constants, **fed}
        self._walk(self.nodes, known, self.outputs)
        return {name: as_tensor(known[name], self.dtype) for name in self.outputs}

    def _walk(
        self, nodes: Sequence[onnx.NodeProto], known: MutableMapping[str, Value], outputs: Collection[str]
    ) -> None:
        """Run nodes; what no node reads any more is forgotten, but for the outputs."""
        last = {name: k for k, node in enumerate(nodes) for name in reads(node)}
        for k, node in enumerate(nodes):
            made = self._run(node, [known[name] if name else None for name in node.input], known)
            for position, name in enumerate(node.output):
                if name and position < len(made):
                    known[name] = made[position]
                elif name in last or name in outputs:
                    raise _unsupported(node, f"its output {name!r} is not computed")
            for name in reads(node):
                if last[name] == k and name not in outputs:
                    known.pop(name, None)

    def _inside(self, graph: onnx.GraphProto, handed: Mapping[str, Value], around: Mapping[str, Value]) -> list[Value]:
        """What a body gives, which sees what is around it."""
        if id(graph) not in self._held:
            arrays = ((one.name, onnx.numpy_helper.to_array(one)) for one in graph.initializer)
            held = {name: as_tensor(v, self.dtype) if is_float(v) else v for name, v in arrays}
            self._held[id(graph)] = graph, held
        inner: dict[str, Value] = {**self._held[id(graph)][1], **handed}
        known = ChainMap(inner, cast("dict[str, Value]", around))
        names = [value.name for value in graph.output]
        self._walk(graph.node, known, names)
        return [known[name] for name in names]

    def _check(self, node: onnx.NodeProto) -> None:
        if has(node, Trait.BODIES) and node.op_type in RUN:
            for inner in (inner for graph in subgraphs(node) for inner in graph.node):
                self._check(inner)
        elif operator_key(node) not in self._operators:
            raise _unsupported(node, "there is no definition of it for torch")

    def _fold(self, varying: Collection[str]) -> None:
        """Run the nodes that read nothing that varies from one run to the next."""
        kept, changes, known = [], set(varying), dict(self.weights)
        for node in self.nodes:
            if changes.isdisjoint(reads(node)) and not has_any(node, Trait.RANDOM | Trait.BODIES):
                with torch.no_grad():
                    made = self._run(node, [known[name] if name else None for name in node.input], known)
                new = dict(zip(node.output, made, strict=False))
                self._constants.update(new)
                known.update(new)
            else:
                changes.update(node.output)
                kept.append(node)
        read = {*self.outputs, *(name for node in kept for name in reads(node))}
        self.nodes = kept
        self._constants = {name: value for name, value in self._constants.items() if name in read}

    def _run(
        self, node: onnx.NodeProto, values: Sequence[Value | None], around: Mapping[str, Value]
    ) -> Sequence[Value]:
        arrays = [v for v in values if not isinstance(v, torch.Tensor)]
        if len(arrays) == len(values) and (exact := evaluate(node, arrays)) is not None:
            return exact
        try:
            if has(node, Trait.BODIES):
                inside = lambda graph, handed: self._inside(graph, handed, around)  # noqa: E731
                return RUN[node.op_type](node, values, inside, self.dtype)
            made = self._operators[operator_key(node)](Call(node, values, self.dtype, self.training))
            return _listed(made() if isinstance(made, Step) else made)
        except Unsupported as error:
            raise _unsupported(node, str(error)) from error
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if "allocate memory" in str(error):
                raise
            told = str(error).partition("\n")[0]
            raise BadModel(f"{node.op_type} {display_name(node)!r} fails in torch", why=told, fix=_FIX) from error


def one_thread() -> AbstractContextManager[None]:
    """Sums in one order, and no threads that wait for each other over small tensors: elsewhere sessions have one, too."""
    return threads_of(1)


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """So many threads in torch, 0 for as many as it takes by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _listed(made: Result) -> Sequence[Value]:
    return [made] if isinstance(made, (torch.Tensor, np.ndarray)) else made


def _unsupported(node: onnx.NodeProto, why: str) -> IntaglioError:
    return IntaglioError(
        f"gradients cannot pass {node.op_type} {display_name(node)!r}: the operator does not run in torch",
        why=why,
        fix=_FIX,
    )


def _leading_to(model: Model, outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that make the outputs, in graph order."""
    place, wanted, found = index_of(model).place, list(outputs), set[int]()
    while wanted:
        at = place.get(wanted.pop())
        if at is not None and at not in found:
            found.add(at)
            wanted += reads(model.graph.node[at])
    return [model.graph.node[k] for k in sorted(found)]
