"""The result of every pass: the new model, what became of its layers, what proves it, and what to tell a user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..graph.cost import cost
from ..graph.errors import IntaglioError, NothingChanged
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
    ``refusal`` is why the result should not be written unless the user insists. ``stated`` are options of the pass that ask
    for just this, where what was asked for made it measure times. Units: ``seconds``.
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
    stated: Mapping[str, Any] = field(default_factory=dict)
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


WORTH = 0.03
"""The fraction of a file that must be saved for a change that adds noise to be worth it."""


def saves_nothing(
    original: Model, result: Model, done: str, reasons: Iterable[str] = (), *, least: float = 0.0
) -> NothingChanged | None:
    """Why a result should not be written that saves less than this fraction of the file's bytes."""
    before, after = file_bytes(original), file_bytes(result)
    if after < before and after <= (1 - least) * before:
        return None
    what = f"{after / before:.1%} of the bytes" if after < before else f"{after:,} bytes, it has {before:,} now"
    beside = ["what it stores beside the numbers takes what they save"]
    told = [*_stored(original), *(beside if after >= before else []), *list(dict.fromkeys(reasons))[:3]]
    return NothingChanged(
        f"the {done} file would have {what}; nothing was written",
        why="; ".join(told or beside),
        fix="try another scheme or target, or write it all the same with --force",
    )


def _stored(model: Model) -> Iterator[str]:
    """What most of the weights are stored as, where that is no single precision."""
    sizes: Counter[str] = Counter()
    for weight in model.weights.values():
        sizes[str(weight.dtype)] += weight.nbytes
    for kind, size in sizes.most_common(1):
        if kind not in ("float32", "float64"):
            yield f"{size / sizes.total():.0%} of the bytes of its weights are {kind} already"


def amounts(model: Model) -> Amounts:
    """What a model costs."""
    return Amounts.counted(cost(model), file_bytes(model))
