"""Round a network's weights from its inputs to its outputs, each layer so that it mends what went wrong before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from ...graph.layer import Floats, Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...graph.traits import Trait, has
from ...measure.executors.pieces import HERE
from ..base import Context
from .activation_cache import Inputs, Store
from .feeds import calibration_inputs, with_mirrored
from .journal import Journal, each_once, journal_in, once
from .moments import blas_threads_for, one_blas_thread
from .normal.correction import bias_correction
from .normal.moments import moments
from .reconstruct import Fit, damped_hessian
from .samples import PATCHES
from .targets import targets_of
from .turns import Turn, all_left, in_turn

_GLIMPSE = 1 << 20
"""Weights of a layer by which its harm is judged."""
STRENGTH = 1e-3
"""Pull of the refit towards the old weights, relative to the mean variance of a column."""
AWARE = 1
"""Rounds of the refit that looks through a rectifier."""


class Coarse(Protocol):
    """A layer's matrices in few bits."""

    def floats(self) -> Floats:
        """What the bits stand for. Shapes: (groups, outputs, columns)."""


class Rows(Protocol):
    """Matrices of which some outputs can be had."""

    def rows(self, outputs: slice) -> Coarse:
        """Of some outputs."""


Q = TypeVar("Q", bound=Coarse)
Q_co = TypeVar("Q_co", bound=Coarse, covariant=True)


class Rule(Protocol[Q_co]):
    """What a layer's weights become."""

    def solve(self, wanted: Floats, hessian: Floats | None) -> tuple[str, Q_co]:
        """Something near the wanted matrices, and what found it; see ``row_costs`` for ``hessian``."""


@runtime_checkable
class RowRule(Rule[Q_co], Protocol[Q_co]):
    """One that may know of its rows that they do not depend on each other."""

    @property
    def by_rows(self) -> bool:
        """Whether rows do not depend on each other where there is no data."""

    def solve_rows(self, parts: Sequence[Callable[[], Floats]]) -> tuple[str, Q_co]:
        """The same without data: ``parts`` make the matrices of some outputs after the other."""


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


def solve_plainly(rule: Rule[Q], layer: Layer, weight: np.ndarray) -> tuple[str, Q]:
    """What a weight becomes by itself, few rows at a time where that may be."""
    if len(layer.parts) == 1 or not (isinstance(rule, RowRule) and rule.by_rows):
        return rule.solve(layer.matrix(weight), None)
    return rule.solve_rows([partial(layer.matrix, weight, rows) for rows in layer.parts])


