"""QONNX's integers in standard operators: weights as integers with scales, activations as QDQ or as the arithmetic that it is.

Source: Pappalardo et al., "QONNX: Representing Arbitrary-Precision Quantized Neural Networks", 2022, arXiv:2206.07527; the
operators Quant and IntQuant of qonnx.custom_op.general, version 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..index import index_of
from ..model import Model
from ..registry import registers
from ..traits import operator_key
from .unfuse import Part, Parting, part_all

_PARTS: dict[str, Part] = {}
_MOST_BITS = 8
_AXES_HAVE_SCALES = 13
"""From this operator set on DequantizeLinear has an axis."""


def standard_quants(model: Model) -> None:
    """In place; ``notes`` tell how many. Other roundings, more bits and scales that are computed stay as they are."""
    read = {name for node in model.graph.node if operator_key(node) in _PARTS for name in node.input}
    done = part_all(model, _PARTS)
    if done:
        uses = index_of(model).uses
        for name in [name for name in read if name in model.weights and not uses[name]]:
            del model.weights[name]
        told = ", ".join(f"{count} {op}" for op, count in done.items())
        model.notes.append(f"{told} of QONNX written in standard operators")


_parts = registers(_PARTS)


@_parts("qonnx.custom_op.general:Quant", "qonnx.custom_op.general:IntQuant")
def _quant(p: Parting) -> bool:
    """``(clip(round(x / scale + zero), low, high) - zero) * scale``; operands: x, scale, zero, bits."""
    x, scale, zero, bits = (p.model.weights.get(p.operand(i)) for i in range(4))
    if scale is None or zero is None or bits is None or zero.size != 1 or bits.size != 1:
        return False
    offset, count = float(zero.item()), float(bits.item())
    known = (
        p.attr("rounding_mode", "ROUND") == "ROUND" and not offset % 1 and 2 <= count <= _MOST_BITS and not count % 1
    )
    if not known or p.model.opset < _AXES_HAVE_SCALES:
        return False
    signed, narrow = bool(p.attr("signed", 1)), bool(p.attr("narrow", 0))
    low = -(2 ** (int(count) - 1)) + narrow if signed else 0
    high = 2 ** (int(count) - 1) - 1 if signed else 2 ** int(count) - 1 - narrow
    kind = np.dtype(np.int8 if signed else np.uint8)
    if not np.iinfo(kind).min <= offset <= np.iinfo(kind).max:
        return False
    if x is not None:
        return _weight(p, x, scale, offset, (low, high), kind)
    if scale.size == 1 and (low, high) == (np.iinfo(kind).min, np.iinfo(kind).max) and not offset % 2:
        operands = p.constant(scale.reshape(())), p.constant(np.array(offset, kind))
        (codes,) = p.add("QuantizeLinear", p.operand(0), *operands)
        p.add("DequantizeLinear", codes, *operands, to=p.node.output[0])
        return True
    (y,) = p.add("Div", p.operand(0), p.operand(1))
    shift = p.constant(np.array(offset, np.float32))
    if offset:
        (y,) = p.add("Add", y, shift)
    (y,) = p.add("Clip", y, *(p.constant(np.array(bound, np.float32)) for bound in (low, high)))
    (y,) = p.add("Round", y)
    if offset:
        (y,) = p.add("Sub", y, shift)
    p.add("Mul", y, p.operand(1), to=p.node.output[0])
    return True


def _weight(p: Parting, x: np.ndarray, scale: np.ndarray, zero: float, bounds: tuple[int, int], kind: np.dtype) -> bool:
    """Integers with a scale, or one for each index of an axis."""
    axes = [k for k, n in enumerate(scale.shape[-x.ndim :]) if n > 1]
    if len(axes) > 1 or scale.ndim > x.ndim or x.dtype != np.float32 or scale.dtype != np.float32:
        return False
    codes = np.round(np.clip(x / scale + np.float32(zero), *bounds)).astype(kind)
    flat = scale.reshape(-1) if axes else scale.reshape(())
    zeros = np.full(flat.shape, zero, kind)
    settings: dict[str, Any] = {"axis": axes[0] + x.ndim - scale.ndim} if axes else {}
    operands = (p.constant(value) for value in (codes, flat, zeros))
    p.add("DequantizeLinear", *operands, to=p.node.output[0], **settings)
    return True
