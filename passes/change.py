"""The result of every pass: the new model, what became of its layers, what proves it, and what to tell a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..graph.cost import cost
from ..graph.errors import IntaglioError
from ..graph.io.save import file_bytes
from ..graph.model import Model
from .budget.amounts import Amounts

if TYPE_CHECKING:
    from .budget.latency_target import LatencyReport


@dataclass(frozen=True)
class Change:
    """What a pass made of ``original``. A pass that found nothing to do gives ``original`` back as ``model``.

    ``layers`` tells as plain data what became of each layer, or of each of what ``units`` names; ``details`` is all else
    that is told, as plain data. ``reference`` makes the model that the new one was compared with, ``proved`` tells the
    outcome in a sentence. ``advice`` is what to try where the result turns out ``slower``, or its accuracy ``collapsed``.
    ``refusal`` is why the result should not be written unless the user insists. Units: ``seconds``.
    """

    original: Model
    model: Model
    layers: Sequence[Mapping[str, Any]] = ()
    units: str = "layers"
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    proof: Any = None
    proved: str = ""
    reference: Callable[[], Model] | None = None
    latency: LatencyReport | None = None
    advice: Mapping[str, str] = field(default_factory=dict)
    refusal: IntaglioError | None = None
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        return self.model is not self.original

    @cached_property
    def before(self) -> Amounts:
        return amounts(self.original)

    @cached_property
    def after(self) -> Amounts:
        return amounts(self.model) if self.changed else self.before

    def as_dict(self) -> dict[str, Any]:
        """As plain data: what ``--json`` prints of it."""
        before, after = self.before, self.after
        return {
            "before": before.as_dict(),
            "after": after.as_dict(),
            "kept": before.kept(after),
            **self.details,
            **({"latency_target": self.latency.as_dict()} if self.latency else {}),
            self.units: list(self.layers),
            **({"verified": self.proof.as_dict() if self.proof else None} if self.reference else {}),
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def amounts(model: Model) -> Amounts:
    """What a model costs."""
    return Amounts.counted(cost(model), file_bytes(model))
