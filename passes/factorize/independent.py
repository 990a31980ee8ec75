"""Factors for layers one by one, on inputs that say nothing of what went wrong before: noise."""

from __future__ import annotations

from collections.abc import Mapping

from ...graph.model import Model
from ..calibration.activation_cache import Inputs
from ..calibration.moments import blas_threads_for, one_blas_thread
from ..simplify import Names
from .candidates import Option
from .losses import constants_of, wanted_of
from .rewrite import split
from .schemes.scheme import SCHEMES
from .sites import Unit
from .statistics import NOISE_STRENGTH
from .walk import Done


@one_blas_thread
def alone(model: Model, looked: Model, plan: Mapping[int, tuple[Unit, Option]], inputs: Inputs) -> Done:
    """Factors of the model's weights, nearest in what they make of the activations of ``looked``; means stay.

    ``looked`` has the same structure, its normalizations fitted to the inputs.
    """
    names, done, fitted = Names(model), Done(), 0
    ordered = sorted(plan.values(), key=lambda pair: pair[0].site.place)
    found = wanted_of(looked, [unit for unit, _ in ordered], inputs, NOISE_STRENGTH)
    for (unit, option), (layer, wanted) in zip(ordered, found, strict=True):
        scheme = SCHEMES[option.scheme]
        matrices = unit.matrices(model)
        with blas_threads_for(unit.site.columns):
            factors = scheme.factor(unit.site, matrices, option.rank, wanted.moments if wanted else None)
        if wanted is not None and layer is not None and layer.bias is not None:
            product = factors.product() * layer.alpha
            done.weights[layer.bias] = constants_of(model, unit, layer, wanted, product)[layer.bias]
            fitted += 1
        done.splits.append(split(model, unit, scheme, factors, names))
    return Done(done.splits, done.weights, fitted)
