"""Networks that were pruned before they were trained, at the size that signals need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from .....graph.errors import UsageError
from .....graph.io.load import load
from .....graph.layers import Layers
from ..method import METHODS
from .masked import Masked

if TYPE_CHECKING:
    from ...engine.student import Student


class Edge(BaseModel):
    init: str = Field(default="", description="the network before it was pruned, which had the right size")
    variance: float = Field(
        default=2.0, gt=0, description="without, that of the weights of an output, summed; 2 goes with ReLU"
    )


@METHODS.register("rescaled", options=Edge)
class Rescaled(Masked):
    """Weights that a pruning at initialization left grow until each layer has the energy that it had, then are trained.

    Source: Hayou et al., "Robust pruning at initialization", ICLR 2021, arXiv:2002.08797 (the rescaling trick).
    Differs: sums over the weights at hand stand for the expectation.
    """

    def __init__(self, options: Edge) -> None:
        self._options = options

    def start(self, student: Student) -> None:
        """Raises UsageError where ``init`` is another network."""
        super().start(student)
        before = load(Path(self._options.init)).weights if self._options.init else {}
        outputs = {layer.weight: layer.outputs for layer in Layers(student.model).weighted}
        for name, value in self.weights(student).items():
            there = float(value.square().sum())
            if before and (name not in before or before[name].shape != tuple(value.shape)):
                raise UsageError(
                    f"{self._options.init} holds no weight {name!r} of the model's shape", fix="give the same network"
                )
            energy = float((before[name] ** 2).sum()) if before else self._options.variance * outputs[name]
            if there:
                student.moving[name].data.mul_((energy / there) ** 0.5)
