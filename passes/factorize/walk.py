"""Factorize a network from its inputs to its outputs: every layer sees what the compressed network really feeds it.

It aims at what the original made, so that each layer repairs what went wrong before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ..calibration.activation_cache import Inputs
from ..calibration.journal import Journal, once
from ..calibration.moments import blas_threads_for, one_blas_thread
from ..calibration.reconstruct import Fit
from ..calibration.targets import targets_of
from ..calibration.turns import Turn, all_left, in_turn
from ..simplify import Names
from .candidates import Option
from .factors import Factors
from .losses import layers_of
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


def by_weights(
    model: Model, plan: Mapping[int, tuple[Unit, Option]], names: Names, journal: Journal | None = None
) -> list[Split]:
    """Factors nearest to the weights as they are. What the ``journal`` has of a unit is taken from there."""
    found = []
    for unit, option in plan.values():
        factors = once(journal, f"factors of {unit.name}", partial(_nearest, model, unit, option))
        found.append(split(model, unit, SCHEMES[option.scheme], factors, names))
    return found


def _nearest(model: Model, unit: Unit, option: Option) -> Factors:
    return SCHEMES[option.scheme].factor(unit.site, unit.matrices(model), option.rank)


class Factorized:
    """The twin: splits in the places of layers, other weights in those that stay whole; every tensor whole."""

    left = staticmethod(all_left)

    def __init__(self, original: Model, splits: list[Split]) -> None:
        self._original, self.splits = original, splits
        self.weights: dict[str, np.ndarray] = {}
        self.changed = {site.node for one in splits for site in one.unit.sites}
        self.model = apply(original, splits)

    def counterpart(self, layer: Layer) -> Layer | None:
        return layer if layer.weight in self.model.weights else None

    def take(self, layer: Layer, weights: Mapping[str, np.ndarray], *splits: Split) -> None:
        """Change a layer: some of its constants, or all of it."""
        self.weights.update(weights)
        self.splits.extend(splits)
        self.changed.add(layer.node)
        self.model = apply(self._original, self.splits, self.weights)


@one_blas_thread
def in_one_walk(
    model: Model,
    plan: Mapping[int, tuple[Unit, Option]],
    inputs: Inputs,
    *,
    refit: bool = True,
    tick: Callable[[int, int | None], None] = lambda done, total: None,
    journal: Journal | None = None,
) -> Done:
    """Factorize what is planned, layer by layer, and refit the layers that stay whole after it."""
    layers, names = layers_of(model), Names(model)
    fitting = {
        unit.site.node: (unit, option)
        for unit, option in plan.values()
        if unit.site.node in layers and unit.site.columns <= LARGEST
    }
    rest = {k: (unit, option) for k, (unit, option) in plan.items() if unit.site.node not in fitting}
    twin, targets = Factorized(model, by_weights(model, rest, names, journal)), targets_of(model, Layers(model))
    fitted = refitted = 0
    for place, turn in enumerate(in_turn(model, twin, inputs, list(layers.values()), targets, tick)):
        if turn.layer.node in fitting:
            unit, option = fitting[turn.layer.node]
            turn.reach()
            factors, offset = once(journal, place, partial(_factors, turn, unit, option))
            split_up = split(model, unit, SCHEMES[option.scheme], factors.scaled(1 / turn.layer.alpha), names)
            twin.take(turn.layer, _bias(turn, offset), split_up)
            fitted += 1
        elif refit and turn.differs:
            turn.reach()
            twin.take(turn.layer, once(journal, place, partial(_refitted, turn)))
            refitted += 1
    return Done(twin.splits, twin.weights, fitted, refitted)


def _refitted(turn: Turn) -> dict[str, Floats]:
    return turn.constants(turn.fit())


def _factors(turn: Turn, unit: Unit, option: Option) -> tuple[Factors, Floats]:
    """Factors of what the layer should be by what reaches it, and its offset."""
    scheme, moments = SCHEMES[option.scheme], turn.moments
    for again in range(AWARE + 1):
        with blas_threads_for(turn.weight.shape[2]):
            wanted = Wanted.of(moments, turn.weight, centred=turn.centred)
            factors = scheme.factor(unit.site, wanted.weight, option.rank, wanted.moments)
        offset = wanted.offset(factors.product())
        if again == AWARE or turn.bounds is None:
            break
        moments = turn.moments_behind(Fit(factors.product(), offset))
    return factors, offset


def _bias(turn: Turn, offset: Floats) -> dict[str, Floats]:
    name = turn.layer.bias
    return {} if name is None else {name: turn.layer.bias_like(offset, turn.twin.model.weights[name])}