def glimpse(layer: Layer, weight: np.ndarray) -> tuple[Layer, np.ndarray]:
    """Of a large weight rows at even distances, as a layer of their own; groups stay whole. Harm is judged by these."""
    step = min(-(-weight.size // _GLIMPSE), layer.outputs)
    if step < 2 or layer.groups > 1:
        return layer, weight
    few = np.take(weight, np.arange(step // 2, layer.outputs, step), axis=layer.axis)
    return replace(layer, shape=few.shape), few


def relative_error(layer: Layer, weight: np.ndarray, found: Rows) -> float:
    """The squared error relative to the squares; 0 of weights that are all 0."""
    power = noise = 0.0
    for outputs in layer.parts:
        wanted = layer.matrix(weight, outputs)
        power += float(np.square(wanted).sum())
        noise += float(np.square(found.rows(outputs).floats() - wanted).sum())
    return noise / power if power > 0 else 0.0


def round_plainly(model: Model, rules: Mapping[str, Rule[Q]], context: Context | None = None) -> Walked[Q]:
    """Every layer by itself, by its weights alone; a weight that several read alike once."""
    pieces, resume = (HERE, None) if context is None else (context.pieces, context.resume)
    layers = [one for one in Layers(model) if one.node in rules]
    first: dict[object, Layer] = {}
    for layer in layers:
        first.setdefault(_shared(layer), layer)

    def solved(layer: Layer) -> tuple[str, Q]:
        return solve_plainly(rules[layer.node], layer, model.weights[layer.weight])

    journal = journal_in(resume, [model], (), "plainly", rules)
    known = dict(zip(first, each_once(journal, first.values(), solved, len(first), pieces), strict=True))
    found = {layer.node: (layer, *known[_shared(layer)]) for layer in layers}
    return Walked({node: Rounded(layer, quantized, method) for node, (layer, method, quantized) in found.items()})


def round_layers(model: Model, rules: Mapping[str, Rule[Q]], context: Context, kept: Model) -> Walked[Q]:
    """In turn on the data and its mirror images; without any by themselves, with biases for the means that
    BatchNormalization tells where it is ``kept``.
    """
    if context.data is None or not rules:
        walked = round_plainly(model, rules, context)
        if rules and any(has(node, Trait.STANDARDIZES) for node in kept.graph.node):
            weights = walked.applied(model).weights
            changed = {one.layer.weight: weights[one.layer.weight] for one in walked.rounded.values()}
            walked.biases.update(bias_correction(model, changed, moments(kept)))
        return walked
    batches, _ = calibration_inputs(model, context)
    return round_in_turn(model, model, with_mirrored(batches, model), rules, context)


@one_blas_thread
def round_in_turn(
    original: Model,
    running: Model,
    batches: Sequence[Mapping[str, Floats]],
    rules: Mapping[str, Rule[Q]],
    context: Context,
    *,
    most: int = PATCHES,
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
    layers = Layers(original)
    targets, twin = targets_of(original, layers), _Running(original, running)
    weights = Counter(layer.weight for layer in layers)
    tied = {name for name, count in weights.items() if count > 1}
    models = [original] if running is original else [original, running]
    journal = journal_in(context.resume, models, batches, rules, most, refit)
    rounding = _Rounding(rules, tied, refit=refit, journal=journal)
    with Store.of(context) as store:
        inputs, ruled = Inputs(batches, store), [layer for layer in layers if layer.node in rules]
        for turn in in_turn(original, twin, inputs, ruled, targets, context.tick, most=most):
            rounding.take(turn)
    return rounding.outcome


class _Running:
    """A twin that has the original's layers in the same order, and every tensor whole."""

    changed: AbstractSet[str] = frozenset()
    left = staticmethod(all_left)

    def __init__(self, original: Model, running: Model) -> None:
        self.model = running.copy()
        self._now = {one.node: now for one, now in zip(Layers(original), Layers(running), strict=True)}

    def counterpart(self, layer: Layer) -> Layer:
        return self._now[layer.node]


@dataclass
class _Rounding(Generic[Q]):
    """Rounds the layer whose turn it is. ``tied`` weights are shared by several layers, and ``known`` once rounded."""

    rules: Mapping[str, Rule[Q]]
    tied: AbstractSet[str]
    refit: bool
    journal: Journal | None = None
    known: dict[object, tuple[str, Q]] = field(default_factory=dict)
    outcome: Walked[Q] = field(default_factory=Walked)

    def take(self, turn: Turn) -> None:
        layer, now, model = turn.layer, turn.now, turn.twin.model
        turn.reach()
        place = len(self.outcome.rounded)
        found = once(self.journal, place, partial(self._solved, turn))
        self.known[_shared(layer)] = found.method, found.quantized
        self.outcome.rounded[layer.node] = Rounded(layer, found.quantized, found.method, float(found.error))
        changed = turn.constants(Fit(found.quantized.floats(), found.offset))
        model.weights[now.weight] = changed[now.weight]
        if now.bias is not None and layer.bias is not None and layer.weight not in self.tied:
            model.weights[now.bias] = self.outcome.biases[layer.bias] = changed[now.bias]

    def _solved(self, turn: Turn) -> _Answer[Q]:
        layer, moments, old = turn.layer, turn.moments, turn.weight
        free = layer.weight not in self.tied
        with blas_threads_for(old.shape[2]):
            wanted = turn.fit(STRENGTH, AWARE).weight if self.refit and free else old
            hessian = damped_hessian(moments, STRENGTH, centred=turn.centred and free)
            method, quantized = self.known.get(_shared(layer)) or self.rules[layer.node].solve(wanted, hessian)
        matrices = quantized.floats()
        spread = float(np.sum(moments.target_variance)) or 1.0
        lost = float(row_costs(matrices - wanted, hessian).sum())
        offset = moments.target_mean - np.einsum("goc,gc->go", matrices, moments.mean)
        return _Answer(method, quantized, lost / spread, offset)


@dataclass(frozen=True)
class _Answer(Generic[Q]):
    """What was found for one layer; ``offset`` is what its bias should add. Shapes: offset (groups, outputs)."""

    method: str
    quantized: Q
    error: float
    offset: Floats


def _shared(layer: Layer) -> object:
    """What is equal of layers that read a weight alike."""
    return layer.weight, layer.axis, layer.groups, layer.alpha
