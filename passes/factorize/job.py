"""One run of the pass over one model: what can be split, what it would cost and lose, and what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ...graph.cost import cost
from ...graph.errors import BadModel, TargetUnreachable, UsageError
from ...graph.index import index_of
from ...graph.io.save import file_bytes
from ...graph.layer import Floats
from ...graph.model import Model
from ...graph.nodes import display_name
from ...measure.run.inputs import runnable_inputs, sizes_of
from ...measure.run.tensor_specs import input_specs
from ..base import Context
from ..budget.drop import accuracy_of, smallest
from ..budget.latency_target import LatencyReport
from ..calibration.activation_cache import Inputs, Store, counting
from ..calibration.feeds import calibration_inputs, with_mirrored
from ..calibration.journal import journal_in, once
from ..calibration.noise import normalized_on_noise
from ..change import amounts
from ..live import Live
from ..patterns import choose_nodes
from ..proof import real_inputs
from ..simplify import Names
from .candidates import Option, option, options_of
from .gains import Gains
from .independent import alone
from .latency import Times, meet_target
from .losses import Table, by_outputs, by_weights
from .options import FactorizeOptions
from .plan import Picked, Plan, cheapest, costs_of, count_units, unreachable
from .ready import ready, without_idle_biases
from .rewrite import apply, split
from .schemes.scheme import SCHEMES
from .sites import UNKNOWN, LayerReport, Unit, by_name, find
from .statistics import NOISE_STRENGTH, STRENGTH
from .walk import Done, in_one_walk
from .walk import by_weights as split_by_weights

_SIZE_ROUNDS = 6
"""Models that are built and evaluated to find the smallest whose accuracy stays."""
_SEE = ", lower --align, --min-gain or --min-speedup, or --no-measure"


class Job:
    """One run of the pass over one model."""

    def __init__(self, asked: FactorizeOptions, live: Live, context: Context) -> None:
        self.asked, self.source, self.context = asked, live.model, context
        self.model, self.notes, self.idle = ready(self.source, biases=context.data is not None)
        self.before = amounts(live.given)
        units, whole = find(self.model)
        self.whole = [self._pinned(one) for one in whole]
        self._every = units
        wanted = choose_nodes(self.model, asked.include, asked.exclude)
        allowed = {k for k, unit in enumerate(units) if any(wanted[site.place] for site in unit.sites)}
        self.ranks = {by_name(units, name): rank for name, rank in asked.ranks}
        self.schemes = {by_name(units, name): SCHEMES[scheme].name for name, scheme in asked.scheme_of}
        self.amount = "params" if asked.target in ("params", "size") else "macs"
        kept: list[tuple[Unit, list[Option], bool]] = []
        for k, unit in enumerate(units):
            options, reason = self._options(unit, k, allowed)
            if options:
                kept.append((unit, options, k in self.ranks))
            else:
                self.whole += [LayerReport(site.name, site.op, reason=reason) for site in unit.sites]
        self.units = [unit for unit, _, _ in kept]
        self.options = [options for _, options, _ in kept]
        self.must = frozenset(i for i, (_, _, fixed) in enumerate(kept) if fixed)
        self._done: dict[frozenset[tuple[int, Option]], Done] = {}

    def _options(self, unit: Unit, k: int, allowed: set[int]) -> tuple[list[Option], str]:
        if k in self.ranks:
            return self._fixed(unit, self.ranks[k], (self.schemes[k],) if k in self.schemes else self.asked.schemes), ""
        if k not in allowed:
            return [], "left out by --include or --exclude"
        if self.asked.target == "rank":
            return [], "no --rank was given for it"
        return options_of(unit, self.asked, self.amount, blind=self.context.data is None)

    def _fixed(self, unit: Unit, rank: int, schemes: Sequence[str]) -> list[Option]:
        names = [n for n in schemes or SCHEMES.builtin if not SCHEMES[n].obstacle(unit.site)]
        if not names:
            raise UsageError(f"none of the schemes {', '.join(schemes)} suits {unit.name!r}")
        largest = max(SCHEMES[n].largest(unit.site) for n in names)
        if not 1 <= rank <= largest:
            raise UsageError(f"{unit.name!r} has no rank {rank}", fix=f"give a rank from 1 to {largest}")
        found = [option(unit, n, rank, self.amount) for n in names if rank <= SCHEMES[n].largest(unit.site)]
        cheaper = [o for o in found if o.gain > 1]
        if not cheaper:
            self.notes.append(f"{unit.name} gets more expensive at rank {rank}")
        return cheaper or found

    @cached_property
    def batches(self) -> list[Mapping[str, Floats]]:
        batches, notes = calibration_inputs(self.model, self.context)
        self.notes += notes
        return batches

    @cached_property
    def tables(self) -> list[Table]:
        """Options of all units with what they lose."""
        if self.context.data is None or not self.units:
            return self._by_weights()
        pairs = list(zip(self.units, self.options, strict=True))
        with Store.of(self.context) as store:
            inputs = Inputs(self.batches, store)
            strength, pieces = NOISE_STRENGTH if self.noise else STRENGTH, self.context.pieces
            asked = [(unit.name, options) for unit, options in pairs], strength
            journal = journal_in(self.context.resume, [self.looked], self.batches, *asked)
            return by_outputs(self.looked, pairs, inputs, self._tick(0), strength, pieces, journal)

    def _by_weights(self) -> list[Table]:
        asked = [(unit.name, options) for unit, options in zip(self.units, self.options, strict=True)]
        journal = journal_in(self.context.resume, [self.model], (), "by weights", *asked)
        return [
            once(journal, k, partial(by_weights, self.model, unit, options))
            for k, (unit, options) in enumerate(zip(self.units, self.options, strict=True))
        ]

    @property
    def noise(self) -> bool:
        return self.asked.dialect == "noise"

    @cached_property
    def looked(self) -> Model:
        """The model whose activations are looked at: on noise, one that is normalized on it."""
        if not self.noise:
            return self.model
        return ready(normalized_on_noise(self.source, self.batches, self.context), biases=True)[0]

    @cached_property
    def gains(self) -> Gains | None:
        return Gains(self.model, self._sizes()) if self.asked.measure or self.asked.target == "latency" else None

    @property
    def timed(self) -> list[str]:
        """That the choice rests on times of this machine which nothing had remembered."""
        measured = "gains" in vars(self) and self.gains is not None and self.gains.times.measured
        if not measured:
            return []
        return [
            f"{measured} operators were timed here; where their times are forgotten, other ranks may be chosen, but by a recipe that names these"
        ]

    def stated(self, picked: Picked) -> dict[str, Any]:
        """Options that ask for just these ranks, where times had a say in them."""
        if not picked or self.gains is None:
            return {}
        chosen = [(self._called(k), one) for k, one in sorted(picked.items())]
        ranks, ways = [(name, one.rank) for name, one in chosen], [(name, one.scheme) for name, one in chosen]
        return {"target": "rank", "keep": 0.5, "ranks": tuple(ranks), "scheme_of": tuple(ways), "measure": False}

    def _called(self, k: int) -> str:
        """What no other unit is called."""
        unit = self.units[k]
        names = (*(site.name for site in unit.sites), *(site.node for site in unit.sites), unit.weight)
        return next((name for name in names if self._every[by_name(self._every, name)] is unit), unit.weight)

    @cached_property
    def plan(self) -> Plan:
        asked = self.asked
        gains = self.gains if asked.measure else None
        return Plan(self.units, self.tables, self.must, gains, asked.min_speedup, asked.align)

    def pick(self) -> tuple[Picked, LatencyReport | None]:
        asked = self.asked
        if not self.units:
            return {}, None
        if asked.target == "latency":
            assert self.gains is not None
            times = Times.measured(self.gains, self.units, self.options, self.source)
            if times.lowest > asked.keep:
                raise self._unreachable(asked.keep, times.lowest)
            return meet_target(self.plan, times, self.structure, asked.keep, asked.solver)
        if asked.target in ("macs", "params", "size") and (lowest := self._lowest(asked.target)) > asked.keep:
            raise self._unreachable(asked.keep, lowest)
        if asked.target in ("macs", "params"):
            return self.within(asked.target, asked.keep), None
        if asked.target == "size":
            return self._within_size(asked.keep), None
        if asked.target == "energy":
            return self.plan.each([t.local for t in self.tables], 1 - asked.keep + 1e-12), None
        if asked.target == "evbmf":
            return self._evbmf(), None
        if asked.target == "drop":
            return self._smallest(), None
        return self.within("macs", 1e9), None

    def _lowest(self, target: str) -> float:
        """The least fraction that any ranks leave, as far as it can be told before layers are looked at."""
        amount = "params" if target == "size" else target
        costs, whole = costs_of(self.options, amount), count_units(self.units, amount)
        chosen = {k: self.options[k][o] for k, o in enumerate(cheapest(costs, whole)) if o >= 0}
        if target == "size":
            return file_bytes(self.structure(chosen)) / self.before.size
        saved = sum(whole[k] - getattr(o, amount) for k, o in chosen.items())
        return float(getattr(cost(self.model), amount) - saved) / max(1.0, self.before.of(amount))

    def within(self, amount: str, keep: float) -> Picked:
        """The options of least loss that leave so much of the MACs or parameters."""
        costs, whole = costs_of(self.options, amount), count_units(self.units, amount)
        rest, before = getattr(cost(self.model), amount) - whole.sum(), self.before.of(amount)
        return self._limited(costs, whole, keep * before - rest, keep, lambda least: (rest + least) / max(1.0, before))

    def _limited(
        self, costs: list[Floats], whole: Floats, limit: float, keep: float, share: Callable[[float], float]
    ) -> Picked:
        """``share`` is what of the original is left where all units together cost so much."""
        solver = self.asked.solver
        return self.plan.within(costs, whole, limit, solver, lambda least: self._unreachable(keep, share(least)))

    def _unreachable(self, keep: float, lowest: float) -> TargetUnreachable:
        whole = [(w.name, w.reason) for w in self.whole]
        if "plan" in vars(self):
            whole += [(unit.name, reason) for k, unit in enumerate(self.units) if (reason := self.plan.reason(k))]
        more = ", include more layers" if self.asked.include or self.asked.exclude else ""
        return unreachable(self.asked.target, keep, lowest, whole, more + _SEE)

    def _within_size(self, keep: float) -> Picked:
        """Bytes of the file: weights' as parameters count them, the rest as it turns out to be."""
        costs, whole = self._bytes()
        rest, wanted = file_bytes(self.model) - whole.sum(), keep * self.before.size
        chosen = zip(costs, whole, cheapest(costs, whole), strict=True)
        limit, least = wanted - rest, float(sum(c[k] if k >= 0 else w for c, w, k in chosen))
        for _ in range(_SIZE_ROUNDS):
            picked = self._limited(
                costs, whole, max(limit, least), keep, lambda least: (rest + least) / self.before.size
            )
            over = file_bytes(self.structure(picked)) - wanted
            if over <= 0:
                return picked
            limit -= over
        return picked

    def _bytes(self) -> tuple[list[Floats], Floats]:
        sizes = [self.model.weights[u.weight].itemsize for u in self.units]
        overhead = 300.0  # of another node and another tensor; what it really is shows when the model is built
        costs = [c * s + overhead for c, s in zip(costs_of(self.options, "params"), sizes, strict=True)]
        return costs, count_units(self.units, "params") * np.array(sizes, dtype=np.float64)

    def _evbmf(self) -> Picked:
        """Of every unit the cheapest scheme at the rank that stands out of noise, rounded up to what is aligned."""
        harms = []
        for unit, table in zip(self.units, self.tables, strict=True):
            matrices = unit.matrices(self.model)
            least = {n: SCHEMES[n].noise_rank(unit.site, matrices) for n in {o.scheme for o in table.options}}
            harms.append(np.array([0.0 if o.rank >= least[o.scheme] else 1.0 for o in table.options]))
        return self.plan.each(harms, 0.5)

    def _smallest(self) -> Picked:
        """Bisect along the budget for the smallest model whose accuracy stays; the best that was found counts."""
        accuracy = accuracy_of(self.context)
        before = accuracy(self.source)
        costs, whole = costs_of(self.options, "macs"), count_units(self.units, "macs")
        rest = cost(self.model).macs - whole.sum()
        lowest = (rest + self.plan.lowest(costs, whole)) / max(1.0, self.before.macs)
        best, note = smallest(
            lambda keep: self.within("macs", keep),
            lambda picked: accuracy.lost(before, accuracy(self._built(picked))) if picked else 0.0,
            self.asked.keep,
            lowest,
        )
        self.notes.append(note)
        return best or {}

    def _built(self, picked: Picked) -> Model:
        done = self.done(picked)
        return apply(self.model, done.splits, done.weights)

    def structure(self, picked: Picked) -> Model:
        """What the model would be like, with zeros for factors."""
        names, splits = Names(self.model), []
        for k, one in picked.items():
            scheme = SCHEMES[one.scheme]
            blank = scheme.blank(self.units[k].site, one.rank)
            splits.append(split(self.model, self.units[k], scheme, blank, names))
        return without_idle_biases(apply(self.model, splits), self.idle)

    def done(self, picked: Picked) -> Done:
        """Factors of what was picked."""
        key = frozenset(picked.items())
        if key not in self._done:
            self._done = {key: self._factors(picked)}
        return self._done[key]

    def _factors(self, picked: Picked) -> Done:
        plan = {k: (self.units[k], picked[k]) for k in sorted(picked)}
        if self.context.data is None:
            kept = journal_in(self.context.resume, [self.model], (), [(u.name, one) for u, one in plan.values()])
            return Done(split_by_weights(self.model, plan, Names(self.model), kept))
        with Store.of(self.context) as store:
            if self.noise:
                return alone(self.model, self.looked, plan, Inputs(self.batches, store))
            inputs = Inputs(self._walked, store)
            asked = [(unit.name, option) for unit, option in plan.values()], self.asked.refit
            journal = journal_in(self.context.resume, [self.model], self._walked, *asked)
            return in_one_walk(self.model, plan, inputs, refit=self.asked.refit, tick=self._tick(1), journal=journal)

    @property
    def _walked(self) -> Sequence[Mapping[str, Floats]]:
        mirror = self.asked.mirror and not self.noise
        return with_mirrored(self.batches, self.model) if mirror else self.batches

    def reports(self, picked: Picked, done: Done | None = None) -> list[LayerReport]:
        """All layers in graph order."""
        ranks = {s.unit.weight: s.factors.rank for s in done.splits} if done else {}
        found = [*self.whole]
        for k, unit in enumerate(self.units):
            one = picked.get(k)
            for site in unit.sites:
                if one is None:
                    found.append(LayerReport(site.name, site.op, reason=self._reason(k)))
                    continue
                speedup = self.plan.speedups.get((k, one))
                rank = ranks.get(unit.weight, (one.rank,))
                found.append(LayerReport(site.name, site.op, one.scheme, rank, one.gain, speedup))
        place = {n.name or n.output[0]: i for i, n in enumerate(self.model.graph.node) if n.output}
        return sorted(found, key=lambda r: place.get(r.name, len(place)))

    def _reason(self, k: int) -> str:
        if reason := self.plan.reason(k):
            return reason
        if self.asked.target in ("energy", "evbmf"):
            return "the rank that this asks for does not pay"
        return "the target is met without it"

    def details(self, done: Done) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if self.context.data is not None:
            samples = sum(len(counting(b)) for b in self.batches)
            mirrored = len(self._walked) > len(self.batches)
            told |= {"dialect": self.asked.dialect or "id"}
            told |= {"samples": samples, "mirrored": mirrored, "fitted": done.fitted, "refitted": done.refitted}
        return told

    def _tick(self, part: int) -> Callable[[int, int | None], None]:
        tick = self.context.tick
        return lambda done, total: tick((total or done) * part + done, 2 * (total or done))

    @cached_property
    def _one_run(self) -> Mapping[str, np.ndarray]:
        """One real sample, or an input that the model runs on; nothing where none was found."""
        if real := real_inputs(self.context.data):
            return {name: value[:1] if value.ndim else value for name, value in real[0].items()}
        try:
            return runnable_inputs(self.source, batches=(1, 2))
        except BadModel:
            return {}

    def _sizes(self) -> Callable[[str], int]:
        """Symbolic dimensions as in such a run."""
        return sizes_of(self._one_run, self.source) if self._one_run else lambda symbol: 1

    @cached_property
    def _told_by_pinning(self) -> frozenset[str]:
        """Nodes whose shapes are known once the free dimensions are those of one run."""
        dims = index_of(self.model).shapes_at(self._sizes()).dims
        return frozenset(display_name(node) for node in self.model.graph.node if node.output[0] in dims)

    def _pinned(self, one: LayerReport) -> LayerReport:
        """Where a shape is not known, with what would tell it."""
        if one.reason != UNKNOWN or one.name not in self._told_by_pinning:
            return one
        free = [p for p in input_specs(self.source) if any(isinstance(d, str) for d in (p.shape or ())[1:])]
        told = [
            f"--shape {p.name}:{','.join(str(n if axis else -1) for axis, n in enumerate(self._one_run[p.name].shape))}"
            for p in free
            if p.name in self._one_run
        ]
        return replace(one, reason=f"{one.reason}: pin it, such as {' '.join(told)}") if told else one
