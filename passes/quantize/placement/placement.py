"""Where integers go: which nodes compute in them, and which tensors are therefore quantized.

A node that multiplies by a constant is quantized wherever it stands. What lies between such nodes follows if all it
reads is in integers already; everything else stays in float, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from ....graph.bits import IN_BITS
from ....graph.index import index_of
from ....graph.layers import Layers, Unused
from ....graph.model import Model
from ....graph.nodes import display_name, is_standard
from ....graph.traits import Runtime, Trait, has
from .kernels import Kernel, kernels


@dataclass(frozen=True)
class Placement:
    """What is quantized in a model.

    ``nodes`` are places of nodes that compute in integers, ``tensors`` the activations that become integers, in graph
    order. ``moved`` names for the output of a node that only moves values the tensor whose scale it has. ``absorbed``
    maps what a kernel makes to the tensor behind the rectifier that nobody but it feeds. ``joined`` are the operands of
    each Concat, by its output. ``constants`` are operands that are constants, by place of
    the node. ``lowest`` says where ranges begin that kernels let end at 1. ``skipped`` says why each
    other node that computes floats stays.
    """

    nodes: tuple[int, ...]
    tensors: tuple[str, ...]
    moved: dict[str, str]
    absorbed: dict[str, str]
    joined: dict[str, tuple[str, ...]]
    constants: Mapping[int, Sequence[int]]
    lowest: Mapping[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def place(
    model: Model, allowed: Sequence[bool] | None = None, *, runtime: Runtime = Runtime.ORT, between: bool = True
) -> Placement:
    """Decide for every node of a model; ``allowed`` says which may change, all if None.

    Without ``between`` only what layers read becomes integers.
    """
    work = _Work(model, allowed or [True] * len(model.graph.node), kernels(runtime), between)
    work.whole = runtime == Runtime.LITERT
    return work.run()


class _Work:
    def __init__(self, model: Model, allowed: Sequence[bool], known: Mapping[str, Kernel], between: bool) -> None:
        self.model, self.allowed, self.kernels, self.between = model, allowed, known, between
        index = index_of(model)
        self.nodes, self.types, self.uses = index.nodes, index.shapes.dtypes, index.uses
        layers = Layers(model)
        self.biased = {one.output: one.node for one in layers if one.output != one.node}
        self.unfit = {one.node: one.reason if isinstance(one, Unused) else one.unfit for one in layers.found}
        self.outputs = index.outputs
        self.made: dict[str, Kernel] = {}  # tensors that could be integers, and what makes them
        self.chosen: list[int] = []
        self.moved: dict[str, str] = {}
        self.absorbed: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.whole = False
        """Whether all is to be in integers, also where no layer comes after."""

    def run(self) -> Placement:
        for place, node in enumerate(self.nodes):
            if self._is_float(node):
                reason = self._take(place, node)
                if reason:
                    self.skipped[display_name(node)] = reason
        self._leave_useless()
        needed = self._needed()
        index = index_of(self.model)
        return Placement(
            nodes=tuple(self.chosen),
            tensors=tuple(n for n in dict.fromkeys((*index.inputs, *index.place)) if n in needed),
            moved={o: x for o, x in self.moved.items() if o in needed},
            absorbed={o: y for o, y in self.absorbed.items() if y in needed},
            joined={
                self.nodes[k].output[0]: tuple(x for x in self.nodes[k].input if x not in self.model.weights)
                for k in self.chosen
                if self.nodes[k].op_type == "Concat"
            },
            constants=self._constants(),
            lowest={
                self.nodes[k].output[0]: lowest
                for k in self.chosen
                if (lowest := self.kernels[self.nodes[k].op_type].lowest) is not None
            },
            skipped=self.skipped,
        )

    def _is_float(self, node: onnx.NodeProto) -> bool:
        return any(self.types.get(o) == onnx.TensorProto.FLOAT for o in node.output if o)

    def _take(self, place: int, node: onnx.NodeProto) -> str:
        """Quantize a node, or say why not."""
        if has(node, Trait.RECTIFIES):
            return self._rectify(node)
        layer = self.biased.get(node.output[0])
        if layer in self.made:  # the bias of a product, which is added in floats
            self.made[node.output[0]] = self.made[layer]
            return ""
        kernel = self.kernels.get(node.op_type) if is_standard(node) else None
        if kernel is None:
            return IN_BITS if has(node, Trait.ON_BITS) else "it has no integer kernel"
        if not self.allowed[place]:
            return "left out by --include or --exclude"
        data = self._data(node, kernel)
        if any(self.types.get(x) != onnx.TensorProto.FLOAT for x in data):
            return "it does not compute in float32"
        obstacle = self.unfit.get(node.output[0], "") if kernel.starts else ""
        obstacle = obstacle or kernel.obstacle(node, self.model)
        if obstacle:
            return obstacle
        if not data:
            return "it computes a constant"
        if not kernel.starts and not self.between:
            return "only layers are quantized"
        if not kernel.starts and any(x not in self.made for x in data):
            return "what it reads is not in integers"
        if not kernel.many and any(x in self.model.weights for x in data):
            return "it reads a constant"
        self.chosen.append(place)
        for output in node.output:
            if self.types.get(output) == onnx.TensorProto.FLOAT:
                self.made[output] = kernel
                if kernel.moves:
                    self.moved[output] = node.input[0]
        return ""

    def _data(self, node: onnx.NodeProto, kernel: Kernel) -> list[str]:
        """The activations that a node reads."""
        places = range(len(node.input)) if kernel.many else (0,)
        return [node.input[i] for i in places if node.input[i] and node.input[i] not in self.model.weights]

    def _rectify(self, node: onnx.NodeProto) -> str:
        x, y = node.input[0], node.output[0]
        kernel = self.made.get(x)
        if kernel is None:
            return "what it reads is not in integers"
        if self.uses[x] > 1 or x in self.outputs or kernel.moves:
            return "what it reads is read elsewhere too, or only moved there"
        if any(i and i not in self.model.weights for i in node.input[1:]):
            return "its limits are computed"
        self.absorbed[x], self.made[y] = y, kernel
        return ""

    def _leave_useless(self) -> None:
        """Leave what lies between layers in float where no layer reads what comes of it, as in residual streams."""
        useful = set(self.outputs) if self.whole else set()
        kept = []
        for place in reversed(self.chosen):
            node = self.nodes[place]
            kernel = self.kernels[node.op_type]
            if kernel.starts or any(self.absorbed.get(o, o) in useful for o in node.output if o):
                useful.update(self._data(node, kernel))
                kept.append(place)
            else:
                self.skipped[display_name(node)] = "no layer reads what comes of it"
                for output in node.output:
                    self.moved.pop(output, None)
        self.chosen = kept[::-1]

    def _needed(self) -> set[str]:
        """Tensors that become integers: what quantized nodes read, and what those make that cannot give floats."""
        needed: set[str] = set()
        for place in self.chosen:
            node = self.nodes[place]
            kernel = self.kernels[node.op_type]
            needed.update(self._data(node, kernel))
        for place in self.chosen if self.between else ():
            node = self.nodes[place]
            if not self.kernels[node.op_type].float_out:
                needed.update(self.absorbed.get(o, o) for o in node.output if self.uses[o] and o in self.made)
        return needed

    def _constants(self) -> dict[int, list[int]]:
        return {
            place: [i for i, x in enumerate(self.nodes[place].input) if x in self.model.weights]
            for place in self.chosen
            if self.kernels[self.nodes[place].op_type].many
        }
