"""Gradients of a model's loss with respect to its weights, over calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...graph.errors import IntaglioError
from ...graph.index import index_of
from ...graph.layer import Layer
from ...graph.model import Model
from ...graph.traits import Trait, has
from ...measure.data.source import DataSource
from ..base import Context
from .runner import require_data, run_bytes

if TYPE_CHECKING:
    from ...measure.autograd.loss import Loss
    from ...measure.autograd.network import Network

_CURVED = 4
"""Samples whose second derivatives are taken at once: what both passes compute is held."""
BATCH = 16
"""Samples whose mean loss one gradient is of, as many as ever fit into memory: squares depend on it."""
_FIX = "choose a way that needs no gradients: intaglio passes --json tells what each needs"


class Gradient(NamedTuple):
    """Of one weight: the mean over the batches, the mean of the squares, and, where it was asked for, the product of the
    second derivatives with all means. Shapes: those of the weight."""

    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    curved: NDArray[np.float64] | None = None

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Gradient:
        """Of a weight that the loss does not depend on."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape))


@dataclass(frozen=True)
class Gradients:
    """By weight; of those that are not here the loss does not depend on them. ``told`` says what the loss is."""

    of: Mapping[str, Gradient]
    told: str

    @property
    def note(self) -> str:
        return f"gradients are of {self.told}"

    def matrices(self, layer: Layer) -> Gradient:
        """With respect to a layer's matrices. Shapes: (groups, outputs, columns)."""
        mean, squares = (layer.folded(v) for v in (self.of.get(layer.weight) or Gradient.none(layer.shape))[:2])
        return Gradient(mean / layer.alpha, squares / layer.alpha**2)


def gradients(model: Model, context: Context, *, curved: bool = False) -> Gradients:
    """Of all float weights, over batches of ``BATCH`` samples in the order of the data.

    A batch that memory does not hold is run in parts, whose gradients add up: what comes of it changes by rounding only.
    A model that insists on another number of samples has batches of as many such runs as reach ``BATCH``.

    Raises:
        UsageError: there is no calibration data.
        IntaglioError: an operator does not run in torch, no weight has a gradient, or one is not finite.
    """
    from ...measure.autograd.network import one_thread

    with one_thread():
        return _gradients(model, require_data(context, without=""), context, curved)


def _gradients(model: Model, data: DataSource, context: Context, curved: bool) -> Gradients:
    from ...measure.autograd.loss import loss_for
    from ...measure.autograd.network import Network

    loss = loss_for(model, data)
    network = Network(model, loss.outputs, trained=model.weights)
    sums = {name: np.zeros((2, *tensor.shape)) for name, tensor in network.trained.items()}
    seen = waiting = 0
    for piece in data.batches(_part(model, data, context.memory)):
        total = loss.summed(network(piece.inputs), piece)
        if not total.requires_grad:
            raise IntaglioError(
                f"no weight has a gradient of {loss.told}", why="no path of floats leads to it", fix=_FIX
            )
        total.backward()  # type: ignore[no-untyped-call]
        seen, waiting = seen + piece.count, waiting + piece.count
        if waiting >= BATCH:
            _take(network.trained, sums, waiting)
            waiting = 0
        context.tick(seen, data.samples)
    if waiting:
        _take(network.trained, sums, waiting)
    found = {name: _mean(name, both / seen) for name, both in sums.items()}
    if curved:
        kept = {name for node in model.graph.node if has(node, Trait.STANDARDIZES) for name in node.input[3:5]}
        along = _curvature(network, loss, data, {n: one.mean * (n not in kept) for n, one in found.items()})
        found = {name: one._replace(curved=along[name]) for name, one in found.items()}
    return Gradients(found, loss.told)


def _curvature(
    network: Network, loss: Loss, data: DataSource, means: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """The mean over samples of second derivatives times ``means``, which are zero for what no training moves. Source: Pearlmutter, Neural Computation 6(1), 1994."""
    import torch

    names, seen = list(means), 0
    along = [torch.tensor(means[name], dtype=network.dtype) for name in names]
    sums = {name: np.zeros(mean.shape) for name, mean in means.items()}
    for piece in data.batches(_CURVED):
        total = loss.summed(network(piece.inputs), piece)
        tensors = [network.trained[name] for name in names]
        slopes = torch.autograd.grad(total, tensors, create_graph=True, allow_unused=True, materialize_grads=True)
        dot = sum(((slope * one).sum() for slope, one in zip(slopes, along, strict=True)), torch.zeros(()))
        for name, value in zip(names, torch.autograd.grad(dot, tensors, materialize_grads=True), strict=True):
            sums[name] += value.numpy()
        seen += piece.count
    return {name: value / seen for name, value in sums.items()}


def _part(model: Model, data: DataSource, memory: int) -> int:
    """Samples that run at once, a power of two: what they compute is held until gradients have come back through it."""
    first = next(data.batches(1))
    held = 2 * sum(run_bytes(model, list(index_of(model).place), first.inputs).values())
    size = BATCH
    while size > 1 and size * held > memory:
        size //= 2
    return size


def _take(trained: Mapping[str, Any], sums: Mapping[str, NDArray[np.float64]], count: int) -> None:
    """Add the gradient of a batch's mean loss, times its samples, and set it back."""
    for name, tensor in trained.items():
        if tensor.grad is not None:
            mean = tensor.grad.numpy().astype(np.float64) / count
            sums[name][0] += mean * count
            sums[name][1] += np.square(mean) * count
            tensor.grad = None


def _mean(name: str, both: NDArray[np.float64]) -> Gradient:
    if not np.isfinite(both).all():
        raise IntaglioError(
            f"the gradient of {name!r} holds NaN or infinity",
            why="some operator has no finite slope where the data lead it, such as a square root at 0",
            fix=_FIX,
        )
    return Gradient(both[0], both[1])
