"""MatMulNBits, the operator of ONNX Runtime that multiplies by integers of 2, 4 or 8 bits without unpacking them first.

Each row of the weight is cut into blocks of ``block_size``, the last one filled up with noughts; integers are stored as
they are seen from ``2**(bits-1)``, low bits first.

Source: the operator's definition, ONNX Runtime ``docs/ContribOperators.md``, ``com.microsoft.MatMulNBits``.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ....graph.io.fit import Release
from ....graph.layer import Layer
from ....graph.traits import operator
from ...precision.grid import Grid, Quantized
from ...rewrite.weights import MICROSOFT, Work

ACCURACY = 4
"""Activations are rounded to 8 bits in each block: the fast kernels. Without, two bits are far slower than floats."""
_BLOCKS = (32, 64, 128)
"""Of whole rows: sizes that have fast kernels for all widths."""
_LEAST, _MOST = 16, 256
_PAYS = {2: 1 << 20, 4: 1 << 18, 8: 1 << 18}
"""Weights from which on it is faster than floats: fewer lie in a near cache as floats. One thread of an EPYC, ONNX Runtime
1.31, time as a part of that of the float product, 4 bits and 1 to 64 rows: 64 columns by 64 1.1 to 1.6, 256 by 256 0.95 to
1.08, 768 by 768 0.49 to 0.89, 2048 by 2048 0.31 to 0.68; 2 bits 0.5 for one row of 2048, 1.2 for more."""


def nbits_block(columns: int, block: int) -> int | None:
    """The operator's block size for rows whose scales hold for ``block`` columns (0: all); None if there is none."""
    if not block or block >= columns:
        return next((b for b in _BLOCKS if b >= columns), _BLOCKS[-1])
    return block if _LEAST <= block <= _MOST and not block & (block - 1) else None


def fits_nbits(layer: Layer, quantized: Quantized, weight: np.ndarray) -> bool:
    """Whether the operator can say what a layer computes."""
    if layer.unfit or layer.window is not None or weight.dtype not in (np.float32, np.float16):
        return False
    scaled = layer.alpha != 1 or (layer.beta != 1 and layer.bias is not None)
    block = nbits_block(quantized.integers.shape[-1], quantized.block)
    return not scaled and block is not None and quantized.grid.bits in _PAYS


def nbits_pays(layer: Layer, grid: Grid, release: Release) -> bool:
    """Whether it is there from this release of ONNX Runtime on, and faster than floats that are made once."""
    since = operator(f"{MICROSOFT}:MatMulNBits").since
    return grid.bits in _PAYS and since[grid.bits] <= release and prod(layer.shape) >= _PAYS[grid.bits]


def write_nbits(work: Work, layer: Layer, quantized: Quantized) -> None:
    """Make a MatMul or Gemm read packed integers."""
    node, weight = work.node(layer), work.original.weights[layer.weight]
    columns, bits = quantized.integers.shape[-1], quantized.grid.bits
    block = nbits_block(columns, quantized.block)
    assert block is not None
    packed, scale, zero = pack(quantized, block)
    stem = layer.weight
    operands = [node.input[0], work.constant(f"{stem}/packed", packed)]
    operands.append(work.constant(f"{stem}/scales", scale.astype(weight.dtype)))
    if zero is not None:
        operands.append(work.constant(f"{stem}/zeros", zero))
    if node.op_type == "Gemm" and layer.bias is not None:
        bias = work.original.weights[layer.bias]
        name = layer.bias if bias.ndim == 1 else work.constant(f"{layer.bias}/flat", bias.reshape(-1))
        operands += [""] * (5 - len(operands)) + [name]
    sizes = {"K": columns, "N": quantized.integers.shape[1], "bits": bits, "block_size": block}
    work.substitute(layer, "MatMulNBits", operands, **sizes, accuracy_level=ACCURACY)


def pack(quantized: Quantized, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Integers, scales and zero points as the operator wants them.

    Shapes: (outputs, blocks, bytes), (outputs * blocks,), and (outputs * bytes,) where zero points are not the middle.
    """
    (integers,), bits = quantized.integers, quantized.grid.bits
    outputs, columns = integers.shape
    blocks = -(-columns // block)
    middle = 1 << (bits - 1)
    shift = middle if quantized.grid.signed else 0
    # what fills the last block stands for nought
    zero = np.zeros_like(quantized.scale[0]) if quantized.zero is None else quantized.zero[0]
    # a block of the operator lies inside a block of scales
    first = np.arange(blocks) * block // (quantized.block or columns)
    scale, zeros = quantized.scale[0][:, first], zero[:, first].astype(np.int64) + shift
    codes = np.repeat(zeros.astype(np.uint8), block, axis=1)
    codes[:, :columns] = integers.astype(np.uint8) + np.uint8(shift)
    packed = pack_bits(codes, bits).reshape(outputs, blocks, block * bits // 8)
    ends = None if (zeros == middle).all() else pack_bits(zeros, bits).reshape(-1)
    return packed, scale.reshape(-1).astype(np.float32), ends


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Several numbers in each byte, the first in the lowest bits; rows begin with a byte. Shapes: (rows, n)."""
    each = 8 // bits
    packed = np.zeros((len(codes), -(-codes.shape[1] // each)), np.uint8)
    for k in range(each):
        part = codes[:, k::each].astype(np.uint8)
        packed[:, : part.shape[1]] |= part << np.uint8(bits * k)
    return packed
