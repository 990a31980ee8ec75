"""The table of conversions: one small function an ONNX operator, each registered by the operator's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ...graph.nodes import attribute
from ...graph.registry import registers

if TYPE_CHECKING:
    from onnx import NodeProto

Convert = Callable[..., None]
"""Writes a step, with a builder."""
Question = Callable[..., bool]
"""Of a node in a plan."""


@dataclass(frozen=True)
class Conversion:
    """``convert`` writes one step. ``integer`` tells of which nodes there are kernels for 8 bits; ``narrow`` ones
    have none for 16. ``fuses`` ones rectify what they make."""

    convert: Convert
    integer: bool | Question = False
    fuses: bool = False
    narrow: bool = False

    def is_integer(self, *node_in_plan: object) -> bool:
        return self.integer if isinstance(self.integer, bool) else self.integer(*node_in_plan)


TABLE: dict[str, Conversion] = {}
_HOMES = ("convolution", "dense", "einsum", "moves", "norm", "pointwise", "pool", "recurrent", "reduce", "resize")


def converts(
    *names: str, integer: bool | Question = False, fuses: bool = False, narrow: bool = False
) -> Callable[[Convert], Convert]:
    """Register a conversion under names of ONNX operators."""

    def add(function: Convert) -> Convert:
        registers(TABLE)(*names)(Conversion(function, integer, fuses, narrow))
        return function

    return add


def conversions() -> Mapping[str, Conversion]:
    """The whole table."""
    for home in _HOMES:
        import_module(f".operators.{home}", __package__)
    return TABLE


class Refused(Exception):
    """A node that the format has no way to say; the reason, and what to do instead. ``follows``: it may be of another's making."""

    def __init__(self, why: str, instead: str = "", *, follows: bool = False) -> None:
        super().__init__(why)
        self.why, self.instead, self.follows = why, instead, follows


def axis_of(node: NodeProto, rank: int, default: int) -> int:
    """The axis along which an operator goes, from the front. Raises Refused of a single number."""
    if not rank:
        raise Refused("a single number has no axis to go along")
    return int(attribute(node, "axis", default)) % rank
