"""Weights that a graph keeps as bits or as digits in bytes: which tensors hold those, and how many weights they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from .bits import bit_operator, count_standing_weights
from .model import Model
from .nodes import captured_names, is_standard, reads


@dataclass(frozen=True)
class Decoded:
    """``signs`` maps weights that an operator on bits multiplies with to the number of weights they stand for.

    ``made`` are the tensors that other operators decode from bits, ``digits`` those that they look up integers for, and
    ``steps`` all that is computed for it; ``codes`` are the weights that this takes: bits, scales, masks, settings.
    ``rows`` maps tables of which only rows are looked up to the tensor that has the integers of each byte.
    """

    signs: dict[str, int]
    made: list[str]
    digits: list[str]
    rows: dict[str, str]
    steps: set[str]
    codes: set[str]


def decoded_weights(model: Model) -> Decoded:
    """Find the weights kept as bits.

    Nodes that compute on constants alone and hang together decode a weight if one of them takes bits out of bytes:
    ``UnpackWeight``, ``BitShift``, which its definition has, or a ``Gather`` by bytes. The float tensors that they hand to
    other nodes are the weights.
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
    """Nodes that compute on constants alone, by the block of such nodes that they hang together with.

    ``decodes`` are those that take bits or digits out of bytes, True for bits.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.block: dict[str, int] = {}
        self._parent: list[int] = []
        self._decodes: dict[int, bool] = {}
        self._reads: dict[str, set[int]] = {}
        self._bytes, self._signs = set[str](), set[str]()
        self._rows: dict[str, str] = {}
        self._tables: dict[str, str] = {}
        if any(_takes_bits(n) or n.op_type == "Gather" for n in model.graph.node):
            for node in model.graph.node:
                self._place(node)

    def read(self) -> tuple[list[str], list[str], dict[str, str], set[str], set[str]]:
        """What decoding blocks hand out, bits and digits, tables, all that they compute, and the weights that only they read."""
        decoding = {self._root(k): bits for k, bits in self._decodes.items()}
        decoding |= {self._root(self.block[name]): False for name in self._tables.values() if name in self.block}
        inner = {name for name, k in self.block.items() if self._root(k) in decoding}
        used = {o.name for o in self.model.graph.output}
        for node in self.model.graph.node:
            if not node.output or node.output[0] not in self.block:
                used.update(reads(node))
        codes = {
            name
            for name, k in self._reads.items()
            if name not in used and {self._root(i) for i in k} <= decoding.keys()
        }
        made = [n for n in self.block if n in inner and n in used and n not in self._tables.values()]
        bits = {name for name in made if decoding[self._root(self.block[name])]}
        digits = [name for name in made if name not in bits]
        return [name for name in made if name in bits], digits, self._tables, inner, codes | self._tables.keys()

    def _place(self, node: onnx.NodeProto) -> None:
        inputs = [i for i in node.input if i]
        weights = self.model.weights
        if (
            (not inputs and node.op_type != "Constant")
            or captured_names(node)
            or any(i not in weights and i not in self.block for i in inputs)
        ):
            self._follow(node)
            return
        mine = len(self._parent)
        self._parent.append(mine)
        for name in inputs:
            if name in self.block:
                self._parent[self._root(self.block[name])] = mine
            else:
                self._reads.setdefault(name, set()).add(mine)
        self.block.update((o, mine) for o in node.output if o)
        first, second = _operands(node)
        if node.op_type == "Cast" and self._is_bytes(first):
            self._bytes.update(node.output)
        elif node.op_type == "Cast" and first in weights and weights[first].shape == (256, 8):
            self._signs.update(node.output)
        elif _takes_bits(node):
            self._decodes[mine] = True
        elif node.op_type == "Gather" and second in self._bytes:
            self._decodes[mine] = first in self._signs

    def _follow(self, node: onnx.NodeProto) -> None:
        """Rows of bytes, from the table that they lie in to the one by which they are looked up."""
        first, second = _operands(node)
        if node.op_type == "Gather" and second in self._rows and first in self.block:
            self._tables[self._rows[second]] = first
        elif node.op_type == "Gather" and self._is_bytes(first):
            self._rows.update(dict.fromkeys(node.output, first))
        elif node.op_type == "Cast" and first in self._rows:
            self._rows.update(dict.fromkeys(node.output, self._rows[first]))

    def _is_bytes(self, name: str) -> bool:
        return name in self.model.weights and self.model.weights[name].dtype == np.uint8

    def _root(self, k: int) -> int:
        while self._parent[k] != k:
            self._parent[k] = self._parent[self._parent[k]]
            k = self._parent[k]
        return k


def _operands(node: onnx.NodeProto) -> tuple[str, str]:
    first, second = [*map(str, node.input), "", ""][:2]
    return first, second


def _takes_bits(node: onnx.NodeProto) -> bool:
    return node.op_type == ("BitShift" if is_standard(node) else "UnpackWeight" if bit_operator(node) else None)
