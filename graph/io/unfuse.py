"""Write operators that ONNX Runtime's optimizer joined as those they were joined of, so that every pass sees their weights.

What holds weights is parted, as far as its definition is that of others in a row; the runtime joins convolutions again
when it loads the result, with the same bits. Attention and embeddings come out equal up to the rounding of a sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ..index import Index, index_of
from ..model import Model
from ..nodes import attribute, display_name, replace_nodes
from ..registry import registers
from ..traits import operator_key

_CLIP_TAKES_INPUTS = 11
_DOMAIN = "com.microsoft"


class Parting:
    """One node that is written anew: ``nodes`` are those in its place."""

    def __init__(self, model: Model, index: Index, taken: set[str], node: onnx.NodeProto) -> None:
        self.model, self.index, self.taken, self.node = model, index, taken, node
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def operand(self, i: int) -> str:
        return self.node.input[i] if i < len(self.node.input) else ""

    def reads(self, i: int) -> bool:
        """Whether somebody reads an output."""
        name = self.node.output[i] if i < len(self.node.output) else ""
        return bool(name) and (bool(self.index.uses[name]) or name in self.index.outputs)

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def add(self, op: str, *inputs: str, to: str = "", count: int = 1, domain: str = "", **settings: Any) -> list[str]:
        names = [self._fresh(op) for _ in range(count)] if not to else [to]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        title = display_name(self.node) + f"/{op}{len(self.nodes)}" * (to != self.node.output[0])
        self.nodes.append(onnx.helper.make_node(op, inputs, names, title, domain=domain, **settings))
        return names

    def constant(self, value: object) -> str:
        name = self._fresh("const")
        self.weights[name] = np.asarray(value)
        return name

    def _fresh(self, stem: str) -> str:
        serial, made = 0, next(o for o in self.node.output if o)
        while (name := f"{made}_{stem}{serial or ''}") in self.taken:
            serial += 1
        self.taken.add(name)
        return name


Part = Callable[[Parting], bool]
_PARTS: dict[str, Part] = {}


def unfuse(model: Model) -> None:
    """Part nodes in the main graph; ``notes`` tell how many. A form that others cannot say stays as it is."""
    done = part_all(model, {key: _weighted(part) for key, part in _PARTS.items()})
    if done:
        told = ", ".join(f"{count} {op}" for op, count in done.items())
        model.notes.append(f"{told} of ONNX Runtime written as the operators that they join")


def part_all(model: Model, parts: Mapping[str, Part]) -> Counter[str]:
    """Write the nodes of a main graph anew that ``parts`` has a function for; counts them by operator."""
    done = Counter[str]()
    if not any(operator_key(node) in parts for node in model.graph.node):
        return done
    index = index_of(model)
    taken, nodes = {*index.place, *index.uses, *model.weights}, list[onnx.NodeProto]()
    weights: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        parted = _parted(Parting(model, index, taken, node), parts)
        nodes += [node] if parted is None else parted.nodes
        if parted is not None:
            done[node.op_type] += 1
            weights |= parted.weights
    if done:
        model.weights.update(weights)
        replace_nodes(model.graph, nodes)
    return done


def _parted(parting: Parting, parts: Mapping[str, Part]) -> Parting | None:
    part = parts.get(operator_key(parting.node))
    if part is None or not parting.operand(0):
        return None
    try:
        return parting if part(parting) else None
    except Exception:  # not as it is defined
        return None


def _weighted(part: Part) -> Part:
    """The same for operators that mean nothing without a second operand, and embeddings without a third."""
    return lambda parting: bool(parting.operand(2 if part is _embedding else 1)) and part(parting)


_parts = registers(_PARTS)


def _settings(p: Parting, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := p.attr(name)) is not None}


def _activated(p: Parting, op: str, x: str, parameters: Sequence[float]) -> bool:
    """An activation and its parameters, in the order in which the runtime writes them."""
    if op == "Clip":
        if p.model.opset < _CLIP_TAKES_INPUTS or len(parameters) != 2:
            return False
        p.add(op, x, *(p.constant(np.float32(v)) for v in parameters), to=p.node.output[0])
    else:
        named = sorted(onnx.defs.get_schema(op, p.model.opset).attributes)
        settings: dict[str, Any] = dict(zip(named, parameters, strict=False))
        p.add(op, x, to=p.node.output[0], **settings)
    return True


@_parts("com.microsoft:FusedConv")
def _convolution(p: Parting) -> bool:
    """Operands: x, weight, bias, what is added."""
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    (y,) = p.add("Conv", *(p.operand(i) for i in range(3)), **_settings(p, *names))
    if p.operand(3):
        (y,) = p.add("Add", y, p.operand(3))
    return _activated(p, p.attr("activation"), y, p.attr("activation_params", []))


@_parts("com.microsoft:FusedGemm")
def _gemm(p: Parting) -> bool:
    (y,) = p.add("Gemm", *p.node.input, **_settings(p, "alpha", "beta", "transA", "transB"))
    parameters = [p.attr(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    return _activated(p, p.attr("activation"), y, [v for v in parameters if v is not None])


@_parts("com.microsoft:FusedMatMul")
def _product(p: Parting) -> bool:
    """Where the right side is a constant, which no other node reads turned."""
    weight = p.model.weights.get(p.operand(1))
    moved = any(p.attr(name, 0) for name in ("transA", "transBatchA", "transBatchB"))
    turned = bool(p.attr("transB", 0))
    if weight is None or weight.ndim != 2 or moved or (turned and p.index.uses[p.operand(1)] > 1):
        return False
    factor = p.attr("alpha", 1.0)
    right = p.constant(np.ascontiguousarray(weight.T)) if turned else p.operand(1)
    (y,) = p.add("MatMul", p.operand(0), right, to="" if factor != 1 else p.node.output[0])
    if factor != 1:
        p.add("Mul", y, p.constant(np.asarray(factor, weight.dtype)), to=p.node.output[0])
    return True


@_parts("com.microsoft:Attention")
def _attention(p: Parting) -> bool:
    """Operands: x (B, S, C), weights (C, Q + K + V), bias, mask, past, what is added to scores.

    Queries, keys and values are one product of their own. Masks of a length for each sample, or of the form (B, L) or
    (B, S, L), mean the same to MultiHeadAttention.
    """
    weight, mask = p.model.weights.get(p.operand(1)), p.operand(3)
    if weight is None or p.operand(4) or p.operand(6) or p.reads(1) or p.attr("do_rotary", 0):
        return False
    sizes = p.attr("qkv_hidden_sizes") or [weight.shape[1] // 3] * 3
    if mask:
        batch, known = (p.index.shapes.dims.get(name) for name in (p.operand(0), mask))
        if batch is None or known is None or len(known) > 3 or known[0] != batch[0]:
            return False
    (y,) = p.add("MatMul", p.operand(0), p.operand(1))
    if p.operand(2):
        (y,) = p.add("Add", y, p.operand(2))
    parts = p.add("Split", y, p.constant(np.array(sizes, np.int64)), count=3, axis=2)
    settings = _settings(p, "num_heads", "unidirectional", "mask_filter_value", "scale")
    inputs = (*parts, "", mask, p.operand(5))
    p.add("MultiHeadAttention", *inputs, to=p.node.output[0], domain=_DOMAIN, **settings)
    return True


@_parts("com.microsoft:EmbedLayerNormalization")
def _embedding(p: Parting) -> bool:
    """Operands: words (B, S), segments, tables of words, positions and segments, scale, shift, mask, positions (B, S)."""
    words, segments, table, places, others, scale, shift, mask, positions = (p.operand(i) for i in range(9))
    if p.reads(1) and not mask:
        return False
    (y,) = p.add("Gather", table, words)
    if positions:
        (place,) = p.add("Gather", places, positions)
    else:
        (shape,) = p.add("Shape", words)
        (length,) = p.add("Slice", shape, p.constant([1]), p.constant([2]))
        (place,) = p.add("Slice", places, p.constant([0]), length, p.constant([0]))
    if segments:
        (y,) = p.add("Add", y, place)
        (place,) = p.add("Gather", others, segments)
    p.add(
        "SkipLayerNormalization", y, place, scale, shift, to=p.node.output[0], domain=_DOMAIN, **_settings(p, "epsilon")
    )
    if p.reads(2):
        p.nodes[-1].output.extend(["", "", p.node.output[2]])
    if p.reads(1):
        p.add("ReduceSum", mask, p.constant([1]), to=p.node.output[1], keepdims=0)
    return True
