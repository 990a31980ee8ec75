"""What gradients are taken of: how wrong a network is, or how much it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from ...graph.errors import BadData
from ...graph.index import index_of
from ...graph.model import Model
from ...graph.traits import Trait, has
from ..accuracy import class_labels
from ..data.source import Batch, DataSource
from .network import Network

Tensor = torch.Tensor


@dataclass(frozen=True)
class Loss:
    """``summed`` over the samples of a batch, of the tensors ``outputs``; ``told`` says in words what it is."""

    outputs: tuple[str, ...]
    told: str
    summed: Callable[[Mapping[str, Tensor], Batch], Tensor]


def loss_for(model: Model, data: DataSource) -> Loss:
    """Cross-entropy of the first output where that scores classes, with the labels or, without any, with the class that
    the network itself takes; for other networks half the squared norm of all outputs.

    What a Softmax made is taken for probabilities, all else for scores before one. Raises BadData where there are no samples.
    """
    output, probabilities = scored_output(model, data)
    if output is None:
        unused = "; the labels are not used, as the first output has not one score per class" if data.labelled else ""
        outputs = tuple(o.name for o in model.graph.output)
        return Loss(outputs, f"the squared norm of the outputs{unused}", _half_squares)
    whose = "the labels of the data" if data.labelled else "the classes that the network itself takes (no labels)"
    summed = partial(_cross_entropy, probabilities=probabilities)
    return Loss((output,), f"the cross-entropy of {output!r} with {whose}", summed)


def scored_output(model: Model, data: DataSource) -> tuple[str | None, bool]:
    """The first output where it scores classes, and whether a Softmax made probabilities of the scores.

    Raises BadData where there are no samples.
    """
    first = next(data.batches(1), None)
    if first is None:
        raise BadData(f"{data.name} holds no samples")
    output = model.graph.output[0].name
    with torch.no_grad():
        found = _flat(Network(model, [output])(first.inputs)[output])
    return (None, False) if found is None else (output, _are_probabilities(model, output))


def _are_probabilities(model: Model, tensor: str) -> bool:
    """Whether a Softmax made them, and they were moved at most."""
    makers = index_of(model).makers
    while (node := makers.get(tensor)) is not None and has(node, Trait.MOVES):
        tensor = node.input[0]
    return node is not None and node.op_type == "Softmax"


def _flat(scores: Tensor) -> Tensor | None:
    """Shapes: (samples, classes, 1, ...) -> (samples, classes); None where that is not what it is."""
    fits = scores.ndim > 1 and scores.shape[1] > 1 and scores[0].numel() == scores.shape[1]
    return scores.flatten(1) if fits and scores.is_floating_point() else None


def _cross_entropy(outputs: Mapping[str, Tensor], batch: Batch, *, probabilities: bool) -> Tensor:
    scores = _flat(next(iter(outputs.values())))
    assert scores is not None, "all batches give what the first one gave"
    scores = scores[: batch.count]
    told = None if batch.labels is None else torch.from_numpy(class_labels(batch.labels, scores.shape[1]))
    logs = scores.clamp_min(torch.finfo(scores.dtype).tiny).log() if probabilities else torch.log_softmax(scores, 1)
    return F.nll_loss(logs, scores.detach().argmax(1) if told is None else told, reduction="sum")


def _half_squares(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Rows that only fill up a batch are left out where samples are rows."""
    rows = batch.count + batch.filled
    real = (y[: batch.count] if y.ndim and len(y) == rows else y for y in outputs.values() if y.is_floating_point())
    return sum((y.square().sum() / 2 for y in real), torch.zeros(()))
