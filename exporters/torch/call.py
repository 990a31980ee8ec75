"""A node while it is written down in Python: its operands as expressions, and calls of functions as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from dis import get_instructions
from functools import cache
from inspect import getmodule, isfunction
from types import CodeType
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from ...measure.autograd.call import KEPT_APART, Operands, Step, Unsupported
from ...measure.autograd.table import MODULES, OPERATORS

_SIGNS = {
    torch.add: "+", torch.sub: "-", torch.mul: "*", torch.matmul: "@", torch.eq: "==", torch.ge: ">=", torch.le: "<=",
    torch.greater: ">", torch.less: "<",
}  # fmt: skip
"""What Python has a sign for."""


class Text(str):
    """An expression: it stands in a call as it is."""

    __slots__ = ()


_TRAINING = Text("self.training")


@dataclass(frozen=True)
class Written(Operands):
    """``tensors`` are expressions, None where an operand is absent. ``known`` are arrays that no input changes. ``hosts``
    are sizes as expressions of those of the inputs. ``ranks`` are numbers of axes, None where they are not known.
    """

    node: onnx.NodeProto
    tensors: Sequence[str | None]
    known: Sequence[np.ndarray | None]
    hosts: Sequence[str | None]
    ranks: Sequence[int | None]
    training: Any = _TRAINING

    def __getitem__(self, position: int) -> Text | None:
        value = self.tensors[position] if position < len(self.tensors) else None
        return None if value is None else Text(value)

    def has(self, position: int) -> bool:
        return position < len(self.tensors) and self.tensors[position] is not None

    def rank(self, position: int) -> int:
        found = self.ranks[position]
        if found is None:
            raise Unsupported(f"how many axes operand {position} has is not known")
        return found

    def constant(self, position: int) -> np.ndarray | None:
        return self.known[position] if self.has(position) else None

    def array(self, position: int) -> np.ndarray | None:
        if not self.has(position):
            return None
        value = self.known[position]
        if value is None:
            raise Unsupported(f"operand {position} is not constant")
        return value

    def ints(self, position: int, name: str = "") -> Any:
        if not self.has(position):
            return self.attr(name) if name else None
        found, host = self.known[position], self.hosts[position]
        if found is None:
            return Text(f"{self.tensors[position]}.tolist()" if host is None else host)
        return [int(n) for n in found.reshape(-1)]

    def numbers(self, position: int) -> Any:
        found = self.constant(position)
        return Text(f"{self.tensors[position]}.tolist()") if found is None else [float(n) for n in found.reshape(-1)]

    def number(self, position: int, default: Any) -> Any:
        if not self.has(position):
            return default
        found = self.constant(position)
        if found is None:
            return Text(f"{self.tensors[position]}.item()")
        return found.item() if found.size else default

    def limit(self, position: int) -> Any:
        found = self.constant(position)
        return self[position] if found is None else found.item()

    def kind(self, dtype: np.dtype) -> Text:
        if not isinstance(getattr(torch, dtype.name, None), torch.dtype):
            raise Unsupported(f"it makes {dtype.name}")
        return Text(f"torch.{dtype.name}")


def spelled(one: Step) -> str:
    """A call as an expression."""
    given = [word(value) for value in one.arguments]
    if one.function is torch.clone:
        return given[0]
    if one.function in _SIGNS:
        return f" {_SIGNS[one.function]} ".join(given)
    named = [f"{name}={word(value)}" for name, value in one.named.items()]
    return f"{_torch_names().get(id(one.function)) or one.function.__name__}({', '.join([*given, *named])})"


def word(value: Any) -> str:
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(word(one) for one in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


@cache
def _torch_names() -> dict[int, str]:
    """Functions of torch by their identity, under the name that they are called by."""
    modules = {"F": F, "torch": torch}
    return {
        id(one): f"{home}.{name}"
        for home, module in modules.items()
        for name, one in vars(module).items()
        if callable(one)
    }


@cache
def own_functions() -> dict[str, Callable[..., Any]]:
    """Those of ours that need nothing but torch: what the table calls, and what is called there."""
    entries = {*OPERATORS.values(), *KEPT_APART.values()}
    found = {name: one for module in MODULES for name, one in vars(module).items() if getmodule(one) is module}
    return {n: one for n, one in found.items() if isfunction(one) and one not in entries and not n.startswith("_")}


def called(names: Collection[str]) -> list[str]:
    """Names of ours among these, and of all that they call, in an order in which they can stand."""
    functions, todo, found = own_functions(), list(names), set[str]()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [one for one in _reads(functions[name].__code__) if one in functions]
    return [name for name in functions if name in found]


def _reads(code: CodeType) -> set[str]:
    """Global names in a function, and in those within it."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    own = {str(one.argval) for one in get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    return own.union(*(_reads(one) for one in inner))
