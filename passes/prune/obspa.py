"""Optimal brain surgeon over coupled channels, calibrated: what goes, how much of each group, and the refit of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...graph.coupling import Coupling, Removal, remove
from ...graph.model import Model
from ...graph.nodes import replace_nodes
from ..calibration.goals import Goals
from ..calibration.layers import Floats, Layers
from ..calibration.stream import Inputs, Store, Stream
from ..simplify import fold_batch_norm, with_biases
from .allocate import allocate
from .choose import Limits, Ranking
from .curves import Curve, Curves
from .effects import Effects
from .readers import Readers
from .refit import Refit, Refitted, locally_decided, with_weights

_BATCH = 64
_STORE_BYTES = 1 << 29
"""Activations held in memory between layers; what is more goes to temporary files."""
_LEVELS = (0.25, 0.5, 0.75)
"""Fractions of a group's channels after whose removal the outputs are looked at."""
_SCORE_MACS = 1.5e12
"""Multiply-accumulates spent on looking at outputs: decides how many samples are used for it."""
_SCORE_SAMPLES = (16, 256)


def ready(model: Model) -> tuple[Model, int]:
    """An equal model in which every layer can be refitted alone. Returns it and the number of folded nodes.

    BatchNormalization is folded, every convolution has a bias, and no two layers share one.
    """
    folded, count = fold_batch_norm(model)
    return _own_biases(with_biases(folded)), count


def _own_biases(model: Model) -> Model:
    copy = model.copy()
    seen: set[str] = set()
    for node in copy.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 and node.input[2] in copy.weights:
            name = node.input[2]
            if name in seen:
                fresh, k = f"{name}_{node.output[0]}", 0
                while fresh in copy.weights:
                    fresh, k = f"{name}_{node.output[0]}_{k}", k + 1
                copy.weights[fresh] = copy.weights[name]
                node.input[2] = fresh
            seen.add(node.input[2])
    return copy


@dataclass
class Obspa:
    """One run over one analysed model. ``cost`` gives what a removal leaves in the target's unit, ``limit`` what may be."""

    coupling: Coupling
    numbers: Sequence[int]
    batches: Sequence[Mapping[str, Floats]]
    limits: Limits
    cost: Callable[[Removal], float]
    limit: float
    solver: str = "knapsack"
    threads: int = 2
    log: Callable[[str], None] = lambda text: None
    measured: dict[str, Any] = field(default_factory=dict)

    def run(self) -> tuple[Refitted, Coupling]:
        with Store(_STORE_BYTES) as store:
            inputs = Inputs(self.batches, store)
            readers = Readers(self.coupling)
            goals = Goals(self.coupling.model, self.coupling.unit_shapes, readers.layers)
            curves = self.curves(readers, goals, inputs)
            ranking = self.ranking(curves)
            self.log("allocate")
            keep = allocate(ranking, curves, lambda k: self.cost(ranking.removal(k)), self.limit, solver=self.solver)
            self.log(f"keep {dict(zip([self.coupling.groups[n].name for n in self.numbers], keep.tolist()))}")
            return self.refit(readers, goals, inputs, ranking, keep)

    def curves(self, readers: Readers, goals: Goals, inputs: Inputs) -> list[Curve]:
        model = self.coupling.model
        work = Curves(readers, Stream(model, inputs, threads=self.threads), goals)
        samples = self._score_samples()
        effects = Effects(model, Stream(model, inputs.first(samples), threads=self.threads))
        found: dict[int, Curve] = {}
        for chunk in work.groups(self.numbers):
            moments = work.moments(chunk)
            self.log("moments")
            inverses: dict[str, list[Floats]] = {}
            for k in chunk:
                found[k] = self._curve(work, effects, k, moments, inverses)
            self.log("curves")
        return [found[k] for k in self.numbers]

    def _score_samples(self) -> int:
        macs = sum(self.coupling.macs(i) for i in range(len(self.coupling.nodes)))
        runs = max(1, len(self.numbers) * len(_LEVELS)) / 2
        return int(np.clip(_SCORE_MACS / max(1, runs * macs), *_SCORE_SAMPLES))

    def _curve(
        self, work: Curves, effects: Effects, number: int, moments: Mapping[str, Any], inverses: dict[str, list[Floats]]
    ) -> Curve:
        readers = work.readers
        channels = len(self.coupling.groups[number].atoms)
        seats = readers.seats(number)
        levels = sorted({round(channels * level) for level in _LEVELS} - {0, channels})
        measured: dict[int, float] = {}
        if seats:
            effects.start_at(min(readers.place[s.layer.node] for s in seats))

        def look(gone: int, changed: Mapping[str, Any]) -> None:
            weights: dict[str, Floats] = {}
            for layer, matrices in changed.values():
                old = self.coupling.model.weights[layer.weight]
                new = np.stack(matrices)
                weights[layer.weight] = layer.weight_like(new, old)
                if layer.bias is not None:
                    moved = np.einsum("goc,gc->go", layer.matrix(old) - new, moments[layer.node].mean)
                    bias = self.coupling.model.weights[layer.bias]
                    offset = layer.offset(self.coupling.model)
                    weights[layer.bias] = layer.bias_like(offset + moved, bias)
            measured[gone] = effects.of(weights)

        curve = work.order(number, moments, inverses, levels, look)
        curve.measured.update(measured)
        return curve

    def ranking(self, curves: Sequence[Curve]) -> Ranking:
        scores = []
        for curve in curves:
            place = np.empty(len(curve.order))
            place[curve.order] = (np.arange(len(curve.order)) + 1) / len(curve.order)
            scores.append(place)
        return Ranking(self.coupling, self.numbers, scores, self.limits, "group")

    def refit(
        self, readers: Readers, goals: Goals, inputs: Inputs, ranking: Ranking, keep: Any
    ) -> tuple[Refitted, Coupling]:
        local = set(locally_decided(readers, self.numbers))
        later = {n: int(k) for n, k, size in zip(self.numbers, keep, ranking.sizes, strict=True) if n in local and k < size}
        first = keep.copy()
        for i, n in enumerate(self.numbers):
            if n in later:
                first[i] = ranking.sizes[i]
        walk = Refit(
            readers,
            goals,
            Stream(self.coupling.model, inputs, threads=self.threads),
            Stream(self.coupling.model, inputs, threads=self.threads),
            ranking.removal(first).removed,
            dict(later),
        )
        done = walk.run()
        self.log("refit")
        return done, with_weights(self.coupling, done.weights)


__all__ = ["Layers", "Obspa", "ready", "remove", "replace_nodes"]
