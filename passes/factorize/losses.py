"""What each option is predicted to cost: by the weights' energies, or measured on the network's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ...graph.cost import cost
from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...measure.executors.pieces import HERE, Pieces
from ..calibration.activation_cache import ActivationCache, Inputs, each
from ..calibration.effects import Effects
from ..calibration.journal import Journal
from ..calibration.moments import blas_threads_for, one_blas_thread
from ..calibration.reconstruct import constants_with_mean
from ..calibration.samples import PATCHES, moments_of, positions_of, samples_of
from ..calibration.targets import ReconstructionTarget, targets_of
from .candidates import Option, interpolate_losses, sample_options
from .schemes.scheme import SCHEMES, TwoFactors
from .sites import Unit
from .statistics import LARGEST, STRENGTH, Wanted

RANKS, WIDE_RANKS = 4, 2
"""Ranks of a scheme at which factors are computed and tried; between them losses are interpolated. Of layers with more
columns than ``_WIDE`` fewer, as one takes seconds."""
_WIDE = 2048
_HOPELESS = 2.0
"""A scheme whose layer loses so many times what another's does at the same cost is not tried on the outputs."""
_OUTPUTS_SHARE = 0.5
"""Weight of what the outputs lose in the predicted loss, a geometric mean; the rest is what the layer itself loses.

The outputs' loss, measured with one layer split, misses what later layers will make up for. On a ResNet-20 at 0.35 of
the MACs, 88.5 % were right with both and 87.9 % with the outputs' loss alone.
"""
_SCORE_MACS = 6e11
"""Multiply-accumulates spent on looking at outputs: decides how many samples are used for it."""
_SCORE_SAMPLES = (16, 256)


@dataclass(frozen=True)
class Table:
    """Options of one unit. ``losses`` are what the knapsack weighs, ``local`` what the layer itself loses."""

    options: tuple[Option, ...]
    losses: Floats
    local: Floats


def by_weights(model: Model, unit: Unit, options: Sequence[Option]) -> Table:
    """Relative squared errors of the weight."""
    matrices = unit.matrices(model)
    squares = (np.square(matrices[:, rows], dtype=np.float64).sum() for rows in unit.site.parts)
    total = max(float(sum(squares)), 1e-30)
    losses: list[float] = []
    for name, group in _by_scheme(options):
        scheme = SCHEMES[name]
        if isinstance(scheme, TwoFactors):
            energy = scheme.spectrum(unit.site, matrices)
            tails = np.append(np.cumsum(energy[::-1])[::-1], 0.0)
            losses += [float(tails[min(o.rank, len(energy))]) / total for o in group]
            continue
        few = sample_options(group, RANKS)
        errors = [
            float(np.square(scheme.factor(unit.site, matrices, o.rank).product() - matrices).sum()) / total for o in few
        ]
        losses += interpolate_losses([o.rank for o in group], [o.rank for o in few], errors).tolist()
    found = np.maximum(np.array(losses), 0.0)
    return Table(tuple(options), found, found)


@one_blas_thread
def by_outputs(
    model: Model,
    tables: Sequence[tuple[Unit, Sequence[Option]]],
    inputs: Inputs,
    tick: Callable[[int, int | None], None] = lambda done, total: None,
    strength: float = STRENGTH,
    pieces: Pieces = HERE,
    journal: Journal | None = None,
) -> list[Table]:
    """What the network's outputs and the layer itself lose, each option alone in the original network.

    A few ranks of each scheme are tried, with factors that are best for the original's activations. What the ``journal``
    has of a unit is taken from there.
    """
    kept = [None if journal is None else journal.read(k) for k in range(len(tables))]
    effects = Effects(model, inputs.first(_samples(model, tables)))
    order = sorted(range(len(tables)), key=lambda k: tables[k][0].site.place)
    units, passed = [tables[k][0] for k in order], [kept[k] is not None for k in order]

    def visited() -> Iterator[tuple[int, Layer | None, Wanted | None]]:
        for k, (layer, wanted) in zip(order, wanted_of(model, units, inputs, strength, passed), strict=True):
            effects.start_at(min(site.place for site in tables[k][0].sites))
            yield k, layer, wanted

    def measured(visit: tuple[int, Layer | None, Wanted | None]) -> tuple[Floats, Floats]:
        k, layer, wanted = visit
        if (known := kept[k]) is not None:
            return known[0], known[1]
        with blas_threads_for(tables[k][0].site.columns):
            return _measured(model, *tables[k], layer, wanted, effects)

    found: dict[int, Table] = {}
    for k, (losses, local) in zip(order, pieces.each(visited(), measured, len(order)), strict=True):
        if journal is not None and kept[k] is None:
            journal.keep(k, (losses, local))
        found[k] = Table(tuple(tables[k][1]), losses, local)
        tick(len(found), len(tables))
    return [found[k] for k in range(len(tables))]


