"""A node at work in torch: its operands and attributes, and the one table of what operators compute.

An entry of the table says which small function of torch takes which operands: ``Network`` calls it with tensors, and an
exported module is the same call as text. So an entry asks its operands only through ``Operands``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
class Step:
    """A call: ``function`` is one of torch, or one of this folder that needs nothing but torch, so that its text can be
    copied. ``results`` is how many it gives in a tuple, 0 for one that is no tuple.
    """

    function: Callable[..., Any]
    arguments: Sequence[Any]
    named: Mapping[str, Any] = field(default_factory=dict)
    results: int = 0

    def __call__(self) -> Result:
        made: Result = self.function(*self.arguments, **self.named)
        return made


def step(function: Callable[..., Any], *arguments: Any, **named: Any) -> Step:
    return Step(function, arguments, named)


class Operands(ABC):
    """What an entry of the table may ask of a node. Answers that are ``Any`` are values in a run and text in a module."""

    node: onnx.NodeProto
    training: Any

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    @property
    def all(self) -> list[Any]:
        """All operands as tensors."""
        return [self[k] for k in range(len(self.node.input))]

    @abstractmethod
    def has(self, position: int) -> bool: ...

    @abstractmethod
    def __getitem__(self, position: int) -> Any:
        """An operand as a tensor, None where it is absent."""

    @abstractmethod
    def rank(self, position: int) -> int: ...

    @abstractmethod
    def array(self, position: int) -> np.ndarray | None:
        """An operand whose numbers decide on which function it is. Raises Unsupported where they are not known."""

    @abstractmethod
    def constant(self, position: int) -> np.ndarray | None:
        """The same, or None where it is not known."""

    @abstractmethod
    def ints(self, position: int, name: str = "") -> Any:
        """A list of whole numbers, which older operator sets have as an attribute; None where it is absent."""

    @abstractmethod
    def numbers(self, position: int) -> Any:
        """A list of floats."""

    @abstractmethod
    def number(self, position: int, default: Any) -> Any:
        """The only number of an operand."""

    @abstractmethod
    def limit(self, position: int) -> Any:
        """A number that gradients may pass, None where it is absent."""

    @abstractmethod
    def kind(self, dtype: np.dtype) -> Any:
        """The type of torch that numbers of this one have."""


@dataclass(frozen=True)
class Call(Operands):
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

    def __getitem__(self, position: int) -> torch.Tensor | None:
        return self.tensor(position) if self.has(position) else None

    def has(self, position: int) -> bool:
        return len(self.values) > position and self.values[position] is not None

    def rank(self, position: int) -> int:
        value = self.values[position]
        return 0 if value is None else value.ndim

    def array(self, position: int) -> np.ndarray | None:
        value = self.values[position] if self.has(position) else None
        return value.detach().numpy() if isinstance(value, torch.Tensor) else value

    def constant(self, position: int) -> np.ndarray | None:
        value = self.values[position] if self.has(position) else None
        return None if isinstance(value, torch.Tensor) else value

    def ints(self, position: int, name: str = "") -> list[int] | None:
        found = self.array(position)
        found = self.attr(name) if found is None and name else found
        return None if found is None else as_ints(found)

    def numbers(self, position: int) -> list[float]:
        found = self.tensor(position).detach()
        return [float(one) for one in found.tolist()]

    def number(self, position: int, default: Any) -> Any:
        found = self.array(position)
        return default if found is None else found.item()

    def limit(self, position: int) -> torch.Tensor | None:
        return self[position]

    def kind(self, dtype: np.dtype) -> torch.dtype:
        """All floats are one type here; numbers that a narrower one would round keep their digits."""
        if dtype.kind in "fV":
            return self.dtype
        if dtype.kind not in "biu":
            raise Unsupported(f"it makes {dtype} of numbers")
        return torch.from_numpy(np.zeros(0, dtype)).dtype


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


OPERATORS: dict[str, Callable[[Operands], Step]] = {}
"""What each operator computes, by its key."""
runs = registers(OPERATORS)
KEPT_APART: dict[str, Callable[[Call], Result]] = {}
"""What networks compute in a way of their own, by the same keys: sizes as arrays, and signs that are packed in bits."""
computes = registers(KEPT_APART)


def made_of(function: Callable[..., Any], **defaults: Any) -> Callable[[Operands], Step]:
    """An operator that is a function of all its operands, and of these attributes in this order."""
    return lambda c: step(function, *c.all, *(c.attr(name, default) for name, default in defaults.items()))
