"""What a TFLite file says, before it is bytes: tensors, operators in order, and which tensors are its ends.

A tensor is stored in some order of its ONNX axes: ``order[i]`` is the ONNX axis that its axis i is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Order = tuple[int, ...]


def plain(rank: int) -> Order:
    """Axes as ONNX has them."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """Axes as TFLite's convolutions want them: NCHW becomes NHWC."""
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


def shaped(dims: Sequence[int], order: Order) -> tuple[int, ...]:
    return tuple(dims[axis] for axis in order)


@dataclass(frozen=True, eq=False)
class Scales:
    """What integers stand for: scale · (q - zero), one pair or one for each index of an axis."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int = 0

    def same(self, other: Scales | None) -> bool:
        return other is not None and bool(
            np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)
        )


@dataclass(frozen=True, eq=False)
class Kind:
    """Element type and, of integers that stand for real numbers, their scales."""

    dtype: np.dtype[Any]
    scales: Scales | None = None

    def same(self, other: Kind) -> bool:
        if self.dtype != other.dtype:
            return False
        return other.scales is None if self.scales is None else self.scales.same(other.scales)


FLOAT = Kind(np.dtype(np.float32))


@dataclass(eq=False)
class Tensor:
    """``data`` is what a constant holds. ``name`` may be empty; then it gets one when it is written."""

    shape: tuple[int, ...]
    kind: Kind
    name: str = ""
    data: np.ndarray | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(eq=False)
class Op:
    """``code`` is what the schema calls the operator, ``options`` the fields of its table of options, if it has one."""

    code: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Program:
    """``inputs`` and ``outputs`` map names of the ONNX model to tensors, and the order that each is stored in."""

    ops: list[Op] = field(default_factory=list)
    inputs: dict[str, tuple[Tensor, Order]] = field(default_factory=dict)
    outputs: dict[str, tuple[Tensor, Order]] = field(default_factory=dict)

    def makers(self) -> dict[Tensor, Op]:
        return {tensor: op for op in self.ops for tensor in op.outputs}

    def readers(self) -> dict[Tensor, list[Op]]:
        """Of each tensor the operators that read it, one for each operand."""
        found: dict[Tensor, list[Op]] = {}
        for op in self.ops:
            for tensor in op.inputs:
                if tensor is not None:
                    found.setdefault(tensor, []).append(op)
        return found

    def ends(self) -> set[Tensor]:
        return {tensor for tensor, _ in self.outputs.values()}

    @property
    def floats(self) -> list[str]:
        """Operators that compute in floats, those aside that turn integers into them."""
        return [op.code for op in self.ops if op.code != "DEQUANTIZE" and op.outputs[0].kind.same(FLOAT)]

    def notes(self) -> Iterator[str]:
        """What users must know of the file, in sentences."""
        for kind, ends in (("input", self.inputs), ("output", self.outputs)):
            for name, (tensor, order) in ends.items():
                if order != plain(tensor.rank):
                    yield f"{kind} {name!r} has its channels last: {'x'.join(map(str, tensor.shape))}"
        if self.floats and any(op.code == "QUANTIZE" for op in self.ops):
            told = ", ".join(f"{count} {code}" for code, count in Counter(self.floats).most_common())
            yield f"computes in floats: {told}; quantize --target tflite gives integers to all that has them"

    def drop_dead(self) -> None:
        """Leave out operators whose results nobody reads."""
        needed, kept = self.ends(), []
        for op in reversed(self.ops):
            if needed.intersection(op.outputs):
                kept.append(op)
                needed.update(tensor for tensor in op.inputs if tensor is not None)
        self.ops = kept[::-1]
