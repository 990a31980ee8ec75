"""What is done to a model before its numbers are rounded, outputs equal to rounding: folding, levelling, smoothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ...graph.errors import UsageError
from ...graph.layer import Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...graph.traits import Trait, has
from ..base import Context
from ..calibration.gradients import Gradients, gradients
from ..precision.result import LayerNote, Result
from ..rewrite.edit import Outcome
from ..simplify import fold_batch_norm, with_biases
from .balance.bias_absorption import absorb_high_biases
from .balance.equalize import equalize
from .balance.smooth import smooth
from .scheme import Job


@dataclass(frozen=True)
class Prepared:
    """``kept`` still has its BatchNormalization, which knows what activations are like; ``model`` has it folded."""

    kept: Model
    model: Model
    notes: list[str]
    context: Context

    @cached_property
    def gradients(self) -> Gradients:
        """Of the loss with respect to the weights, for roundings that need them; a note tells of which loss."""
        found = gradients(self.model, self.context)
        self.notes.append(found.note)
        return found


def prepare_model(job: Job, *, level: bool = False, absorb: bool = False) -> Prepared:
    """Fold and give biases; equalize with ``level`` or where the user says so, absorb high biases, smooth if asked.

    Raises:
        UsageError: smoothing was asked for without data.
    """
    options, notes = job.options, []
    kept = job.model
    if level or options.equalize:
        levelled = equalize(kept)
        kept = levelled.model
        notes += [*levelled.notes, _told("equalized", len(levelled.done))]
    if absorb and any(has(n, Trait.STANDARDIZES) for n in kept.graph.node):
        absorbed = absorb_high_biases(kept)
        kept = absorbed.model
    model = with_biases(fold_batch_norm(kept)[0])
    if options.smooth is not None:
        if job.context.data is None:
            raise UsageError("--smooth needs calibration data", fix="add --data, or leave it out")
        memory = job.context.memory // 2
        smoothed = smooth(model, job.context.data, alpha=options.smooth, budget_bytes=memory)
        model = smoothed.model
        notes.append(_told("smoothed what goes into", len(smoothed.done)))
    return Prepared(kept, model, notes, job.context)


def _told(what: str, count: int) -> str:
    return f"{what} {count} layer{'' if count == 1 else 's'}"


def convert_prepared(
    job: Job,
    convert: Callable[..., Outcome],
    counts: Callable[[Layer, Mapping[str, str]], bool],
    weights: str,
    activations: str = "float32",
    method: str = "",
) -> Result:
    """What a conversion node by node makes of the prepared model.

    ``counts`` tells which of its layers are in what was done, the other words are those of ``LayerNote``.
    """
    options, ready = job.options, prepare_model(job)
    found = convert(ready.model, include=options.include, exclude=(*options.exclude, *job.higher_precision))
    layers = [
        LayerNote(one.name, one.node, one.x, weights, activations, method)
        for one in Layers(ready.model).weighted
        if counts(one, found.done)
    ]
    notes = [*found.notes, *ready.notes]
    return Result(found.model, found.done, found.skipped, notes, reference=ready.model, layers=layers)
