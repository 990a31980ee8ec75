"""Round a network's weights from its inputs to its outputs, each layer so that it mends what went wrong before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ..base import Context
from .activation_cache import STORE_BYTES, ActivationCache, Inputs, Store
from .moments import Moments, blas_threads_for, one_blas_thread
from .reconstruct import Fit, refit_through, ridge
from .samples import PATCHES, moments_of, samples_of
from .targets import ReconstructionTarget, targets_of

STRENGTH = 1e-3
"""Pull of the refit towards the old weights, relative to the mean variance of a column."""
AWARE = 1
"""Rounds of the refit that looks through a rectifier."""


class Coarse(Protocol):
    """A layer's matrices in few bits."""

    def floats(self) -> Floats:
        """What the bits stand for. Shapes: (groups, outputs, columns)."""


Q = TypeVar("Q", bound=Coarse)
Q_co = TypeVar("Q_co", bound=Coarse, covariant=True)


class Rule(Protocol[Q_co]):
    """What a layer's weights become."""

    def solve(self, wanted: Floats, hessian: Floats | None) -> tuple[str, Q_co]:
        """Something near the wanted matrices, and what found it; see ``row_costs`` for ``hessian``."""


@dataclass(frozen=True)
class Rounded(Generic[Q]):
    """One layer's weights. ``error`` is the expected squared error of its output relative to the output's variance."""

    layer: Layer
    quantized: Q
    method: str
    error: float | None = None


@dataclass(frozen=True)
class Walked(Generic[Q]):
    """Rounded layers by their ``node``, and biases that changed with them."""

    rounded: dict[str, Rounded[Q]] = field(default_factory=dict)
    biases: dict[str, np.ndarray] = field(default_factory=dict)

    def applied(self, model: Model) -> Model:
        """The model with float weights that the bits stand for."""
        changed = model.copy()
        changed.weights.update(self.biases)
        for one in self.rounded.values():
            old = model.weights[one.layer.weight]
            changed.weights[one.layer.weight] = one.layer.weight_like(one.quantized.floats(), old)
        return changed


def row_costs(gap: Floats, hessian: Floats | None) -> Floats:
    """What matrices that are off by ``gap`` cost each row: ``gap H gapᵀ``, with H the second moments of what they multiply.

    Without H all columns count alike. Shapes: gap (groups, outputs, columns), hessian (groups, columns, columns) ->
    (groups, outputs).
    """
    if hessian is None:
        return np.asarray(np.square(gap).sum(axis=-1))
    return np.asarray(np.einsum("goc,goc->go", gap @ hessian, gap))


def round_plainly(model: Model, rules: Mapping[str, Rule[Q]]) -> Walked[Q]:
    """Every layer by itself, by its weights alone."""
    outcome = Walked[Q]()
    for layer in Layers(model):
        rule = rules.get(layer.node)
        if rule is not None:
            method, quantized = rule.solve(layer.matrix(model.weights[layer.weight]), None)
            outcome.rounded[layer.node] = Rounded(layer, quantized, method)
    return outcome


@one_blas_thread
def round_in_turn(
    original: Model,
    running: Model,
    batches: Sequence[Mapping[str, Floats]],
    rules: Mapping[str, Rule[Q]],
    context: Context,
    *,
    strength: float = STRENGTH,
    rows: int = PATCHES,
    aware: int = AWARE,
    refit: bool = True,
) -> Walked[Q]:
    """Layer after layer on calibration inputs.

    ``running`` is the original with its activations rounded, or the original itself; both have the same layers in the
    same order. A layer's target is what the original makes of the sum that it goes into, less what other branches give
    in the rounded network. Least squares towards it, pulled to the old weights, is what is rounded; without ``refit``
    the old weights are, and only the bias follows.

    Source: accuracy of the prefix: Nagel et al., "Up or Down?", ICML 2020, arXiv:2004.10568, section 3.3 (asymmetric
    reconstruction).
    """
    with Store(STORE_BYTES, context.folder) as store:
        inputs = Inputs(batches, store)
        work = _Walk(original, running, inputs, rules, strength=strength, rows=rows, aware=aware, refit=refit)
        return work.run(context.tick)


