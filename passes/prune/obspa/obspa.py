"""Optimal brain surgeon over coupled channels, calibrated: what goes, how much of each group, and the refit of the rest."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ....graph.coupling import Removal, remove
from ....graph.errors import UsageError
from ....graph.layer import Floats, Layer
from ....graph.model import Model
from ...base import MEMORY
from ...calibration.activation_cache import ActivationCache, Inputs, Store, counting
from ...calibration.effects import Effects
from ...calibration.feeds import calibration_inputs, with_mirrored
from ...calibration.journal import Journal, journal_in
from ...calibration.moments import Moments, one_blas_thread
from ...calibration.noise import normalized_on_noise
from ...calibration.reconstruct import RIDGE, constants_with_mean, solve
from ...calibration.samples import PATCHES
from ...calibration.targets import ReconstructionTargets
from ...simplify import fold_batch_norm, with_biases
from ..choose import Ranking
from ..criteria.criteria import CRITERIA, Criterion
from ..options import UNRANKED
from ..plan import Choice, Job, Planner
from ..ranked import by_group, check_reached, meet, near_to, stated, unreachable
from ..readers import Readers
from ..repair.refit import Refitted, locally_decided, refit_in_turn
from ..repair.repair import with_weights
from .allocate import allocate
from .curves import Curve, Curves, arrays_of, curves_of

_LEVELS = (0.25, 0.5, 0.75)
"""Fractions of a group's channels after whose removal the outputs are looked at."""
_ONE_LEVEL = (0.5,)
"""The same for networks so large that even the fewest samples would take long."""
_SCORE_MACS = 1.5e12
"""Multiply-accumulates spent on looking at outputs: decides how many samples are used for it, and how many levels."""
_SCORE_SAMPLES = (16, 256)
_MATRICES = MEMORY // 2
"""Bytes of the matrices that are held at once. Which layers' are decides how the network is cut into the parts that run,
and so how activations are rounded: whatever a run may hold, it is the same.
"""
_NOISE_RIDGE = 0.1
"""Pull towards the old weights where statistics are those of noise."""
_OF_NO_ORDER = {
    "target",
    "keep",
    "widths",
    "solver",
    "repair",
    "min_channels",
    "round_to",
    "followed_by",
    "verify",
    "nested",
}
"""Options that decide how much goes, or what is done then."""
log = logging.getLogger(__name__)


def ready(model: Model) -> Model:
    """An equal model: BatchNormalization folded where it can be, a bias for every layer that takes one."""
    return with_biases(fold_batch_norm(model)[0])


def _normalizations(model: Model) -> int:
    return sum(n.op_type == "BatchNormalization" for n in model.graph.node)


class ObspaCriterion(Criterion):
    """Loss of everything that reads a channel, what stays refitted to make up for it; needs calibration data."""

    def ready(self, model: Model) -> tuple[Model, list[str]]:
        """Every layer with a bias and without BatchNormalization after it, so that it can be refitted alone."""
        equal = ready(model)
        count = _normalizations(model) - _normalizations(equal)
        return equal, [f"{count} BatchNormalization nodes folded into the layers before them"] if count else []

    def planner(self, job: Job) -> Planner:
        return Obspa(job)


CRITERIA.register("obspa")(ObspaCriterion())