def layers_of(model: Model) -> dict[str, Layer]:
    """Layers that can be fitted, by the output of their node: one weight each, and one bias that nobody shares."""
    layers = Layers(model)
    return {one.node: one for one in layers if not layers.tied(one)}


def wanted_of(
    model: Model,
    units: Sequence[Unit],
    inputs: Inputs,
    strength: float = STRENGTH,
    passed: Sequence[bool] = (),
) -> Iterator[tuple[Layer | None, Wanted | None]]:
    """Of units in graph order the layer, and what it makes of the original's activations; None where it has no moments,
    and for units that are ``passed`` by: what is held there is what would be otherwise."""
    layers, targets, cache = layers_of(model), targets_of(model, Layers(model)), ActivationCache(model, inputs)
    visits: list[tuple[tuple[Layer | None, ReconstructionTarget | None], Sequence[str]]] = []
    for unit in units:
        layer = layers.get(unit.site.node)
        target = targets.of(layer) if layer is not None and unit.site.columns <= LARGEST else None
        names = [layer.x, target.tensor, *target.others] if layer is not None and target is not None else []
        visits.append(((layer, target), names))
    for k, (layer, target) in enumerate(each(cache, visits)):
        if layer is None or target is None or (passed and passed[k]):
            yield layer, None
            continue
        positions = positions_of(layer, cache, PATCHES // 2)
        moments = moments_of(layer, samples_of(layer, target, cache, cache, positions))
        old = layer.matrix(model.weights[layer.weight])
        yield layer, Wanted.of(moments, old, centred=layer.bias is not None, strength=strength)


def _measured(
    model: Model,
    unit: Unit,
    options: Sequence[Option],
    layer: Layer | None,
    wanted: Wanted | None,
    effects: Effects,
) -> tuple[Floats, Floats]:
    """What is lost, as the outputs and the layer itself tell; see ``Table``."""
    site = unit.site
    matrices = wanted.weight if wanted is not None else unit.matrices(model)
    moments = wanted.moments if wanted is not None else None
    total = max(float(np.square(matrices).sum()), 1e-30)
    tried: dict[str, list[tuple[Option, Floats, float]]] = {}
    for name, group in _by_scheme(options):
        tried[name] = []
        for one in sample_options(group, WIDE_RANKS if site.columns > _WIDE else RANKS):
            product = SCHEMES[name].factor(site, matrices, one.rank, moments).product()
            loss = wanted.loss(product) if wanted is not None else float(np.square(product - matrices).sum()) / total
            tried[name].append((one, product, max(loss, 0.0)))
    losses: list[float] = []
    local: list[float] = []
    for name, group in _by_scheme(options):
        ranks, known = [o.rank for o in group], [o.rank for o, _, _ in tried[name]]
        own = interpolate_losses(ranks, known, [loss for _, _, loss in tried[name]])
        local += own.tolist()
        if _hopeless(name, tried):
            losses += [float("inf")] * len(group)
            continue
        harm = [effects.of(constants_of(model, unit, layer, wanted, product)) for _, product, _ in tried[name]]
        seen = interpolate_losses(ranks, known, harm) if effects.outputs else own
        losses += (seen**_OUTPUTS_SHARE * own ** (1 - _OUTPUTS_SHARE)).tolist()
    return np.array(losses), np.array(local)


def _hopeless(name: str, tried: Mapping[str, Sequence[tuple[Option, Floats, float]]]) -> bool:
    """Whether one other scheme does much better at every cost, and can be as cheap."""
    costs = {other: [o.macs or o.params for o, _, _ in some] for other, some in tried.items()}
    mine = [loss for _, _, loss in tried[name]]
    for other, theirs in tried.items():
        if other == name or min(costs[name]) < min(costs[other]):
            continue
        there = interpolate_losses(costs[name], costs[other], [loss for _, _, loss in theirs])
        if all(loss > _HOPELESS * at for loss, at in zip(mine, there, strict=True)):
            return True
    return False


def constants_of(
    model: Model, unit: Unit, layer: Layer | None, wanted: Wanted | None, product: Floats
) -> dict[str, Floats]:
    """The weight of the product, and the bias that keeps what a mean input gives."""
    if layer is None or wanted is None:
        return {unit.weight: unit.weight_of(product, model)}
    # the weights of the original were a perfect fit, so its own bias is right but for the rank
    return constants_with_mean(layer, model, product, wanted.mean)


def _by_scheme(options: Sequence[Option]) -> Iterator[tuple[str, list[Option]]]:
    for name, group in groupby(options, key=lambda o: o.scheme):
        yield name, list(group)


def _samples(model: Model, tables: Sequence[tuple[Unit, Sequence[Option]]]) -> int:
    schemes = sum(len({o.scheme for o in options}) for _, options in tables)
    runs = max(1, schemes * RANKS) / 2
    return int(np.clip(_SCORE_MACS / max(1, runs * cost(model).macs), *_SCORE_SAMPLES))
