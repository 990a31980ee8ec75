"""Meeting a limit on the bytes of a file, of which only a part is known before it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...graph.errors import TargetUnreachable
from ...graph.io.save import file_bytes
from ...graph.layer import Layer
from ...graph.model import Model
from ..precision.result import Result

_ROUNDS = 4


def fit_file_size(model: Model, size: float, make: Callable[[float], Result]) -> Result:
    """What ``make`` gives for a file of so many bytes, with a limit that is corrected by what it misses.

    What a file takes beside weights is only known when it is made.

    Raises:
        TargetUnreachable: the file stays larger than the fraction ``size`` of the model's.
    """
    wanted = size * file_bytes(model)
    over = excess = 0.0
    for _ in range(_ROUNDS):
        result = make(wanted - over)
        excess = file_bytes(result.model) - wanted
        if excess <= 0:
            return result
        over += excess
    raise TargetUnreachable(
        f"size={size:g} cannot be reached: the smallest file found has {1 + excess / wanted:.2f} times as many bytes",
        fix="allow more, or remove channels first with intaglio prune",
    )


def room_for(layers: Mapping[str, Layer], model: Model, file: float) -> float:
    """Bytes that a file of so many leaves for the layers' weights."""
    return file - (file_bytes(model) - sum(model.weights[one.weight].nbytes for one in layers.values()))
