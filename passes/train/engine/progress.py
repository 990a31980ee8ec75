"""Where training stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .student import State


@dataclass
class Progress:
    """Where training stands. ``best`` are the weights with the least loss on samples held back, ``mean`` is a running mean of all weights, ``slower`` what the step size
    was divided by, ``history`` rows of step, loss and loss on samples held back."""

    step: int
    steps: int
    best: State
    best_loss: float
    first_loss: float
    mean: State = field(default_factory=dict)
    best_step: int = 0
    slower: int = 0
    parts: int = 1
    interrupted: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "steps": self.step,
            "best_step": self.best_step,
            "held_back_before": self.first_loss,
            "held_back_after": self.best_loss,
            "history": self.history,
        }
