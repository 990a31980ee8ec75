"""How sums end: those of integers scaled to floats, then whatever follows, such as rounding to codes again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..expressions import without_division, written
from ..rules import Call


@dataclass(frozen=True)
class Ending:
    """``start`` is where the sum of each column begins. Sums of codes are multiplied by ``scale``; ``more`` is added then."""

    call: Call
    start: np.ndarray
    scale: np.ndarray | None = None
    more: np.ndarray | None = None

    def store(self, place: str, column: str, value: str) -> str:
        """Text that stores a sum at a place."""
        call = self.call
        if self.scale is None:
            before, value = call.finished(value, call.x(0).ctype)
            return _lines(before, f"{place} = {value};")
        then, divisor = without_division(call.operation.then)
        scale = (self.scale / np.float32(divisor)).astype(np.float32)
        value = f"(float){value} * {call.program.table(scale)}[{column if scale.size > 1 else 0}]"
        if self.more is not None:
            value += f" + {call.program.table((self.more / divisor).astype(np.float32))}[{column}]"
        before, value = written(then, [("float", value)])
        return _lines(before, f"{place} = {value};")


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part).replace("\n", "\n    ")


def of_codes(call: Call, sums: np.ndarray, bias: np.ndarray | None) -> Ending:
    """Of products of codes. ``sums`` are those of the weights of each column, which the zero of the input multiplies."""
    codes, weights = call.operation.codes[0], call.operation.codes[1]
    scale = (codes.scale * weights.scale.reshape(-1)).astype(np.float32)
    start = -byte_zero(call) * sums.astype(np.int64)
    if bias is None:
        return Ending(call, start.astype(np.int32), scale)
    steps = np.broadcast_to(bias.astype(np.float64) / scale, sums.shape)
    if np.abs(steps).max(initial=0) < 2**30 and np.allclose(steps, np.rint(steps), rtol=0, atol=1e-2):
        return Ending(call, (start + np.rint(steps).astype(np.int64)).astype(np.int32), scale)
    return Ending(call, start.astype(np.int32), scale, np.broadcast_to(bias, sums.shape).astype(np.float64))


def byte_zero(call: Call) -> int:
    """The byte that stands for 0 in rows of the input: signed codes are moved up to bytes without sign."""
    return call.operation.codes[0].zero + (128 if call.x(0).dtype == np.int8 else 0)
