"""Factorize a network from its inputs to its outputs: every layer sees what the compressed network really feeds it.

It aims at what the original made, so that each layer repairs what went wrong before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ...graph.index import index_of
from ...graph.layer import Floats, Layer
from ...graph.model import Model
from ...graph.nodes import reads
from ..calibration.activation_cache import ActivationCache
from ..calibration.moments import blas_threads_for, one_blas_thread
from ..calibration.reconstruct import REFITS, RIDGE, Fit, refit_through, ridge, through
from ..calibration.samples import moments_of, samples_of
from ..calibration.targets import ReconstructionTarget, ReconstructionTargets
from ..simplify import Names
from .candidates import Option
from .rewrite import Split, apply, split
from .schemes.scheme import SCHEMES
from .sites import Unit
from .statistics import LARGEST, Wanted

AWARE = 1
"""Times a layer is fitted again to what gets through the rectifier behind it."""


@dataclass(frozen=True)
class Done:
    """Splits, and other constants that changed. ``refitted`` counts layers that stay whole, fitted to the new inputs."""

    splits: list[Split] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    fitted: int = 0
    refitted: int = 0


def by_weights(model: Model, plan: Mapping[int, tuple[Unit, Option]], names: Names) -> list[Split]:
    """Factors nearest to the weights as they are."""
    found = []
    for unit, option in plan.values():
        scheme = SCHEMES[option.scheme]
        factors = scheme.factor(unit.site, unit.matrices(model), option.rank)
        found.append(split(model, unit, scheme, factors, names))
    return found


class Walk:
    """One walk over a model and its compressed twin, part by part."""

    def __init__(
        self,
        model: Model,
        plan: Mapping[int, tuple[Unit, Option]],
        layers: Mapping[str, Layer],
        targets: ReconstructionTargets,
        original: ActivationCache,
        compressed: ActivationCache,
        *,
        refit: bool = True,
        tick: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        self.model, self.layers, self.targets = model, layers, targets
        self.original, self.compressed = original, compressed
        self.refit, self.tick = refit, tick
        self.names = Names(model)
        self.planned = {
            unit.site.node: (unit, option)
            for unit, option in plan.values()
            if unit.site.node in layers and unit.site.columns <= LARGEST
        }
        rest = {k: (u, o) for k, (u, o) in plan.items() if u.site.node not in self.planned}
        self.splits = by_weights(model, rest, self.names)
        self.weights: dict[str, np.ndarray] = {}

    @one_blas_thread
    def run(self) -> Done:
        dirty = {site.node for s in self.splits for site in s.unit.sites}
        place = index_of(self.model).place
        layers = sorted(self.layers.values(), key=lambda layer: place[layer.node])
        self._update()
        walked = fitted = refitted = 0
        for i, layer in enumerate(layers):
            target = self.targets.of(layer)
            for node in self.model.graph.node[walked : place[layer.node]]:
                if dirty.intersection(reads(node)):
                    dirty.update(o for o in node.output if o)
            walked = max(walked, place[layer.node])
            if layer.node in self.planned:
                self._factorize(layer, target, *self.planned[layer.node])
                fitted += 1
            elif self.refit and dirty.intersection((layer.x, *target.others)):
                self._refit(layer, target)
                refitted += 1
            if layer.node in self.planned or dirty.intersection((layer.x, *target.others)):
                dirty.update((layer.node, layer.output))
            later = [(one, self.targets.of(one)) for one in layers[i + 1 :]]
            self.compressed.retain([name for one, g in later for name in (one.x, *g.others)])
            self.original.retain([g.tensor for _, g in later])
            self.tick(i + 1, len(layers))
        return Done(self.splits, self.weights, fitted, refitted)

    def _update(self) -> None:
        self.compressed.model = apply(self.model, self.splits, self.weights)

    def _hold(self, layer: Layer, target: ReconstructionTarget) -> None:
        self.compressed.hold([layer.x, *target.others])
        self.original.hold([target.tensor])

    def _factorize(self, layer: Layer, target: ReconstructionTarget, unit: Unit, option: Option) -> None:
        self._hold(layer, target)
        moments = moments_of(layer, target, self.compressed, self.original)
        scheme = SCHEMES[option.scheme]
        old = layer.matrix(self.model.weights[layer.weight])
        centred = layer.bias is not None
        for again in range(AWARE + 1):
            with blas_threads_for(old.shape[2]):
                wanted = Wanted.of(moments, old, centred=centred)
                factors = scheme.factor(unit.site, wanted.weight, option.rank, wanted.moments)
            if again == AWARE or target.activation_bounds is None or not centred:
                break
            fit = Fit(factors.product(), wanted.offset(factors.product()))
            samples = samples_of(layer, target, self.compressed, self.original)
            moments = moments.other_targets()
            moments.add_all(partial(through, *target.activation_bounds, fit, sample) for sample in samples)
        if layer.bias is not None:
            self._bias(layer, wanted.offset(factors.product()))
        self.splits.append(split(self.model, unit, scheme, factors.scaled(1 / layer.alpha), self.names))
        self._update()

    def _refit(self, layer: Layer, target: ReconstructionTarget) -> None:
        """A layer that stays whole still sees other inputs than it was made for."""
        self._hold(layer, target)
        moments = moments_of(layer, target, self.compressed, self.original)
        old = layer.matrix(self.model.weights[layer.weight])
        centred = layer.bias is not None
        with blas_threads_for(old.shape[2]):
            fit = ridge(moments, old, centred=centred, strength=RIDGE)
        if target.activation_bounds is not None and centred:
            fit = refit_through(
                target.activation_bounds,
                lambda: samples_of(layer, target, self.compressed, self.original),
                moments,
                fit,
                old,
                rounds=REFITS,
                strength=RIDGE,
            )
        self.weights[layer.weight] = layer.weight_like(fit.weight, self.model.weights[layer.weight])
        if layer.bias is not None:
            self._bias(layer, fit.offset)
        self._update()

    def _bias(self, layer: Layer, offset: Floats) -> None:
        assert layer.bias is not None
        self.weights[layer.bias] = layer.bias_like(offset, self.model.weights[layer.bias])
