"""A node at work in torch: its operands and attributes, and the table of what operators compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch

from ...graph.nodes import as_ints, attribute
from ...graph.registry import registers

Value = torch.Tensor | np.ndarray
"""Of a tensor in a run: what follows from shapes and indices alone stays an array, and is computed exactly."""
Result = Value | Sequence[Value]


class Unsupported(Exception):
    """A form of an operator that is not there; completes *does not run in torch: ...*."""


@dataclass(frozen=True)
class Call:
    """``dtype`` is what all floats are computed in. While ``training``, normalizations use and update batch statistics."""

    node: onnx.NodeProto
    values: Sequence[Value | None]
    dtype: torch.dtype
    training: bool = False

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [self.tensor(k) for k in range(len(self.values))]

    def tensor(self, position: int = 0) -> torch.Tensor:
        value = self.values[position]
        assert value is not None, "onnx's checker refuses nodes without what they must have"
        return as_tensor(value, self.dtype)

    def optional(self, position: int) -> torch.Tensor | None:
        return self.tensor(position) if self.has(position) else None

    def has(self, position: int) -> bool:
        return len(self.values) > position and self.values[position] is not None

    def array(self, position: int) -> np.ndarray | None:
        """An operand whose numbers decide on the form of the result, without a gradient."""
        value = self.values[position] if self.has(position) else None
        return value.detach().numpy() if isinstance(value, torch.Tensor) else value

    @property
    def arrays(self) -> list[np.ndarray | None]:
        """All operands but the first, which is None."""
        return [None, *(self.array(k) for k in range(1, len(self.values)))]

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def ints(self, position: int, name: str = "") -> list[int] | None:
        """An operand, which older operator sets have as an attribute."""
        found = self.array(position)
        found = self.attr(name) if found is None and name else found
        return None if found is None else as_ints(found)


def as_tensor(value: Value, dtype: torch.dtype) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if is_float(value):
        return torch.tensor(value.astype(np.float64), dtype=dtype)
    return torch.tensor(value if value.dtype in (np.bool_, np.uint8) else value.astype(np.int64))


def is_float(value: Value) -> bool:
    """Also of a type that NumPy has no letter of its own for, such as bfloat16."""
    if isinstance(value, torch.Tensor):
        return value.is_floating_point()
    return value.dtype.kind == "f" or (value.dtype.kind == "V" and value.dtype.names is None)


OPERATORS: dict[str, Callable[[Call], Result]] = {}
"""What each operator computes, by its key."""
runs = registers(OPERATORS)


def made_of(function: Callable[..., torch.Tensor], **defaults: Any) -> Callable[[Call], torch.Tensor]:
    """An operator that is a function of all its operands, and of these attributes by their names."""
    return lambda c: function(*c.tensors, **{name: c.attr(name, default) for name, default in defaults.items()})
