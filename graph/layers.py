"""All layers of a model, and why other nodes that multiply by weights are none.

One function an operator says where its weight stands and how it is seen as matrices. Whoever tells a user why a node is
left alone takes the reason from here, so that it is the same everywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import onnx

from .bits import bit_operator
from .dtypes import is_float
from .index import Index, index_of
from .layer import Layer, Window
from .model import Model
from .nodes import attribute, display_name, subgraphs
from .traits import OPERATORS, Trait, has, operator, operator_key, operators

Kind = Literal["computed", "derived", "integer", "inside", "type", "form"]
_AGAIN = "integers: quantized or binarized before"
NO_LAYERS = "it has no layers: no node multiplies by a matrix of constant floats"
OTHER_TYPE = (
    "its weights are {}, and only float32 is converted: export the model in float32, or round weights alone "
    "(intaglio quantize --scheme w8)"
)


@dataclass(frozen=True)
class Unused:
    """A node with a weight that is no layer, and why. ``node`` is its first output.

    Kinds: ``computed`` in every run, ``derived`` from float constants, ``integer`` already, ``inside`` the body of
    another node, a ``type`` in which numpy does not calculate, a ``form`` that is no matrix.
    """

    node: str
    name: str
    op: str
    kind: Kind
    reason: str


class Layers:
    """The layers of a model, in graph order.

    ``found`` has all weights: ``weighted`` are layers, ``unused`` have the reason why they are none. Iteration, length and
    ``by_output`` are of the layers that can be fitted on activations.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @cached_property
    def found(self) -> tuple[Layer | Unused, ...]:
        nodes = enumerate(self.model.graph.node)
        return tuple(one for place, node in nodes if any(node.output) for one in self._classified(place, node))

    @cached_property
    def weighted(self) -> tuple[Layer, ...]:
        return tuple(one for one in self.found if isinstance(one, Layer))

    @cached_property
    def unused(self) -> tuple[Unused, ...]:
        return tuple(one for one in self.found if isinstance(one, Unused))

    @cached_property
    def by_output(self) -> dict[str, Layer]:
        return {one.output: one for one in self.weighted if not one.unfit}

    @property
    def told(self) -> str:
        """Why weights are not used, for a user."""
        return self.tell({one.name: one.reason for one in self.unused})

    def tell(self, reasons: Mapping[str, str]) -> str:
        """Reasons by the name of a node, for a user; those of nodes with weights where there are such."""
        operators = {one.name: f"{one.op} {one.name!r}" for one in self.found}
        of_weights = {name: reason for name, reason in reasons.items() if name in operators}
        names: defaultdict[str, list[str]] = defaultdict(list)
        for name, reason in (of_weights or (reasons if operators else {})).items():
            names[reason].append(operators.get(name, repr(name)))
        most = [f"{n[0]}{f' and {len(n) - 1} more' if n[1:] else ''}: {reason}" for reason, n in names.items()]
        return "; ".join(most[:4]) + (f"; and {len(most) - 4} more reasons" if most[4:] else "") or (
            "" if self.found else f"{NO_LAYERS}{self._learned()}"
        )

    def _learned(self) -> str:
        """Where numbers are that no layer holds: classical learners keep them as attributes."""
        held = {k: sum(len(a.floats) for a in n.attribute) for k, n in enumerate(self.model.graph.node)}
        most = max(held, key=lambda k: held[k], default=0)
        if held.get(most, 0) < 2:
            return ""
        node = self.model.graph.node[most]
        return f"; what {node.op_type} {display_name(node)!r} learned stands in attributes, which stay"

    def left(self, done: Collection[str]) -> dict[str, str]:
        """Why what was not done could not be, as far as the weights say it; by the name of the node."""
        other = {
            one.name: OTHER_TYPE.format(dtype)
            for one in self.weighted
            if (dtype := self.model.weights[one.weight].dtype) != np.float32
        }
        found = {**{one.name: one.reason for one in self.unused}, **other}
        return {name: reason for name, reason in found.items() if name not in done}

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.by_output.values())

    def __len__(self) -> int:
        return len(self.by_output)

    def tied(self, layer: Layer) -> bool:
        """Whether something else reads the layer's constants too: those cannot follow one reader."""
        return any(self.index.uses[name] > 1 for name in (layer.weight, layer.bias) if name is not None)

    def other_readers(self, weight: str, nodes: AbstractSet[str]) -> list[str]:
        """Names of what reads a weight beside nodes that make these tensors."""
        reads = [r.node for r in self.index.reads(weight) if r.node is None or nodes.isdisjoint(r.node.output)]
        return sorted({"the graph's outputs" if node is None else display_name(node) for node in reads})

    def _classified(self, place: int, node: onnx.NodeProto) -> Iterator[Layer | Unused]:
        if has(node, Trait.BODIES):
            yield from _inside(node, self.model.weights.keys())
        known = bit_operator(node)
        if has(node, Trait.INTEGER_WEIGHTS) or (known is not None and known.weight is not None and known.inputs > 2):
            yield unused(node, "integer", f"it multiplies by {_AGAIN}")
        rule = _RULES.get(operator_key(node), _OTHER)
        constants = [i for i in operator(node).weights if i < len(node.input) and node.input[i] in self.model.weights]
        if operator_key(node) not in OPERATORS and self._matrices(node):
            yield unused(node, "form", f"nothing is known of the operator {operator_key(node)}")
        for i in constants:
            weight = self.model.weights[node.input[i]]
            told = _unusable(weight)
            one = unused(node, *told) if told else rule.see(Weight(self, place, node, i, weight))
            if one is not None and (rule.multiplies or isinstance(one, Layer) or one.kind == "form"):
                yield one
        if not constants and rule.multiplies:
            yield from self._computed(node, rule)

    def _matrices(self, node: onnx.NodeProto) -> bool:
        read = (self.model.weights[name] for name in node.input if name in self.model.weights)
        return any(weight.dtype.kind == "f" and weight.ndim > 1 for weight in read)

    def _computed(self, node: onnx.NodeProto, rule: Rule) -> Iterator[Unused]:
        """Why a node without a constant is no layer; nothing for products of activations."""
        maker = next((self._fixed[name] for name in _weights(node) if name in self._fixed), None)
        if maker is not None:
            integer = any(w.dtype.kind != "f" and w.dtype.itemsize == 1 for w in self._sources(maker))
            told = f"its weight is computed by {maker.op_type} {display_name(maker)!r} from"
            yield (
                unused(node, "integer", f"{told} {_AGAIN}") if integer else unused(node, "derived", f"{told} constants")
            )
        elif rule.always:
            yield unused(node, "computed", "its weight is computed")

    @cached_property
    def _fixed(self) -> dict[str, onnx.NodeProto]:
        """Makers of tensors that are computed from constants alone."""
        return {name: node for name, node in self.index.makers.items() if name in self.index.constant}

    def _sources(self, maker: onnx.NodeProto) -> list[np.ndarray]:
        """The constants that a node's outputs are computed from."""
        seen, todo = set[str](), list(maker.input)
        while todo:
            name = todo.pop()
            if name not in seen and name in self._fixed:
                todo += self._fixed[name].input
            seen.add(name)
        return [self.model.weights[name] for name in seen if name in self.model.weights]

    @cached_property
    def index(self) -> Index:
        return index_of(self.model)


