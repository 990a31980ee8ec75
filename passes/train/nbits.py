"""MatMulNBits while it is trained: integers that a DequantizeLinear reads before a product, packed again at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import attribute, copied
from ..rewrite.edit import Edit

_KEY = "MatMulNBits"
_CODES, _SCALES, _ZEROS, _GROUPS, _BIAS = 1, 2, 3, 4, 5
_KINDS = {2: ml_dtypes.uint2, 4: ml_dtypes.uint4, 8: np.uint8}


@dataclass(frozen=True)
class Opened:
    """A node and its constants, and the names of what stands in its place: integers, their scales, and the tensors on the
    way. ``shape`` is that of the scales."""

    node: onnx.NodeProto
    packed: np.ndarray
    shape: tuple[int, ...]
    zeros: np.ndarray | None
    codes: str
    scale: str
    inner: tuple[str, ...]


def open_nbits(model: Model) -> tuple[Model, list[Opened]]:
    """The model with products of unpacked integers; those with other zero points than integers, or groups, stay."""
    if not any(_can_be_opened(model, node) for node in model.graph.node):
        return model, []
    edit, found = Edit(model), list[Opened]()
    for node in model.graph.node:
        if _can_be_opened(model, node):
            edit.replace(node)
            found.append(_opened(edit, node))
        else:
            edit.keep(node)
    return edit.finish(), found


def _can_be_opened(model: Model, node: onnx.NodeProto) -> bool:
    if node.op_type != _KEY or attribute(node, "bits", 4) not in _KINDS:
        return False
    operands = dict(enumerate(node.input))
    constant = [operands[k] for k in (_CODES, _SCALES, _ZEROS) if operands.get(k)]
    if operands.get(_GROUPS) or not all(name in model.weights for name in constant):
        return False
    return all(model.weights[name].dtype == np.uint8 for name in constant[::2]) and model.weights[
        constant[1]
    ].dtype == np.dtype(np.float32)


def _opened(edit: Edit, node: onnx.NodeProto) -> Opened:
    weights = edit.original.weights
    columns, rows, block, bits = (attribute(node, name, 4) for name in ("K", "N", "block_size", "bits"))
    blocks, kind, out = -(-columns // block), np.dtype(_KINDS[bits]), node.output[0]
    codes = unpack_bits(weights[node.input[_CODES]].reshape(rows, -1), bits)[:, :columns]
    given = weights[node.input[_ZEROS]] if len(node.input) > _ZEROS and node.input[_ZEROS] else None
    zeros = np.full((rows, blocks), 1 << (bits - 1), np.uint8)
    if given is not None:
        zeros = unpack_bits(given.reshape(rows, -1), bits)[:, :blocks]
    names = [
        edit.constant(f"{out}/codes", codes.astype(kind)),
        edit.constant(f"{out}/scales", weights[node.input[_SCALES]].reshape(rows, blocks)),
        edit.constant(f"{out}/zeros", zeros.astype(kind)),
    ]
    bias = node.input[_BIAS] if len(node.input) > _BIAS else ""
    weight = edit.add("DequantizeLinear", names, edit.tensor(f"{out}/weight"), axis=1, block_size=block)
    turned = edit.add("Transpose", [weight], edit.tensor(f"{out}/turned"), perm=[1, 0])
    product = edit.tensor(f"{out}/product") if bias else out
    edit.add("MatMul", [node.input[0], turned], product, name=node.name)
    if bias:
        edit.add("Add", [product, bias], out)
    shape = weights[node.input[_SCALES]].shape
    return Opened(
        copied(node), weights[node.input[_CODES]], shape, given, names[0], names[1], (weight, turned, product)
    )


def close_nbits(model: Model, opened: Sequence[Opened]) -> Model:
    """The same with the nodes as they were, and what was learned packed into as many bytes; where a product is no longer
    there, what stands in its place stays."""
    made, known = index_of(model).makers, model.weights
    there = [one for one in opened if made.keys() >= set(one.inner) and one.codes in known and one.scale in known]
    if not there:
        return model
    edit = Edit(model)
    inner = {name: one for one in there for name in one.inner}
    for node in model.graph.node:
        one = inner.get(node.output[0])
        if one is None and not (node.op_type == "Add" and node.input[0] in inner):
            edit.keep(node)
            continue
        edit.replace(node)
        last = one.inner[-1] if one else node.input[0]
        if one is None or (node.output[0] == last == one.node.output[0]):
            _close(edit, inner[last])
    return edit.finish()


def _close(edit: Edit, one: Opened) -> None:
    bits, node, weights = attribute(one.node, "bits", 4), copied(one.node), edit.original.weights
    codes = weights[one.codes].astype(np.uint8)
    filled = unpack_bits(one.packed.reshape(len(codes), -1), bits)
    filled[:, : codes.shape[1]] = codes
    node.input[_CODES] = edit.constant(node.input[_CODES], pack_bits(filled, bits).reshape(one.packed.shape))
    node.input[_SCALES] = edit.constant(node.input[_SCALES], weights[one.scale].reshape(one.shape))
    if one.zeros is not None:
        node.input[_ZEROS] = edit.constant(node.input[_ZEROS], one.zeros)
    edit.keep(node)


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """The other way round; rows fill their bytes."""
    each = 8 // bits
    shifts = (bits * np.arange(each)).astype(np.uint8)
    parts = codes.reshape(len(codes), -1, each).astype(np.uint8) << shifts
    return np.bitwise_or.reduce(parts, axis=2)


def unpack_bits(packed: np.ndarray, bits: int) -> np.ndarray:
    """Several numbers in each byte, the first in the lowest bits. Shapes: (rows, bytes) -> (rows, numbers)."""
    each = 8 // bits
    parts = [(packed >> np.uint8(bits * k)) & np.uint8((1 << bits) - 1) for k in range(each)]
    return np.stack(parts, -1).reshape(len(packed), -1)
