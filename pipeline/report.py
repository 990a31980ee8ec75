"""What a run tells: of one pass or of several in a row, what they did and what that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..graph.errors import GateFailed, IntaglioError
from ..graph.model import Model
from ..passes.base import Pass
from ..passes.change import Change
from .envelope import envelope, environment
from .gates import missed
from .given import Given


@dataclass(frozen=True)
class Report:
    """The outcome of a run. ``change`` is what all passes together made of the original, ``notes`` are to be told,
    ``warnings`` loudly, ``recipe`` says how it was made, ``plugins`` which other packages took part.

    ``accuracy`` has every metric of both models and what was lost, None without labelled data; ``latency_ms`` both
    models' times, ``outputs`` how far their outputs lie apart, each None where that was not measured. ``gates`` says
    of each gate whether it passed. ``out`` is the file that was written, if any: under another name than asked for where
    a gate was missed. ``last`` is the pass that made the result, ``found`` what a search tells, ``given`` the file that
    all began with, None for a model made in memory. ``refusal`` is why the nearest model that a search found is not
    within its limits.
    """

    change: Change
    notes: Sequence[str]
    recipe: Mapping[str, Any]
    accuracy: dict[str, dict[str, Any]] | None = None
    latency_ms: dict[str, Any] | None = None
    out: Path | None = None
    outputs: dict[str, dict[str, Any]] | None = None
    gates: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    plugins: Sequence[Mapping[str, str]] = ()
    command: str = "run"
    last: Pass | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    given: Given | None = None
    refusal: IntaglioError | None = None

    @property
    def model(self) -> Model:
        """The new model."""
        return self.change.model

    @property
    def failed(self) -> GateFailed | None:
        """What to say of gates and limits that were missed; None where none was."""
        kept, fix = f"the result is kept aside as {self.out}" if self.out else "", "ask for less, or allow more"
        error = missed(self.gates)
        for one in self.found.get("exports", ()) if error is None else ():
            if one["out"] and not one["passed"]:
                error, kept = GateFailed(f"export {one['target']}: {one['told']}"), f"it is kept aside as {one['out']}"
        if one := self.refusal:
            what = "; ".join([one.what, *([error.what] if error else [])])
            error = GateFailed(what)
            kept, fix = "; ".join(filter(None, (one.why, kept))), one.fix
        if error is not None:
            error.report, error.why, error.fix = self, kept, fix
        return error

    def as_dict(self) -> dict[str, Any]:
        """As plain data: what commands print with ``--json``, and what reports in other forms are made of."""
        original = self.change.original
        told = {
            **envelope(self.command),
            "model": str(original.source) if original.source else None,
            "out": str(self.out) if self.out else None,
            "changed": self.change.changed,
            "passed": self.failed is None and all(one["passed"] for one in self.found.get("exports", ())),
            **self.change.as_dict(),
            "gates": list(self.gates),
            "recipe": dict(self.recipe),
            "plugins": list(self.plugins),
            "environment": dict(environment()),
            "notes": [*original.notes, *self.notes],
            "warnings": list(self.warnings),
        }
        times = dict(self.latency_ms or {})
        if self.given:
            told |= self.given.before(self.change.before, self.change.after)
            told["lossless"] = self.given.lossless(self.change.before, times)
            times.pop("loaded", None)
        if (error := self.failed) and self.refusal:
            told["error"] = {"what": error.what, "why": error.why, "fix": error.fix}
        measured = {"accuracy": self.accuracy, "latency_ms": times, "outputs": self.outputs}
        return {**told, **{name: values for name, values in measured.items() if values}, **self.found}


def in_a_row(original: Model, names: Sequence[str], changes: Sequence[Change]) -> Change:
    """Several changes, each of what the one before it made, as one that says what was left after each step."""
    if len(changes) == 1:
        return changes[0]
    return Change(
        original,
        changes[-1].model,
        [
            {"pass": name, **change.after.as_dict(), "seconds": change.seconds, "details": change.as_dict()}
            for name, change in zip(names, changes, strict=True)
        ],
        units="steps",
        notes=[note for change in changes for note in change.notes],
        advice={key: text for change in changes for key, text in change.advice.items()},
        refusal=next((change.refusal for change in changes if change.refusal), None),
        seconds=sum(change.seconds for change in changes),
    )