def _weights(node: onnx.NodeProto) -> Iterator[str]:
    return (node.input[i] for i in operator(node).weights if i < len(node.input))


def unused(node: onnx.NodeProto, kind: Kind, reason: str) -> Unused:
    return Unused(next(o for o in node.output if o), display_name(node), node.op_type, kind, reason)


def _inside(outer: onnx.NodeProto, known: Collection[str]) -> Iterator[Unused]:
    """Layers in the bodies of a node. ``known`` are the constants around it."""
    for body in subgraphs(outer):
        here = {*known, *(t.name for t in body.initializer)}
        here.update(o for n in body.node if n.op_type == "Constant" for o in n.output)
        for node in body.node:
            if has(node, Trait.BODIES):
                yield from _inside(node, here)
            elif node.input and here.issuperset(filter(None, node.input)):
                here.update(filter(None, node.output))
            if _RULES.get(operator_key(node), _OTHER).multiplies and here.intersection(_weights(node)):
                decides = ", whose branch --input or --shape may decide" if outer.op_type == "If" else ""
                yield unused(node, "inside", f"it is inside {outer.op_type} {display_name(outer)!r}{decides}")


def _unusable(weight: np.ndarray) -> tuple[Kind, str] | None:
    if weight.dtype.kind != "f":
        known = is_float(onnx.helper.np_dtype_to_tensor_dtype(weight.dtype))
        return "type", f"its weight is {weight.dtype}{', in which numpy does not calculate' if known else ''}"
    if not weight.ndim:
        return "form", "its weight is a single number"
    return None if weight.size else ("form", "its weight is empty")


@dataclass(frozen=True)
class Weight:
    """Input ``operand`` of a node: a constant of floats."""

    layers: Layers
    place: int
    node: onnx.NodeProto
    operand: int
    value: np.ndarray

    def layer(self, axis: int, unfit: str = "", **facts: Any) -> Layer:
        node = self.node
        x, output = node.input[0 if self.operand else 1], next(o for o in node.output if o)
        if x in self.layers.model.weights:
            unfit = unfit or "what it multiplies is constant"
        known = {"output": output, "axis": axis % self.value.ndim, "unfit": unfit, **facts}
        place = (output, display_name(node), node.op_type, self.place, self.operand)
        return Layer(*place, x, node.input[self.operand], self.value.shape, **known)

    def biased(self, axis: int, *shapes: tuple[int, ...], unfit: str = "", **facts: Any) -> Layer:
        """A layer whose bias is the node's input 2, in one of these shapes."""
        name = self.node.input[2] if len(self.node.input) > 2 and self.node.input[2] else None
        if name is None:
            return self.layer(axis, unfit, **facts)
        bias = self.layers.model.weights.get(name)
        if bias is None:
            return self.layer(axis, unfit or "its bias is computed", **facts)
        if bias.shape not in shapes:
            return self.layer(axis, unfit or NO_VECTOR, **facts)
        return self.layer(axis, unfit, bias=name, **facts)

    def no(self, reason: str) -> Unused:
        return unused(self.node, "form", reason)