class Obspa:
    """One run over one analysed model.

    The order in which a group's channels go comes from eliminating one after the other, for all layers that read them,
    on the original network's statistics. A few widths of each group are tried alone, and the outputs compared: this
    says how many channels each group keeps. Then the network is compressed from its inputs on: groups that one layer
    alone reads choose their channels anew by what reaches them there, and every layer is refitted.

    Source: Wang et al., "Structurally Prune Anything: Any Architecture, Any Framework, Any Time", 2024,
    arXiv:2403.18955 (OBSPA); He et al., ICCV 2017, arXiv:1707.06168, and Zhang et al., PAMI 2016, arXiv:1505.06798
    (refits of layers that see the compressed network, through the rectifier).
    Differs: exact block elimination in place of SparseGPT's order; widths by the outputs they cost; targets of
    residual sums corrected by what the other branch got wrong.
    """

    def __init__(self, job: Job) -> None:
        if job.asked.steps > 1:
            raise UsageError("obspa takes no --steps", why="it scores anew after every channel already")
        self.job = job
        self.readers = Readers(job.coupling)
        self.targets = ReconstructionTargets(job.coupling.model, job.coupling.prepared.shapes, self.readers.layers)
        self.notes: list[str] = []
        self._planned: dict[bytes, dict[str, int]] = {}

    @one_blas_thread
    def plan(self, limit: float) -> Removal:
        job, ranking = self.job, self.ranking
        keep = stated(ranking, job)
        if keep is not None:
            return ranking.removal(keep)
        if job.asked.scope == "group":
            keep = meet(ranking, job, limit)
        else:
            keep = allocate(
                ranking, self.curves, lambda k: job.cost(ranking.removal(k)), limit, solver=job.asked.solver
            )
        removal = ranking.removal(keep)
        self._planned[removal.removed.tobytes()] = by_group(job, keep)
        if job.cost(removal) > limit + near_to(job.asked.keep) * job.whole:
            raise unreachable(job, job.cost(removal) / job.whole)
        return removal

    def widths(self, removal: Removal) -> dict[str, int]:
        return self._planned[removal.removed.tobytes()]

    @one_blas_thread
    def finish(self, removal: Removal) -> Choice:
        notes = [] if self.job.asked.target in UNRANKED else check_reached(self.job, self.ranking, removal)
        if self.job.asked.nested:
            return Choice(removal, [*self.notes, *notes], self._details(removal))
        with Store.of(self.job.context) as store:
            batches = self._batches if self._noise else self._mirrored
            inputs = Inputs(batches, store)
            done = self._alone(inputs, removal) if self._noise else self._refitted(inputs, removal)
        log.info("refitted %d layers", done.layers)
        settled = with_weights(Removal(self.job.coupling, done.removed), done.weights)
        return Choice(settled, [*self.notes, *notes], self._details(settled))

    @property
    def _noise(self) -> bool:
        return self.job.asked.dialect == "noise"

    @property
    def _strength(self) -> float:
        return _NOISE_RIDGE if self._noise else RIDGE

    @cached_property
    def model(self) -> Model:
        """The model whose activations are looked at: on noise, one that is normalized on it."""
        if not self._noise:
            return self.job.coupling.model
        return ready(normalized_on_noise(self.job.source, self._batches, self.job.context))

    def _alone(self, inputs: Inputs, removal: Removal) -> Refitted:
        """Refit each layer by itself: what noise does further on is no guide to what went wrong before."""
        model = self.job.coupling.model
        work = Curves(self.readers, ActivationCache(self.model, inputs), self.targets, ridge=self._strength)
        kept = {one.node: self._kept(one, removal) for one in self.readers.layers if not self.readers.layers.tied(one)}
        layers = [layer for layer in self.readers.layers if kept.get(layer.node) is not None]
        weights: dict[str, Floats] = {}
        for layer, stats in work.patches(layers):
            keep = kept[layer.node]
            old = layer.matrix(model.weights[layer.weight])
            wide = np.zeros_like(old)
            for g, h in enumerate(stats.covariance):
                stay = np.flatnonzero(keep[g])
                target = old[g] @ h[:, stay]
                wide[g][:, stay] = solve(h[np.ix_(stay, stay)], target, old[g][:, stay], self._strength)
            weights |= constants_with_mean(layer, model, wide, stats.mean)
        return Refitted(removal.removed, weights, len(layers))

    def _kept(self, layer: Layer, removal: Removal) -> Any:
        """Which columns of a layer's matrices stay; None where all do."""
        axis = layer.x_axis % len(self.job.coupling.prepared.shapes.dims[layer.x])
        mask = removal.tensor(layer.x).get(axis)
        if mask is None or layer.groups == len(mask):
            return None
        return mask[layer.column_channels]

    def _details(self, removal: Removal) -> dict[str, Any]:
        samples = sum(len(counting(b)) for b in self._batches)
        mirrored = not self._noise and len(self._mirrored) > len(self._batches)
        told = {"dialect": self.job.asked.dialect or "id", "samples": samples, "mirrored": mirrored}
        return {**told, "solver": self.job.asked.solver}

    @cached_property
    def _batches(self) -> Sequence[Mapping[str, Floats]]:
        batches, notes = calibration_inputs(self.job.coupling.model, self.job.context)
        self.notes += notes
        return batches

    @property
    def _mirrored(self) -> Sequence[Mapping[str, Floats]]:
        model = self.job.coupling.model
        return with_mirrored(self._batches, model) if self.job.asked.mirror else self._batches

    @cached_property
    def _macs(self) -> int:
        return sum(self.job.coupling.macs(i) for i in range(len(self.job.coupling.nodes)))

    @cached_property
    def curves(self) -> list[Curve]:
        """Order and harm of every group of the job, which do not hang on how much is to go."""
        if self.job.context.kept is None:
            return self._worked_out()
        made = self.job.context.kept.take(self._told, lambda: arrays_of(self._worked_out()))
        return curves_of(made, len(self.job.numbers))

    @property
    def _told(self) -> dict[str, Any]:
        """What curves hang on beside the model and the data."""
        asked = self.job.asked.model_dump(mode="json", exclude=_OF_NO_ORDER)
        return {"obspa": asked, "stated": self.job.asked.target in UNRANKED, "groups": list(self.job.numbers)}

    def _journal(self, models: Sequence[Model], batches: Sequence[Mapping[str, Floats]], *asked: Any) -> Journal | None:
        return journal_in(self.job.context.resume, models, batches, *asked)

    def _worked_out(self) -> list[Curve]:
        job = self.job
        with Store.of(job.context) as store:
            inputs = Inputs(self._batches, store)
            cache = ActivationCache(self.model, inputs)
            work = Curves(self.readers, cache, self.targets, ridge=self._strength, most=PATCHES // 2)
            levels, samples = self._looks()
            looked = inputs.first(samples)
            effects = None
            if job.asked.target not in UNRANKED and job.asked.scope == "global":
                effects = Effects(self.model, looked)
            found, journal = dict[int, Curve](), self._journal([self.model], self._batches, self._told)
            chunks = list(work.groups(job.numbers, _MATRICES))
            for i, chunk in enumerate(chunks):
                known = {k: one for k in chunk if journal is not None and (one := journal.read(k)) is not None}
                later = [k for after in chunks[i + 1 :] for k in after]
                if len(known) == len(chunk):
                    work.pass_by(chunk, later)
                moments = work.moments(chunk, later) if len(known) < len(chunk) else {}
                log.info("statistics of %d groups", len(chunk))
                inverses: dict[str, list[Floats]] = {}
                for k in chunk:
                    if k in known:
                        self._look_from(effects, k)
                        (found[k],) = curves_of(known[k], 1)
                    else:
                        found[k] = self._curve(work, effects, k, moments, inverses, levels)
                        if journal is not None:
                            journal.keep(k, arrays_of([found[k]]))
                    job.context.tick(len(found), 2 * len(job.numbers))
                log.info("ordered %d groups", len(chunk))
        return [found[k] for k in job.numbers]

    def _looks(self) -> tuple[Sequence[float], int]:
        """At which levels of each group, and on how many samples, the outputs are looked at."""
        least, most = _SCORE_SAMPLES
        whole = max(1, len(self.job.numbers) * self._macs) / 2  # half the network runs anew for a group
        levels = _LEVELS if least * whole * len(_LEVELS) <= _SCORE_MACS else _ONE_LEVEL
        return levels, int(np.clip(_SCORE_MACS / (whole * len(levels)), least, most))

    def _curve(
        self,
        work: Curves,
        effects: Effects | None,
        number: int,
        moments: Mapping[str, Moments],
        inverses: dict[str, list[Floats]],
        fractions: Sequence[float],
    ) -> Curve:
        channels = len(self.job.coupling.groups[number].atoms)
        seats = self.readers.seats(number)
        levels = sorted({round(channels * fraction) for fraction in fractions} - {0, channels})
        measured: dict[int, float] = {}
        self._look_from(effects, number)

        def look(gone: int, changed: Mapping[str, Any]) -> None:
            if effects is not None:
                measured[gone] = effects.of(self._constants(changed, moments))

        opaque = bool(self.readers.opaque(number))
        curve = work.order(number, moments, inverses, levels, None if opaque else look)
        if opaque and effects is not None and not self._noise:
            atoms = self.job.coupling.groups[number].atoms
            for gone in levels:
                removed = self.job.coupling.nothing()
                removed[atoms[curve.order[:gone]]] = True
                measured[gone] = effects.of_model(remove(Removal(self.job.coupling, removed)))
        finite = {gone: harm for gone, harm in measured.items() if np.isfinite(harm)}
        return replace(curve, measured=finite, shared=len(seats) > 1)

    def _look_from(self, effects: Effects | None, number: int) -> None:
        seats = self.readers.seats(number)
        if effects is not None and seats:
            effects.start_at(min(s.layer.place for s in seats))

    def _constants(self, changed: Mapping[str, Any], moments: Mapping[str, Moments]) -> dict[str, Floats]:
        """Weights and biases of layers with new matrices; what a mean input gives stays."""
        found: dict[str, Floats] = {}
        for layer, matrices in changed.values():
            found |= constants_with_mean(layer, self.model, np.stack(matrices), moments[layer.node].mean)
        return found

    @cached_property
    def ranking(self) -> Ranking:
        scores = []
        for curve in self.curves:
            place = np.empty(len(curve.order))
            place[curve.order] = (np.arange(len(curve.order)) + 1) / len(curve.order)
            scores.append(place)
        return Ranking(self.job.coupling, self.job.numbers, scores, self.job.limits, "group")

    def _refitted(self, inputs: Inputs, removal: Removal) -> Refitted:
        """Refit what reads a removal; groups that can choose their channels anew on the way do."""
        widths: dict[int, int] = {}
        for k in locally_decided(self.readers, self.job.numbers):
            gone = removal.removed[self.job.coupling.groups[k].atoms]
            if gone.any():
                widths[k] = int((~gone).sum())
        tick, model = self.job.context.tick, self.job.coupling.model
        journal = self._journal([model], self._mirrored, removal.removed, widths)
        return refit_in_turn(
            self.readers,
            self.targets,
            inputs,
            removal.removed,
            widths,
            tick=lambda done, total: tick((total or done) + done, 2 * (total or done)),
            journal=journal,
        )
