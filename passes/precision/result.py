"""What became of a model that was given fewer bits, and of each of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from ...graph.io.save import file_bytes
from ...graph.model import Model
from ..base import Context
from ..rewrite.edit import Outcome

Asked = TypeVar("Asked")


@dataclass(frozen=True)
class Request(Generic[Asked]):
    """What a scheme is asked for. ``higher_precision`` are layers, by name, that keep more bits than it says, or stay in
    float: they hurt most. ``model`` is the live part of the one that was ``given``.
    """

    model: Model
    options: Asked
    context: Context
    higher_precision: frozenset[str] = frozenset()
    given: Model | None = None

    def bytes_for(self, size: float) -> float:
        """Of a file that is this fraction of the one that the user gave."""
        return size * file_bytes(self.given or self.model)


@dataclass(frozen=True)
class LayerNote:
    """What became of one layer: its name, the tensors it makes and reads, the kinds of its weights and of what it reads.

    ``error`` is the expected squared error of its output by its weights, relative to the output's variance.
    """

    name: str
    tensor: str
    reads: str
    weights: str
    activations: str = "float32"
    method: str = ""
    error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return {
            "name": self.name,
            "weights": self.weights,
            "activations": self.activations,
            "method": self.method,
            "weight_error": self.error,
        }


@dataclass(frozen=True)
class Result(Outcome):
    """What a scheme made. ``reference`` is a float model equal to the original that has the result's tensor names.

    ``accelerated`` is False for graphs that only show what integers would cost in accuracy. ``noise`` is that of the
    outputs beside the job's model, see ``outputs_noise``, where it was measured on the way.
    """

    reference: Model = field(kw_only=True)
    layers: Sequence[LayerNote] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    accelerated: bool = True
    noise: Mapping[str, float] | None = None

    @classmethod
    def none(cls, model: Model, why: str) -> Result:
        """Nothing was done, as nothing had to be."""
        return cls(model, notes=[why], reference=model)

    def noted(self, *sentences: str) -> Result:
        return replace(self, notes=[*self.notes, *sentences])
