"""Integers in no more bits than they have, and the standard operators that look them up.

An integer is cut into digits of 4, 2 or 1 bits, which fill bytes; lowest digits come first. A table has the digits of
every byte. Cast, Gather, Mul, ReduceSum and Reshape mean the same in every runtime, which computes those of constants
once, when it opens the file: types of fewer than 8 bits are not known everywhere, and shifts of bytes are rounded in some.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ...precision.grid import Grid
from ...rewrite import weights
from .nbits import pack_bits

_NIBBLES = np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1)


def digit_bits(bits: int) -> int:
    """Bits of a digit."""
    return bits if bits in (2, 4) else 1


def pack_digits(integers: np.ndarray, grid: Grid) -> np.ndarray:
    """Bytes of digits, of each row by itself. Shapes: (rows, n) -> (rows, digits, bytes)."""
    each = digit_bits(grid.bits)
    codes: NDArray[np.integer[Any]] = integers.astype(
        np.int8 if grid.bits <= 8 else np.int64
    )  # below nought in two's complement
    parts = [pack_bits(codes >> low & ((1 << each) - 1), each) for low in range(0, grid.bits, each)]
    return np.stack(parts, axis=1)


class Lines(weights.Lines):
    """Nodes that look digits up."""

    def shape(self, *lengths: int) -> str:
        """Lengths of axes, a constant that all weights share."""
        return self.work.constant("digits/shape", np.array(lengths, np.int64))

    def looked_up(self, packed: str, grid: Grid) -> str:
        """Integers, as floats, of bytes of digits. Shapes: (..., digits, bytes) -> (..., bytes, integers of a byte)."""
        index = self.add("Cast", [packed], to=TensorProto.INT32)
        found = self.add("Gather", [self._table(grid), index], axis=0)
        if digit_bits(grid.bits) == grid.bits:
            return found
        worth = 2.0 ** np.arange(grid.bits, dtype=np.float32).reshape(-1, 1, 1, 1)
        worth[-1] *= -1 if grid.signed else 1
        scaled = self.add("Mul", [found, self.work.constant("digits/worth", worth)])
        return self.add("ReduceSum", [scaled, self.shape(-4)], keepdims=0)

    def cut(self, rows: str, length: int, out: str = "") -> str:
        """The first numbers of each row."""
        return self.add("Slice", [rows, self.shape(0), self.shape(length), self.shape(-1)], out)

    def _table(self, grid: Grid) -> str:
        """What the digits of each byte are, the same for all weights. Shapes: (256, ...)."""
        each = digit_bits(grid.bits)
        signed = grid.signed and each == grid.bits
        values = np.arange(16, dtype=np.float32)
        digits = np.stack([values // 2**low % 2**each for low in range(0, 4, each)], axis=1)
        digits -= 2**each * (signed & (digits >= 2 ** (each - 1)))
        if each == 4:
            small = digits[_NIBBLES, 0].astype(np.int8 if signed else np.uint8)
            return self.work.share("Cast", [self.work.constant("digits/nibbles", small)], to=TensorProto.FLOAT)
        nibbles = self.work.constant("digits/nibbles", _NIBBLES.astype(np.uint8))
        index = self.work.share("Cast", [nibbles], to=TensorProto.INT32)
        return self.work.share("Gather", [self.work.constant("digits/values", digits), index], axis=0)
