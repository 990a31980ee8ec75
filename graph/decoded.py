"""Weights that a graph keeps as bits: which tensors hold those, and how many weights they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from .bits import bit_operator, count_standing_weights
from .model import Model
from .nodes import captured_names, is_standard, reads


@dataclass(frozen=True)
class Decoded:
    """``signs`` maps weights that an operator on bits multiplies with to the number of weights they stand for.

    ``made`` are the tensors that other operators decode from bits, and ``steps`` all that is computed for it; ``codes``
    are the weights that this takes: bits, scales, masks, settings.
    """

    signs: dict[str, int]
    made: list[str]
    steps: set[str]
    codes: set[str]


def decoded_weights(model: Model) -> Decoded:
    """Find the weights kept as bits.

    Nodes that compute on constants alone and hang together decode a weight if one of them takes bits out of bytes:
    ``UnpackWeight``, or ``BitShift``, which its definition has. The float tensors that they hand to other nodes are the
    weights.
    """
    signs: dict[str, int] = {}
    blocks = _Blocks(model)
    for node in model.graph.node:
        known = bit_operator(node)
        weight = model.weights.get(node.input[known.weight]) if known and known.weight is not None else None
        if known is None or weight is None or weight.ndim != 3 or node.output[0] in blocks.block:
            continue
        try:
            signs[node.input[known.weight]] = count_standing_weights(node, weight.shape)
        except ValueError:  # its attributes are wrong, which is for shape inference to say
            continue
    return Decoded(signs, *blocks.read())


class _Blocks:
    """Nodes that compute on constants alone, by the block of such nodes that they hang together with."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.block: dict[str, int] = {}
        self._parent: list[int] = []
        self._decodes: set[int] = set()
        self._reads: dict[str, set[int]] = {}
        if any(_takes_bits(n) for n in model.graph.node):
            for node in model.graph.node:
                self._place(node)

    def read(self) -> tuple[list[str], set[str], set[str]]:
        """What decoding blocks hand out, all that they compute, and the weights that only they read."""
        decoding = {self._root(k) for k in self._decodes}
        inner = {name for name, k in self.block.items() if self._root(k) in decoding}
        used = {o.name for o in self.model.graph.output}
        for node in self.model.graph.node:
            if not node.output or node.output[0] not in self.block:
                used.update(reads(node))
        codes = {name for name, k in self._reads.items() if name not in used and {self._root(i) for i in k} <= decoding}
        return [name for name in self.block if name in inner and name in used], inner, codes

    def _place(self, node: onnx.NodeProto) -> None:
        inputs = [i for i in node.input if i]
        weights = self.model.weights
        if (
            (not inputs and node.op_type != "Constant")
            or captured_names(node)
            or any(i not in weights and i not in self.block for i in inputs)
        ):
            return
        mine = len(self._parent)
        self._parent.append(mine)
        for name in inputs:
            if name in self.block:
                self._parent[self._root(self.block[name])] = mine
            else:
                self._reads.setdefault(name, set()).add(mine)
        self.block.update((o, mine) for o in node.output if o)
        if _takes_bits(node):
            self._decodes.add(mine)

    def _root(self, k: int) -> int:
        while self._parent[k] != k:
            self._parent[k] = self._parent[self._parent[k]]
            k = self._parent[k]
        return k


def _takes_bits(node: onnx.NodeProto) -> bool:
    return node.op_type == ("BitShift" if is_standard(node) else "UnpackWeight" if bit_operator(node) else None)