@dataclass(frozen=True)
class Rule:
    """Not all operators multiply by their weights, and some may as well multiply two activations."""

    see: Callable[[Weight], Layer | Unused | None]
    multiplies: bool = True
    always: bool = True


def _conv(w: Weight) -> Layer | Unused:
    """Shapes: weight (M, C/group, ...)."""
    groups, outputs = int(attribute(w.node, "group", 1)), w.value.shape[0]
    if w.value.ndim < 3 or groups < 1 or outputs % groups:
        return w.no("its weight has no kernel, or its rows are no multiple of its groups")
    window = Window.of(w.node, tuple(int(k) for k in w.value.shape[2:]))
    return w.biased(0, (outputs,), groups=groups, window=window, x_axis=1, y_axis=1)


def _conv_transpose(w: Weight) -> Layer | Unused:
    """Shapes: weight (C, M/group, ...), in which channels of depthwise ones lie along the first axis."""
    if w.value.ndim < 3:
        return w.no("its weight has no kernel")
    depthwise = w.value.shape[1] == 1 and attribute(w.node, "group", 1) > 1
    return w.layer(0 if depthwise else 1, "it is a transposed convolution", x_axis=1, y_axis=1)


def _gemm(w: Weight) -> Layer | Unused:
    """Shapes: operands (M, K) and (K, N), or as the attributes say."""
    if w.value.ndim != 2:
        return w.no("its weight is no matrix")
    flips = [bool(attribute(w.node, name, 0)) for name in ("transA", "transB")]
    alpha, beta = float(attribute(w.node, "alpha", 1.0)), float(attribute(w.node, "beta", 1.0))
    if w.operand == 0:
        return w.layer(int(flips[0]), LEFT, alpha=alpha, beta=beta, x_axis=int(flips[1]), y_axis=0)
    axis = int(not flips[1])
    outputs = w.value.shape[axis]
    unfit = "its input is transposed" if flips[0] else "it multiplies by nought" if not alpha or not beta else ""
    scales = {"alpha": alpha, "beta": beta}
    return w.biased(axis, (outputs,), (1, outputs), unfit=unfit, x_axis=int(not flips[0]), y_axis=1, **scales)


def _matmul(w: Weight) -> Layer | Unused:
    """Shapes: operands (..., M, K) and (..., K, N). The constant Add behind it is its bias, if it is no mask."""
    if w.value.ndim < 2:
        return w.no("its weight is a vector")
    if w.operand == 0:
        return w.layer(-2, LEFT, x_axis=-2, y_axis=-2)
    if w.value.ndim > 2:
        return w.layer(-1, STACK)
    product, width = w.node.output[0], w.value.shape[1]
    add = w.layers.index.sole_reader(product)
    if add is not None and add.op_type == "Add":
        other = add.input[1] if add.input[0] == product else add.input[0]
        bias = w.layers.model.weights.get(other)
        if bias is not None and bias.shape in ((width,), (1, width)) and np.isfinite(bias).all():
            return w.layer(1, bias=other, output=add.output[0])
    return w.layer(1)


def _gather(w: Weight) -> Layer | Unused | None:
    """Looking up row k of a table is multiplying it with a unit vector. What constants look up is none."""
    if w.value.ndim != 2 or w.node.output[0] in w.layers.index.constant:
        return None
    if attribute(w.node, "axis", 0) not in (0, -2):
        return w.no("it looks up columns of its table, not rows")
    return w.layer(1, "it looks up rows of a table")


def _recurrent(w: Weight) -> Layer | Unused:
    """Shapes: weights (directions, gates * hidden, inputs or hidden)."""
    return w.layer(1, "it is recurrent") if w.value.ndim == 3 else w.no("its weight is no stack of matrices")


NO_VECTOR = "its bias is no vector"
LEFT, STACK = "its left factor is a constant", "its weight is a batch of matrices"
_RULES: dict[str, Rule] = {
    "Conv": Rule(_conv),
    "ConvTranspose": Rule(_conv_transpose),
    "Gemm": Rule(_gemm),
    "MatMul": Rule(_matmul, always=False),
    "Gather": Rule(_gather, multiplies=False, always=False),
    **{op: Rule(_recurrent) for op in operators(Trait.RECURRENT) if operator(op).weights},
}
_OTHER = Rule(lambda w: w.no(f"no pass changes weights of {w.node.op_type}"), always=False)
