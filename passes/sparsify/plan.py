"""How many weights of each layer stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ...graph.errors import UsageError
from ...graph.layer import Floats, Layer
from ...graph.model import Model
from ..base import Context
from ..calibration.activation_cache import ActivationCache, Inputs, Store, each
from ..calibration.feeds import calibration_inputs
from ..calibration.moments import blas_threads_for, one_blas_thread
from ..calibration.reconstruct import damped_hessian
from ..calibration.samples import moments_of_patches
from ..calibration.support import positive
from ..calibration.walk import STRENGTH
from ..precision.sensitivity import PATCHES, sensitivity
from .chosen import Chosen
from .densities.density import DENSITIES, Spread, counts_of
from .method import METHODS, Problem
from .options import SparsifyOptions
from .patterns import Pattern, Placed, pattern_named
from .rule import AS_IT_IS, SparseRule

_LOOKED_AT = 256
"""Samples on which outputs are compared."""


@dataclass(frozen=True)
class Plan:
    """Rules for the layers of a model, at any density of all together."""

    model: Model
    options: SparsifyOptions
    context: Context
    method: str
    chosen: Chosen

    def plain(self) -> Plan:
        """One that counts as many weights, without data wherever that changes no count."""
        looks = self.options.layers in ("global", "measured")
        return self if looks else replace(self, method="magnitude", context=replace(self.context, data=None))

    def rules(self, density: float | None) -> dict[str, SparseRule]:
        """By layers' nodes; those that read one weight have one rule. Without a density all stays that is not zero.

        Raises:
            UsageError: a scheme of densities needs data, or a method's scores do not compare layers.
        """
        if density is None:
            return {node: self._rule(one, 0, AS_IT_IS) for node, one in self.chosen.layers.items()}
        firsts = self.chosen.first
        counts = dict(zip(firsts, self._counts(density, list(firsts.values())), strict=True))
        return {node: self._rule(firsts[one.weight], counts[one.weight]) for node, one in self.chosen.layers.items()}

    def _rule(self, layer: Layer, count: int, method: str = "") -> SparseRule:
        pattern, options = self._pattern(layer), self.options
        name, seed = method or self.method, self.context.seed
        return SparseRule(name, pattern, count, layer.name, seed, options.refit, options.codebook)

    def _pattern(self, layer: Layer) -> Pattern:
        found = pattern_named(self.options.pattern)
        return found.of_layer(layer) if isinstance(found, Placed) else found

    def _counts(self, density: float, layers: Sequence[Layer]) -> list[int]:
        shapes = [one.shape for one in layers]
        if METHODS[self.method].own or pattern_named(self.options.pattern).density is not None:
            return [round(density * one.columns * one.outputs * one.groups) for one in layers]
        scores, losses = partial(self._scores, layers), partial(self._losses, layers)
        return counts_of(DENSITIES[self.options.layers], Spread(shapes, density, scores, losses))

    def _scores(self, layers: Sequence[Layer]) -> list[Floats]:
        score = METHODS[self.method].scores
        if score is None:
            raise UsageError(
                f"--layers global compares scores, and {self.method} has none", fix="take --layers uniform"
            )
        whole = [self._problem(one, hessian) for one, hessian in self._hessians(layers)]
        return [score(problem) for problem in whole]

    def _problem(self, layer: Layer, hessian: Floats | None) -> Problem:
        wanted = layer.matrix(self.model.weights[layer.weight])
        return Problem(wanted, hessian, wanted.size, self._pattern(layer), layer.name, self.context.seed)

    @one_blas_thread
    def _hessians(self, layers: Sequence[Layer]) -> Iterator[tuple[Layer, Floats | None]]:
        if self.context.data is None:
            yield from ((one, None) for one in layers)
            return
        with Store.of(self.context) as store:
            cache = ActivationCache(self.model, Inputs(calibration_inputs(self.model, self.context)[0], store))
            for one in each(cache, [(layer, [layer.x]) for layer in layers]):
                moments = moments_of_patches(one, cache, -(-PATCHES // max(1, cache.samples)))
                with blas_threads_for(one.columns):
                    yield one, positive(damped_hessian(moments, STRENGTH, centred=one.bias is not None))

    def _losses(self, layers: Sequence[Layer], densities: Sequence[float]) -> list[Floats]:
        if self.context.data is None:
            raise UsageError("--layers measured looks at outputs, which takes inputs", fix="add --data, or take erk")
        rules: Mapping[str, list[SparseRule]] = {
            one.node: [self._rule(one, max(1, round(d * one.columns * one.outputs * one.groups))) for d in densities]
            for one in layers
        }
        with Store.of(self.context) as store:
            inputs = Inputs(calibration_inputs(self.model, self.context)[0], store).first(_LOOKED_AT)
            found = sensitivity(self.model, inputs, rules, tick=self.context.tick, pieces=self.context.pieces)
        return [found[one.node] for one in layers]
