"""What a removal would leave of a model's running time on this machine, without doing it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import scipy

from ....graph.coupling import Coupling, Removal, remove
from ....graph.coupling.labels import Axes, IntArray, Why
from ....graph.coupling.solve import BoolArray
from ....graph.dtypes import bits
from ....graph.errors import IntaglioError
from ....graph.index import index_of
from ....graph.model import Model
from ....graph.shapes import Shapes
from ....measure.optime.block import INTEGER_BLOCK, channel_block
from ....measure.optime.cache import cache_folder
from ....measure.optime.times import LayerTimes
from ....measure.optime.wholes import Inputs, Wholes, time_wholes
from ....measure.run.inputs import runnable_inputs, sizes_of
from ....measure.run.latency import Timing, time_pair
from ...budget.latency_target import LatencyReport, Planned, meet_latency
from ..choose import Limits, Ranking, eligible, one_direction
from ..removal_cost import Terms
from ..weights import Scores
from .shape import shape_of
from .surface import Surface, surfaces

Follow = Callable[[Model], Model]
WholeTimer = Callable[[Sequence[Model], Inputs, int], Wholes]
_ANCHORS = (0.5, 0.25)
"""Uniform widths at which the whole model is measured too, beside its full one."""
_PULL = 0.5
"""How much the expected weights of the parts count beside one real run; any value from 0.1 to 1 predicts as well."""
_MANY, _LARGE_MACS = 40, 1 << 30
"""Different nodes, and MACs of these, above which they are measured at fewer widths, so that it takes seconds."""
_BYTES_A_MAC = 0.25
"""What a MAC of a node that cannot be measured counts, beside the bytes that the others touch."""


class LatencyModel:
    """Predicts the milliseconds of one run of what a removal leaves, symbolic batches being 1.

    Every node that multiplies and accumulates is measured at a few widths (``LayerTimes``) and interpolated. What
    else a run takes is a constant and a part that follows the bytes that the other nodes touch; these two, and one
    factor for all measured nodes (the runtime fuses some, and caches are shared), are fitted to real runs of the
    original and of two uniformly narrowed ones. The original's own time is met exactly.

    ``inputs`` are what it runs on, made up if none are given. ``full`` is the measured time of one run of the
    original, ``block`` the number of channels of which multiples run best. Units: milliseconds. ``follow`` makes of a
    model what passes that come later will make of it, in integers: then the times are those of its results, ``full``
    aside.

    Raises:
        BadModel: the original does not run.
    """

    full: float

    def __init__(
        self,
        coupling: Coupling,
        threads: int = 1,
        *,
        seed: int = 0,
        inputs: Inputs | None = None,
        times: LayerTimes | None = None,
        whole: WholeTimer = time_wholes,
        follow: Follow | None = None,
    ) -> None:
        self.coupling, self.threads = coupling, threads
        self.inputs = inputs or runnable_inputs(coupling.original, seed=seed, batches=(1, 2))
        self.times = times or LayerTimes(threads, folder=cache_folder())
        self.follow, self.block = follow, INTEGER_BLOCK if follow else channel_block()
        index = index_of(coupling.model)
        shapes, self._fixed = index.shapes_at(sizes_of(self.inputs, coupling.original)), index.constant
        self._surfaces = self._measure(shapes)
        self._bytes = _touched(coupling, shapes, self._fixed, self._surfaces)
        self._fit(whole)

    def after(self, removal: Removal) -> float:
        """Milliseconds of one run of what is left."""
        return float(np.dot(self._weights, self._parts(removal.goes)))

    def _measure(self, shapes: Shapes) -> dict[int, Surface]:
        coupling = self.coupling
        found = (
            (k, shape_of(coupling, k, shapes, self._fixed, integers=self.follow is not None))
            for k in coupling.trace.shares
        )
        known = {k: s for k, s in found if s is not None}
        distinct = {s.at(s.lengths): coupling.macs(k) for k, s in known.items()}
        coarse = len(distinct) > _MANY or sum(distinct.values()) > _LARGE_MACS
        return surfaces(known, self.block, self.times.of, coarse=coarse)

    def _parts(self, goes: BoolArray) -> tuple[float, float, float]:
        """One, the fraction of bytes that is left, and the time of the measured nodes in runs of the reference."""
        table = self.coupling.axis_table
        stay = np.add.reduceat(~goes[table.classes], table.starts, dtype=np.int64)
        heavy = sum(s.at(tuple(stay[list(s.shape.places)].tolist())) for s in self._surfaces.values())
        return 1.0, self._bytes.total(goes) if len(self._bytes.amounts) else 1.0, heavy

    def _fit(self, whole: WholeTimer) -> None:
        """Weigh the parts so that they add up to what real runs take, the original's exactly."""
        removals = [Removal(self.coupling, self.coupling.nothing())]
        models = [self.coupling.original]
        for removal in self._anchors():
            try:
                models.append(remove(removal))
            except IntaglioError:
                continue
            removals.append(removal)
        later = [self.follow(one) for one in models] if self.follow else []
        timed = whole([models[0], *later] if later else models, self.inputs, self.threads)
        parts = np.array([self._parts(r.goes) for r in removals])
        weights = _weights(parts, np.array(timed.relative[-len(parts) :]), timed.empty)
        self._weights = weights * timed.reference_ms
        self.full = timed.relative[0] * timed.reference_ms

    def time(self, small: Model, original: Model | None = None) -> Timing:
        """The original and what is left, what follows done to the latter, in turn."""
        after = self.follow(small) if self.follow else small
        return time_pair(original or self.coupling.original, after, self.threads, inputs=self.inputs)

    def _anchors(self) -> list[Removal]:
        """The original with every width cut alike, to whole blocks where there are any."""
        coupling = self.coupling
        numbers = one_direction(coupling, eligible(coupling, include=(), exclude=(), exact_only=False), "width")
        if not numbers:
            return []
        scores = [np.arange(coupling.groups[k].channels, dtype=np.float64) for k in numbers]
        ranking = Ranking(coupling, numbers, scores, Limits(1, self.block), "group")
        wanted = [ranking.allowed(np.ceil(ranking.sizes * keep).astype(np.int64)) for keep in _ANCHORS]
        return [ranking.removal(keep) for keep in wanted if (keep < ranking.sizes).any()]


