"""One walk through a network and its compressed twin, from the inputs to the outputs, one layer's turn after the other.

Every layer sees what the compressed network really feeds it and aims at what the original made, so that each repairs
what went wrong before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...graph.index import Index, index_of
from ...graph.layer import Floats, Layer
from ...graph.model import Model
from ..masks import mask_of
from .activation_cache import ActivationCache, Inputs
from .moments import Moments, blas_threads_for
from .reconstruct import REFITS, RIDGE, Fit, Sample, constants_of, damped_hessian, moments_within, ridge
from .samples import PATCHES, moments_of, positions_of, samples_of
from .support import on_support, positive
from .targets import Bounds, ReconstructionTarget

Left = Callable[[str], Mapping[int, NDArray[np.bool_]]]
"""Of a tensor of the original, which indices are left of each axis that shrank."""


class Twin(Protocol):
    """The network as far as it is compressed; it may change during a turn."""

    @property
    def model(self) -> Model: ...

    @property
    def changed(self) -> AbstractSet[str]:
        """Tensors that differ from the original's. What is computed from them need not be among them."""

    @property
    def left(self) -> Left: ...

    def counterpart(self, layer: Layer) -> Layer | None:
        """What became of a layer of the original; None where it is gone."""


class Aims(Protocol):
    """What each layer should bring about."""

    def of(self, layer: Layer) -> ReconstructionTarget: ...


def all_left(tensor: str) -> Mapping[int, NDArray[np.bool_]]:
    """Of twins in which no tensor shrinks."""
    return {}


@dataclass
class Turn:
    """One layer: ``layer`` in the original, ``now`` in its twin. The sum that it goes into should become ``target``.

    ``differs`` says whether what it reads, or what is added to it, differs from the original. Nothing is computed until
    it is asked for.
    """

    layer: Layer
    now: Layer
    target: ReconstructionTarget
    differs: bool
    twin: Twin
    ours: ActivationCache
    theirs: ActivationCache
    positions: int
    left: Left

    @cached_property
    def weight(self) -> Floats:
        """The twin's matrices as the turn begins. Shapes: (groups, outputs, columns)."""
        return self.now.matrix(self.twin.model.weights[self.now.weight])

    @property
    def support(self) -> NDArray[np.bool_] | None:
        """Where its weights may differ from nought, if the model says that they have a mask. Shapes: as ``weight``."""
        mask = mask_of(self.twin.model, self.now.weight)
        return None if mask is None else self.now.folded(mask)

    @property
    def centred(self) -> bool:
        """Whether the layer has a bias, which makes means right whatever the weights are."""
        return self.now.bias is not None

    @property
    def bounds(self) -> Bounds | None:
        """Where what follows cuts values off, if a fit can make use of it."""
        return self.target.activation_bounds if self.centred else None

    def samples(self) -> Iterator[Callable[[], Sample]]:
        """What reaches the layer, and what the sum should become; see ``samples_of``."""
        return samples_of(self.now, self.target, self.ours, self.theirs, self.positions, self.left)

    def reach(self) -> None:
        """Compute what reaches the layer and what the sum should become, and hold them."""
        self.ours.hold([self.now.x, *self.target.others])
        self.theirs.hold([self.target.tensor])

    @cached_property
    def moments(self) -> Moments:
        """Of the patches that reach the layer, and of what it should make of them."""
        self.reach()
        return moments_of(self.now, self.samples())

    def moments_behind(self, fit: Fit) -> Moments:
        """The same for a layer with ``bounds``: where the original is cut off, what is fitted need be no better."""
        assert self.bounds is not None
        return moments_within(self.bounds, self.samples(), self.moments, fit)

    def fit(self, strength: float = RIDGE, rounds: int = REFITS) -> Fit:
        """Least squares pulled to the old weights, ``rounds`` more times where what follows cuts values off.

        Source: the alternation of Zhang et al., "Accelerating Very Deep Convolutional Networks", PAMI 2016,
        arXiv:1505.06798, with the auxiliary variable set to its optimum for an infinite penalty.
        """
        with blas_threads_for(self.weight.shape[2]):
            fit = self._fitted(self.moments, strength)
        for _ in range(rounds if self.bounds is not None else 0):
            fit = self._fitted(self.moments_behind(fit), strength)
        return fit

    def _fitted(self, moments: Moments, strength: float) -> Fit:
        """Least squares, on the layer's support where it has one."""
        fit = ridge(moments, self.weight, centred=self.centred, strength=strength)
        if (support := self.support) is None:
            return fit
        weight = on_support(fit.weight, positive(damped_hessian(moments, strength, centred=self.centred)), support)
        offset = moments.target_mean - np.einsum("goc,gc->go", weight, moments.mean)
        return Fit(weight, offset if self.centred else fit.offset)

    def constants(self, fit: Fit) -> dict[str, Floats]:
        """The twin's weight and bias that are this fit, by name."""
        return constants_of(self.now, self.twin.model, fit)

    def narrow(self, columns: NDArray[np.bool_]) -> None:
        """Go on with some of the layer's columns, as the twin dropped the channels of the others."""
        now = self.twin.counterpart(self.layer)
        assert now is not None
        for name in self.ours.held:
            before = self.left(name)
            for axis, mask in self.twin.left(name).items():
                still = mask[before[axis]] if axis in before else mask
                if not still.all():
                    self.ours.replace(name, lambda v, m=still, a=axis: np.compress(m, v, axis=a))
        self.now, self.left, self.ours.model = now, self.twin.left, self.twin.model
        if "weight" in vars(self):  # what nobody asked for yet is computed of what is left
            self.weight = self.weight[:, :, columns]
        if "moments" in vars(self):
            self.moments = self.moments.only(columns)


def in_turn(
    original: Model,
    twin: Twin,
    inputs: Inputs,
    layers: Sequence[Layer],
    targets: Aims,
    tick: Callable[[int, int | None], None] = lambda done, total: None,
    *,
    most: int = PATCHES,
) -> Iterator[Turn]:
    """Turns of the original's layers, which are in graph order; those that are gone from the twin have none.

    Of activations only those are held that later turns start from. Statistics are taken from ``most`` patches.
    """
    theirs, ours = ActivationCache(original, inputs), ActivationCache(twin.model, inputs)
    pairs = [(layer, targets.of(layer)) for layer in layers]
    index, differing = index_of(original), set[str]()
    for k, (layer, target) in enumerate(pairs):
        _spread(index, twin.changed, differing)
        now = twin.counterpart(layer)
        if now is not None:
            differs = not differing.isdisjoint((layer.x, *target.others))
            yield Turn(layer, now, target, differs, twin, ours, theirs, positions_of(now, ours, most), twin.left)
        ours.model = twin.model
        later = [(twin.counterpart(one) or one, aim) for one, aim in pairs[k + 1 :]]
        ours.retain([name for one, aim in later for name in (one.x, *aim.others)])
        theirs.retain([aim.tensor for _, aim in later])
        tick(k + 1, len(pairs))


def _spread(index: Index, changed: Iterable[str], differing: set[str]) -> None:
    """Add tensors to those that differ, and all that is computed from them."""
    names = [name for name in changed if name not in differing]
    while names:
        name = names.pop()
        if name not in differing:
            differing.add(name)
            names.extend(o for place in index.readers(name) for o in index.nodes[place].output if o)
