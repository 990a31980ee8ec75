"""What a way of choosing channels is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...graph.coupling import Coupling, Removal
from ...graph.model import Model
from ..base import Context
from .choose import Limits
from .options import PruneOptions


@dataclass(frozen=True)
class Job:
    """One request. ``source`` is the model as the user gave it, ``coupling`` that of an equal one.

    ``cost`` says what a removal leaves, in the target's own unit; ``whole`` is what the original has. With the target
    ``channels`` every group keeps a fraction of its own. ``needs`` are those of the criterion.
    """

    asked: PruneOptions
    source: Model
    coupling: Coupling
    numbers: Sequence[int]
    limits: Limits
    whole: float
    cost: Callable[[Removal], float]
    context: Context
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What goes, from a model whose constants may have changed, and what there is to tell about it."""

    removal: Removal
    notes: list[str] = field(default_factory=list)
    details: Mapping[str, Any] = field(default_factory=dict)


class Planner(Protocol):
    """A criterion at work on one job."""

    def plan(self, limit: float) -> Removal:
        """The removal that costs least and leaves no more than ``limit``. Raises TargetUnreachable."""

    def widths(self, removal: Removal) -> dict[str, int]:
        """What each group was to keep where that was planned, by its name: asked for as ``widths``, the same removal is
        planned.
        """

    def finish(self, removal: Removal) -> Choice:
        """Make up for what was planned to go."""
