"""A node while it is written down in Python: its operands as expressions, and the table of how operators are spelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ...graph.nodes import attribute
from ...graph.registry import registers

SPELLED: dict[str, Callable[[Call], str]] = {}
"""By operator the expression of its results: one value, or a tuple of as many as the node has outputs."""
spells = registers(SPELLED)


class Unspelled(Exception):
    """A form of an operator that is not there; completes *cannot be written down: ...*."""


@dataclass(frozen=True)
class Call:
    """``tensors`` are expressions, None where an operand is absent. ``known`` are arrays that no input changes. ``hosts``
    are sizes as expressions of those of the inputs. ``dims`` are shapes, None for lengths that free sizes decide on.
    """

    node: onnx.NodeProto
    tensors: Sequence[str | None]
    known: Sequence[np.ndarray | None]
    hosts: Sequence[str | None]
    dims: Sequence[tuple[int | None, ...] | None]

    def __getitem__(self, position: int) -> str:
        value = self.tensors[position] if position < len(self.tensors) else None
        return value or "None"

    def has(self, position: int) -> bool:
        return position < len(self.tensors) and self.tensors[position] is not None

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def rank(self, position: int = 0) -> int:
        dims = self.dims[position]
        if dims is None:
            raise Unspelled(f"the shape of operand {position} is not known")
        return len(dims)

    def shape(self, position: int = 0, start: int = 0) -> tuple[int, ...]:
        """Lengths of the axes from ``start`` on, all of them numbers."""
        found = (self.dims[position] or ())[start : self.rank(position)]
        numbers = tuple(n for n in found if n is not None)
        if len(numbers) < len(found):
            raise Unspelled("it depends on sizes that are free: pin them, --shape NAME:DIMS")
        return numbers

    def array(self, position: int, name: str = "") -> np.ndarray | None:
        """An operand, or an attribute, that decides on the form of the result."""
        if not self.has(position):
            found = self.attr(name) if name else None
            return None if found is None else np.asarray(found)
        value = self.known[position]
        if value is None:
            raise Unspelled(f"operand {position} is not constant")
        return value

    def ints(self, position: int, name: str = "") -> list[int] | None:
        value = self.array(position, name)
        return None if value is None else [int(n) for n in value.reshape(-1)]

    def sizes(self, position: int) -> str:
        """A list of sizes, which those of the inputs may decide on."""
        host = self.hosts[position] if position < len(self.hosts) else None
        return str(self.ints(position)) if host is None else host