def meet_target(
    plan: Callable[[float], Removal],
    model: LatencyModel,
    keep: float,
    *,
    time: Callable[[Removal], Timing] | None = None,
) -> tuple[Removal, LatencyReport]:
    """Find a removal that leaves the fraction ``keep`` of the original's measured time: see ``meet_latency``.

    ``plan`` gives a removal of which the prediction is at most so many milliseconds. What is timed has the weights it
    has before any repair: they do not matter.
    """

    def planned(goal: float) -> Planned[Removal]:
        removal = plan(goal * model.full)
        return Planned(removal, model.after(removal) / model.full, removal.removed.tobytes())

    def timed(removal: Removal) -> Timing:
        return model.time(remove(removal))

    return meet_latency(planned, time or timed, keep)


def _weights(parts: Scores, real: Scores, empty: float) -> Scores:
    """Least squares in relative errors, weights not negative; a weak pull towards measured nodes as they are.

    Shapes: parts (models, 3), real (models,), result (3,).
    """
    heavy = max(float(parts[0, 2]), 1e-9)
    rest = max(float(real[0]) - empty - heavy, 0.0)
    scale = float(np.clip((float(real[0]) - empty) / heavy, 0, 1))
    expected = np.array([empty + rest / 2, rest / 2, scale])
    pull = np.diag(_PULL * np.array([1.0, 1.0, heavy]) / real[0])
    rows = np.vstack([parts / real[:, None], pull])
    goal = np.concatenate([np.ones(len(real)), pull @ expected])
    fitted = np.asarray(scipy.optimize.lsq_linear(rows, goal, bounds=([min(empty, 0.9 * real[0]), 0, 0], np.inf)).x)
    return fitted * (real[0] / float(parts[0] @ fitted))


def _touched(coupling: Coupling, shapes: Shapes, fixed: frozenset[str], measured: Collection[int]) -> Terms:
    """Bytes that the nodes that are not measured touch, as fractions of what they touch in the original."""
    terms: list[tuple[float, dict[int, IntArray]]] = []
    places = coupling.axis_table.places
    for index, node in enumerate(coupling.nodes):
        if index in measured or fixed.issuperset(o for o in node.output if o):
            continue
        found: list[tuple[float, Axes]] = [
            (coupling.macs(index) * share * _BYTES_A_MAC, tuple(axes))
            for share, axes in coupling.trace.shares.get(index, ())
        ]
        for name in (*node.input, *node.output):
            if name in shapes.dims:
                size = float(np.prod(shapes.dims[name])) * bits(shapes.dtypes.get(name, 0)) / 8
                found.append((size, coupling.axes(name)))
        terms += [
            (amount, {k: x for k, x in enumerate(axes) if not isinstance(x, Why) and id(x) in places})
            for amount, axes in found
        ]
    whole = max(sum(amount for amount, _ in terms), 1.0)
    return Terms(coupling.solution.classes, [(amount / whole, axes) for amount, axes in terms])
