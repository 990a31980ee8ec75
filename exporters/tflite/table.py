"""The table of conversions: one small function an ONNX operator, each registered by the operator's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ...graph.registry import registers

if TYPE_CHECKING:
    import onnx

    from .builder import Builder
    from .plan import Plan, Step

Question = Callable[["onnx.NodeProto", "Plan"], bool]


@dataclass(frozen=True)
class Conversion:
    """``convert`` writes one step. ``integer`` tells of which nodes there are kernels for 8 bits; ``fuses`` ones rectify
    what they make."""

    convert: Callable[[Step, Builder], None]
    integer: bool | Question = False
    fuses: bool = False

    def is_integer(self, node: onnx.NodeProto, plan: Plan) -> bool:
        return self.integer if isinstance(self.integer, bool) else self.integer(node, plan)


TABLE: dict[str, Conversion] = {}
_HOMES = ("convolution", "dense", "moves", "norm", "pointwise", "pool", "recurrent", "reduce", "resize")


def converts(
    *names: str, integer: bool | Question = False, fuses: bool = False
) -> Callable[[Callable[[Step, Builder], None]], Callable[[Step, Builder], None]]:
    """Register a conversion under names of ONNX operators."""

    def add(function: Callable[[Step, Builder], None]) -> Callable[[Step, Builder], None]:
        registers(TABLE)(*names)(Conversion(function, integer, fuses))
        return function

    return add


def conversions() -> Mapping[str, Conversion]:
    """The whole table."""
    for home in _HOMES:
        import_module(f".operators.{home}", __package__)
    return TABLE


class Refused(Exception):
    """A node that the format has no way to say; the reason, and what to do instead."""

    def __init__(self, why: str, instead: str = "") -> None:
        super().__init__(why)
        self.why, self.instead = why, instead
