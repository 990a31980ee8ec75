"""Tables whose rows are looked up: only the rows that are read become floats.

Dequantizing the whole table before each look-up takes as long as reading all of it. Eight bits are done with standard
operators; fewer need GatherBlockQuantized of ONNX Runtime, since Gather knows no smaller integers.

Measured with ONNX Runtime 1.31, 32 rows of 256 numbers out of 5,000, one thread: float 6 µs, Gather and Mul of 8 bits
8 µs, GatherBlockQuantized of packed 8, 4 or 2 bits 8 to 16 µs, of the type int4 70 µs, the whole table 160 µs.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from onnx import helper

from ....graph.layer import Layer
from ...precision.layout import Laid
from ...rewrite.weights import Work
from .nbits import pack_bits


class RowWriter(Protocol):
    """Puts other nodes in the place of a Gather."""

    def __call__(self, work: Work, layer: Layer, form: Laid) -> None: ...


_LEAST = 16
"""The operator's smallest block; sizes are powers of two."""


def row_writer(layer: Layer, form: Laid, weight: np.ndarray, *, standard: bool) -> RowWriter | None:
    """What makes a Gather read rows of integers; None if nothing can. ``standard`` operators where they do."""
    if layer.op != "Gather" or weight.dtype not in (np.float32, np.float16):
        return None
    plain = form.block == 0 and form.zero is None and weight.dtype == np.float32
    if standard and form.bits == 8 and plain:
        return _gather
    block = _block(form, weight)
    fits = weight.shape[1] % (8 // form.bits) == 0 and block >= _LEAST and not block & (block - 1)
    return _block_quantized if fits else None


def _block(form: Laid, weight: np.ndarray) -> int:
    return form.block or max(_LEAST, 1 << (weight.shape[1] - 1).bit_length())


def _gather(work: Work, layer: Layer, form: Laid) -> None:
    """Rows of integers, times their scales."""
    node, stem = work.node(layer), layer.weight
    integers, scale = work.constant(f"{stem}/q", form.integers), work.constant(f"{stem}/rows", form.scale[:, None])
    out, index = node.output[0], node.input[1]
    rows, floats, scales = (work.names.fresh(f"{out}/{part}") for part in ("rows", "float", "scale"))
    work.replace(
        layer,
        [
            helper.make_node("Gather", [integers, index], [rows], node.name, axis=0),
            helper.make_node("Cast", [rows], [floats], work.names.fresh(f"{out}/Cast"), to=1),
            helper.make_node("Gather", [scale, index], [scales], work.names.fresh(f"{out}/GatherScale"), axis=0),
            helper.make_node("Mul", [floats, scales], [out], work.names.fresh(f"{out}/Scale")),
        ],
    )


def _block_quantized(work: Work, layer: Layer, form: Laid) -> None:
    """The operator that does both."""
    node, stem = work.node(layer), layer.weight
    weight, bits = work.original.weights[stem], form.bits
    signed = form.integers.dtype.name.startswith("int")
    shift = 1 << (bits - 1) if signed else 0
    operands = [
        work.constant(f"{stem}/packed", pack_bits(form.integers.astype(np.int64) + shift, bits)),
        node.input[1],
        work.constant(f"{stem}/scales", form.scale.reshape(len(weight), -1)),
    ]
    zero = None if form.zero is None else form.zero.reshape(len(weight), -1).astype(np.int64) + shift
    if zero is not None and (zero != 1 << (bits - 1)).any():
        operands.append(work.constant(f"{stem}/zeros", pack_bits(zero, bits)))
    sizes = {"gather_axis": 0, "quantize_axis": 1, "block_size": _block(form, weight), "bits": bits}
    work.substitute(layer, "GatherBlockQuantized", operands, **sizes)
