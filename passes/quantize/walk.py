"""Round a network's weights from its inputs to its outputs, each layer so that it mends what went wrong before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...graph.model import Model
from ..base import Context
from ..calibration.goals import Goal, goals_of
from ..calibration.layers import Floats, Layer, Layers
from ..calibration.moments import Moments, blas_threads_for, one_blas_thread
from ..calibration.reconstruct import Fit, refit_through, ridge
from ..calibration.samples import ROWS, moments_of, samples_of
from ..calibration.stream import STORE_BYTES, Inputs, Store, Stream
from .grid import Grid, Quantized
from .rounding import Problem, cheapest

STRENGTH = 1e-3
"""Pull of the refit towards the old weights, relative to the mean variance of a column."""
AWARE = 1
"""Rounds of the refit that looks through a rectifier."""


@dataclass(frozen=True)
class Spec:
    """What one layer's weights become: integers of which kind, how many columns share a scale (0: a row).

    Of the ``methods`` the one is taken that costs the layer least.
    """

    grid: Grid
    methods: tuple[str, ...]
    block: int = 0
    symmetric: bool = True


@dataclass(frozen=True)
class Rounded:
    """One layer's weights. ``error`` is the expected squared error of its output relative to the output's variance."""

    layer: Layer
    quantized: Quantized
    method: str
    error: float | None = None


@dataclass(frozen=True)
class Walked:
    """Rounded layers by their ``node``, and biases that changed with them."""

    rounded: dict[str, Rounded] = field(default_factory=dict)
    biases: dict[str, np.ndarray] = field(default_factory=dict)

    def applied(self, model: Model) -> Model:
        """The model with float weights that the integers stand for."""
        changed = model.copy()
        changed.weights.update(self.biases)
        for one in self.rounded.values():
            old = model.weights[one.layer.weight]
            changed.weights[one.layer.weight] = one.layer.weight_like(one.quantized.floats(), old)
        return changed


def round_plainly(model: Model, specs: Mapping[str, Spec]) -> Walked:
    """Every layer by itself, by its weights alone."""
    outcome = Walked()
    for layer in Layers(model):
        spec = specs.get(layer.node)
        if spec is not None:
            problem = Problem(layer.matrix(model.weights[layer.weight]), spec.grid, None, spec.block, spec.symmetric)
            method, quantized = cheapest(problem, spec.methods)
            outcome.rounded[layer.node] = Rounded(layer, quantized, method)
    return outcome


@one_blas_thread
def round_in_turn(
    original: Model,
    running: Model,
    batches: Sequence[Mapping[str, Floats]],
    specs: Mapping[str, Spec],
    context: Context,
    *,
    strength: float = STRENGTH,
    rows: int = ROWS,
    aware: int = AWARE,
    refit: bool = True,
) -> Walked:
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
        work = _Walk(original, running, inputs, specs, strength=strength, rows=rows, aware=aware, refit=refit)
        return work.run(context.tick)


class _Walk:
    def __init__(
        self,
        original: Model,
        running: Model,
        inputs: Inputs,
        specs: Mapping[str, Spec],
        *,
        strength: float,
        rows: int,
        aware: int,
        refit: bool,
    ) -> None:
        self.specs, self.strength, self.aware, self.refit = specs, strength, aware, refit
        self.theirs = Stream(original, inputs)
        self.ours = Stream(running.copy(), inputs)
        self.rows = rows
        layers, here = Layers(original), list(Layers(running))
        goals = goals_of(original, layers)
        self.pairs = [(one, now, goals.of(one)) for one, now in zip(layers, here, strict=True)]
        names = [one.weight for one, _, _ in self.pairs]
        self.tied = {name for name in names if names.count(name) > 1}
        self.known: dict[object, tuple[str, Quantized]] = {}  # by the weight, which several layers may share
        self.outcome = Walked()

    def run(self, tick: Callable[[int, int | None], None]) -> Walked:
        for k, (layer, now, goal) in enumerate(self.pairs):
            spec = self.specs.get(layer.node)
            if spec is not None:
                self._layer(layer, now, goal, spec)
            later = [p for p in self.pairs[k + 1 :] if p[0].node in self.specs]
            self.ours.retain([name for _, one, g in later for name in (one.x, *g.others)])
            self.theirs.retain([g.tensor for _, _, g in later])
            tick(k + 1, len(self.pairs))
        return self.outcome

    def _layer(self, layer: Layer, now: Layer, goal: Goal, spec: Spec) -> None:
        model = self.ours.model
        self.ours.hold([now.x, *goal.others])
        self.theirs.hold([goal.tensor])
        moments = moments_of(now, goal, self.ours, self.theirs, self.rows)
        old = now.matrix(model.weights[now.weight])
        centred, free = now.bias is not None, now.weight not in self.tied
        with blas_threads_for(old.shape[2]):
            fit = self._fit(moments, old, goal, now) if self.refit and free else Fit(old, np.zeros(old.shape[:2]))
            second = moments.covariance if centred and free else moments.second
            pull = self.strength * np.einsum("gcc->g", second) / max(1, second.shape[-1])
            damped = second + pull[:, None, None] * np.eye(second.shape[-1])
            problem = Problem(fit.weight, spec.grid, damped, spec.block, spec.symmetric)
            same = layer.weight, old.shape, layer.transposed
            method, quantized = self.known.get(same) or cheapest(problem, spec.methods)
            self.known[same] = method, quantized
        matrices = quantized.floats()
        spread = float(np.sum(moments.target_variance)) or 1.0
        self.outcome.rounded[layer.node] = Rounded(
            layer, quantized, method, float(problem.cost(matrices).sum()) / spread
        )
        model.weights[now.weight] = now.weight_like(matrices, model.weights[now.weight])
        if now.bias is not None and layer.bias is not None and free:
            offset = moments.target_mean - np.einsum("goc,gc->go", matrices, moments.mean)
            model.weights[now.bias] = now.bias_like(offset, model.weights[now.bias])
            self.outcome.biases[layer.bias] = model.weights[now.bias]

    def _fit(self, moments: Moments, old: Floats, goal: Goal, now: Layer) -> Fit:
        centred = now.bias is not None
        fit = ridge(moments, old, centred=centred, strength=self.strength)
        if goal.clip is None or not centred or not self.aware:
            return fit
        return refit_through(
            goal.clip,
            lambda: samples_of(now, goal, self.ours, self.theirs, self.rows),
            moments,
            fit,
            old,
            rounds=self.aware,
            strength=self.strength,
        )
