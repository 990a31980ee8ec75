"""Schemes: which numbers become which integers or small floats. Each is a function in a file of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ...graph.errors import UsageError
from ...graph.registry import Registry
from ...graph.spec import Spec
from ..precision.grid import Grid
from ..precision.result import Request, Result
from .options import QuantizeOptions
from .targets import TARGETS, Target


@dataclass(frozen=True)
class Job(Request[QuantizeOptions]):
    """A request that says what will run its result."""

    @property
    def target(self) -> Target:
        return TARGETS[self.options.target]


Scheme = Callable[[Job], Result]


def _meant(name: str) -> str:
    """The scheme that a name of integers means, as other tools call them."""
    bits = re.fullmatch(r"(?:u?int|q|i|u)([2348])", name.lower())
    return "" if bits is None else "w8 or int8" if bits[1] == "8" else f"w{bits[1]}"


SCHEMES: Registry[Scheme] = Registry("scheme", "intaglio.schemes", "intaglio.passes.quantize", meant=_meant)
_STUDY = re.compile(r"w(\d+)a(\d+)")


def study(name: str) -> tuple[Grid, Grid] | None:
    """Grids of weights and of (unsigned) activations for a name such as ``w4a8``; None for other names.

    Raises:
        UsageError: so many bits there are not.
    """
    found = _STUDY.fullmatch(name)
    if not found:
        return None
    weights, activations = int(found[1]), int(found[2])
    if not 2 <= weights <= 8 or not 2 <= activations <= 16:
        raise UsageError(
            f"scheme {name!r} cannot be stored", fix="weights have 2 to 8 bits and activations 2 to 16, such as w4a8"
        )
    return Grid(weights), Grid(activations, signed=False)


def scheme_named(spec: Spec) -> Scheme:
    """Raises UsageError for a name that stands for nothing; lists near ones."""
    if isinstance(spec, str) and study(spec) is not None and spec not in SCHEMES:
        return SCHEMES["wXaY"]
    return SCHEMES[spec]
