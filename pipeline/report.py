"""What a run tells: of one pass or of several in a row, what they did and what that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..graph.model import Model
from ..passes.change import Change


@dataclass(frozen=True)
class Report:
    """The outcome of a run. ``change`` is what all passes together made of the original, ``notes`` are to be told,
    ``recipe`` says how it was made.

    ``accuracy`` has every metric of both models, None without labelled data; ``latency_ms`` both models' times, None
    where they were not measured. ``out`` is the file that was written, if any.
    """

    change: Change
    notes: Sequence[str]
    recipe: Mapping[str, Any]
    accuracy: dict[str, dict[str, float]] | None = None
    latency_ms: dict[str, Any] | None = None
    out: Path | None = None

    @property
    def model(self) -> Model:
        """The new model."""
        return self.change.model

    def as_dict(self) -> dict[str, Any]:
        """As plain data: what commands print with ``--json``."""
        original = self.change.original
        told: dict[str, Any] = {
            "model": str(original.source) if original.source else None,
            "out": str(self.out) if self.out else None,
        }
        notes = [*original.notes, *self.notes]
        if not self.change.changed:
            return {**told, "changed": False, "notes": notes}
        told |= {**self.change.as_dict(), "notes": notes}
        measured = {"accuracy": self.accuracy, "latency_ms": self.latency_ms}
        return {**told, **{name: values for name, values in measured.items() if values}}


def in_a_row(original: Model, names: Sequence[str], changes: Sequence[Change]) -> Change:
    """Several changes, each of what the one before it made, as one."""
    if len(changes) == 1:
        return changes[0]
    return Change(
        original,
        changes[-1].model,
        [{"name": name, **change.as_dict()} for name, change in zip(names, changes, strict=True)],
        units="passes",
        notes=[note for change in changes for note in change.notes],
        advice={key: text for change in changes for key, text in change.advice.items()},
        refusal=next((change.refusal for change in changes if change.refusal), None),
        seconds=sum(change.seconds for change in changes),
    )
