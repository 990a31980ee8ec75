"""Meeting a limit on the bytes of a file, of which only a part is known before it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

from ...graph.errors import TargetUnreachable
from ...graph.io.save import file_bytes
from ...graph.layer import Layer
from ...graph.model import Model
from ..precision.result import Result

_ROUNDS = 4


def fit_file_size(
    whole: float,
    size: float,
    smallest: Result,
    make: Callable[[float], Result],
    *,
    more: str = "",
    rounds: int = _ROUNDS,
) -> Result:
    """What ``make`` gives for a file of the fraction ``size`` of ``whole`` bytes, with a limit that is corrected by what
    it misses.

    What a file takes beside weights is only known when it is made. ``smallest`` is as small as the result can be; what
    its weights are does not matter. ``more`` is what else may help.

    Raises:
        TargetUnreachable: that is larger.
    """
    wanted, least = size * whole, file_bytes(smallest.model)
    if least > wanted:
        raise _unreachable(size, least / whole, smallest, more)
    over = 0.0
    for _ in range(rounds):
        result = make(wanted - over)
        excess = file_bytes(result.model) - wanted
        if excess <= 0:
            return result
        over += excess
    result = make(0.0)
    if file_bytes(result.model) > wanted:
        raise _unreachable(size, file_bytes(result.model) / whole, result, more)
    return result


def _unreachable(size: float, least: float, smallest: Result, more: str) -> TargetUnreachable:
    lowest = ceil(1000 * least) / 1000
    stay = sorted(set(smallest.skipped.values()))[:3]
    return TargetUnreachable(
        f"target size={size:g} cannot be reached: lowest reachable is {lowest:.3f}",
        why="; ".join(stay) or "every layer has the fewest bits that it can have",
        fix=f"allow more (--size {lowest:.3f}), {more}or remove channels first with intaglio prune",
    )


def room_for(layers: Mapping[str, Layer], model: Model, file: float) -> float:
    """Bytes that a file of so many leaves for the layers' weights."""
    weights = {one.weight for one in layers.values()}
    return file - (file_bytes(model) - sum(model.weights[name].nbytes for name in weights))