class _Walk(Generic[Q]):
    def __init__(
        self,
        original: Model,
        running: Model,
        inputs: Inputs,
        rules: Mapping[str, Rule[Q]],
        *,
        strength: float,
        rows: int,
        aware: int,
        refit: bool,
    ) -> None:
        self.rules, self.strength, self.aware, self.refit = rules, strength, aware, refit
        self.theirs = ActivationCache(original, inputs)
        self.ours = ActivationCache(running.copy(), inputs)
        self.rows = rows
        layers, here = Layers(original), list(Layers(running))
        targets = targets_of(original, layers)
        self.pairs = [(one, now, targets.of(one)) for one, now in zip(layers, here, strict=True)]
        names = [one.weight for one, _, _ in self.pairs]
        self.tied = {name for name in names if names.count(name) > 1}
        self.known: dict[object, tuple[str, Q]] = {}  # by the weight, which several layers may share
        self.outcome = Walked[Q]()

    def run(self, tick: Callable[[int, int | None], None]) -> Walked[Q]:
        for k, (layer, now, target) in enumerate(self.pairs):
            rule = self.rules.get(layer.node)
            if rule is not None:
                self._layer(layer, now, target, rule)
            later = [p for p in self.pairs[k + 1 :] if p[0].node in self.rules]
            self.ours.retain([name for _, one, g in later for name in (one.x, *g.others)])
            self.theirs.retain([g.tensor for _, _, g in later])
            tick(k + 1, len(self.pairs))
        return self.outcome

    def _layer(self, layer: Layer, now: Layer, target: ReconstructionTarget, rule: Rule[Q]) -> None:
        model = self.ours.model
        self.ours.hold([now.x, *target.others])
        self.theirs.hold([target.tensor])
        moments = moments_of(now, target, self.ours, self.theirs, self.rows)
        old = now.matrix(model.weights[now.weight])
        centred, free = now.bias is not None, now.weight not in self.tied
        with blas_threads_for(old.shape[2]):
            fit = self._fit(moments, old, target, now) if self.refit and free else Fit(old, np.zeros(old.shape[:2]))
            hessian = moments.covariance if centred and free else moments.second_moment
            pull = self.strength * np.einsum("gcc->g", hessian) / max(1, hessian.shape[-1])
            damped = hessian + pull[:, None, None] * np.eye(hessian.shape[-1])
            same = layer.weight, old.shape, layer.axis
            method, quantized = self.known.get(same) or rule.solve(fit.weight, damped)
            self.known[same] = method, quantized
        matrices = quantized.floats()
        spread = float(np.sum(moments.target_variance)) or 1.0
        lost = float(row_costs(matrices - fit.weight, damped).sum())
        self.outcome.rounded[layer.node] = Rounded(layer, quantized, method, lost / spread)
        model.weights[now.weight] = now.weight_like(matrices, model.weights[now.weight])
        if now.bias is not None and layer.bias is not None and free:
            offset = moments.target_mean - np.einsum("goc,gc->go", matrices, moments.mean)
            model.weights[now.bias] = now.bias_like(offset, model.weights[now.bias])
            self.outcome.biases[layer.bias] = model.weights[now.bias]

    def _fit(self, moments: Moments, old: Floats, target: ReconstructionTarget, now: Layer) -> Fit:
        centred = now.bias is not None
        fit = ridge(moments, old, centred=centred, strength=self.strength)
        if target.activation_bounds is None or not centred or not self.aware:
            return fit
        return refit_through(
            target.activation_bounds,
            lambda: samples_of(now, target, self.ours, self.theirs, self.rows),
            moments,
            fit,
            old,
            rounds=self.aware,
            strength=self.strength,
        )
