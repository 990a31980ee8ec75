"""Structured pruning: remove the least important coupled channels until a target is met."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ...graph.cost import cost
from ...graph.coupling import Coupling, Group, Removal, analyse, remove
from ...graph.errors import NothingChanged
from ...graph.io.save import file_bytes
from ...graph.model import Model
from ...measure.data.source import DataSource
from ...measure.run.latency import time_pair
from ..base import PASSES, Context, Pass
from ..budget.amounts import Amounts
from ..budget.latency_target import LatencyReport, report
from ..change import Change
from ..proof import Proof
from .choose import Limits, eligible, one_direction
from .criteria.criteria import CRITERIA
from .latency.model import LatencyModel, meet_target
from .options import PruneOptions
from .plan import Job
from .proof import prove
from .ranked import SEE_GROUPS, frozen_summary
from .removal_cost import Tally
from .repair.repair import REPAIRS, Repair, Repaired, RepairImpossible, with_weights

WITH_DATA, WITHOUT_DATA = "obspa", "l2"
"""The criterion where none is named."""


@dataclass(frozen=True)
class Pruned:
    """What a run of the pass found and did.

    ``coupling`` and ``removal`` are those of the model that was cut: the one given, or an equal one with its constants
    refitted.
    """

    coupling: Coupling
    removal: Removal
    model: Model
    before: Amounts
    after: Amounts
    groups: list[tuple[Group, int, int]]
    proof: Proof | None
    notes: list[str]
    seconds: float
    criterion: str
    refitted: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    latency: LatencyReport | None = None


@PASSES.register("prune")
class PruneChannels(PruneOptions, Pass):
    """Remove coupled channels by importance, and prove that nothing else changed.

    Source: Li et al., 2017, arXiv:1608.08710 (criterion pruning); Fang et al., "DepGraph", CVPR 2023,
    arXiv:2301.12900, and Wang et al., "Structurally Prune Anything", 2024, arXiv:2403.18955 (coupled channels).
    """

    name: ClassVar[str] = "prune"

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Prune a copy. Raises TargetUnreachable, NothingChanged, ProofFailed, UsageError, BadModel."""
        context = context or Context()
        pruned = self.prune(model, context)
        return Change(model, pruned.model, details=describe(pruned))

    def prune(self, model: Model, context: Context, *, real: DataSource | None = None) -> Pruned:
        """The same with everything that was found on the way. ``real`` are more inputs to prove it on."""
        start = time.perf_counter()
        name = self._criterion(context)
        criterion, repair = CRITERIA[name], REPAIRS[self.repair or CRITERIA[name].repair]
        equal, notes = criterion.ready(model)
        coupling = analyse(equal)
        numbers = eligible(coupling, include=self.include, exclude=self.exclude, exact_only=self.exact_only)
        if not numbers:
            raise NothingChanged("no channel can be removed", why=frozen_summary(coupling), fix=SEE_GROUPS)
        numbers = one_direction(coupling, numbers, self.axis)
        whole = cost(model)
        before = Amounts.counted(whole, file_bytes(model))
        times = LatencyModel(coupling, seed=context.seed) if self.target == "latency" else None
        job = self._job(model, coupling, numbers, before, file_bytes(equal), times, context)
        planner = criterion.planner(job)
        removal, latency = self._plan(planner.plan, job, times)
        if not removal.removed.any():
            raise NothingChanged(
                f"keeping {self.keep:g} of the {self.target} leaves every channel in place",
                fix="ask for less, or lower --min-channels and --round-to",
            )
        choice = planner.finish(removal)
        repaired = self._repaired(repair, choice.removal, context)
        removal = with_weights(choice.removal, repaired.weights) if repaired.weights else choice.removal
        small = remove(removal)
        if times and latency:
            timed = time_pair(model, small, times.threads, inputs=times.inputs)
            latency = report(self.keep, latency.predicted, timed, rounds=latency.rounds)
        proof = prove(removal, small, _real_inputs(context.data or real), context.seed) if self.verify else None
        after = Amounts.counted(cost(small), file_bytes(small))
        groups = _changes(coupling, removal)
        notes = [*notes, *choice.notes, *repaired.notes]
        notes += [f"frozen by mistake, please report: {failure}" for failure in coupling.trace.failures]
        details = {**choice.details, **({"repair": repaired.details} if repaired.details else {})}
        return Pruned(
            coupling=removal.coupling,
            removal=removal,
            model=small,
            before=before,
            after=after,
            groups=groups,
            proof=proof,
            notes=notes,
            seconds=time.perf_counter() - start,
            criterion=name,
            refitted=removal.coupling is not coupling,
            details=details,
            latency=latency,
        )

    def _repaired(self, repair: Repair, removal: Removal, context: Context) -> Repaired:
        """A repair that the user named must work; the criterion's own may be impossible for this model."""
        try:
            return repair(removal, context)
        except RepairImpossible as error:
            if self.repair is not None:
                raise
            return Repaired(notes=[f"nothing made up for removed channels: {error.what} ({error.why})"])

    def _criterion(self, context: Context) -> str:
        if self.criterion is not None:
            return self.criterion
        return WITH_DATA if context.data is not None or self.dialect is not None else WITHOUT_DATA

    def _job(
        self,
        model: Model,
        coupling: Coupling,
        numbers: list[int],
        before: Amounts,
        equal_bytes: int,
        times: LatencyModel | None,
        context: Context,
    ) -> Job:
        tally = Tally(coupling, equal_bytes)
        target = self.target
        unit = "macs" if target == "channels" else target
        measure: Callable[[Removal], float] = times.after if times else lambda removal: tally.after(removal).of(unit)
        return Job(
            source=model,
            coupling=coupling,
            numbers=numbers,
            limits=Limits(self.min_channels, self.round_to or (times.block if times else 1)),
            target=target,
            keep=self.keep,
            whole=times.full if times else before.of(unit),
            cost=measure,
            context=context,
            scope=self.scope,
            axis=self.axis,
            steps=self.steps,
            solver=self.solver,
            dialect=self.dialect,
            mirror=self.mirror,
        )

    def _plan(
        self, plan: Callable[[float], Removal], job: Job, times: LatencyModel | None
    ) -> tuple[Removal, LatencyReport | None]:
        if times is None:
            return plan(self.keep * job.whole), None
        return meet_target(plan, times, self.keep)


def describe(pruned: Pruned) -> dict[str, Any]:
    """The result as plain data: what ``intaglio prune --json`` prints."""
    before, after = pruned.before, pruned.after
    return {
        "before": before.as_dict(),
        "after": after.as_dict(),
        "kept": {k: after.of(k) / before.of(k) if before.of(k) else 1.0 for k in ("macs", "params", "size")},
        "criterion": pruned.criterion,
        **pruned.details,
        **({"latency_target": pruned.latency.as_dict()} if pruned.latency else {}),
        "groups": [
            {"name": g.name, "before": old, "after": new, "exact": g.exact, "prunable": g.prunable}
            for g, old, new in pruned.groups
        ],
        "verified": pruned.proof.as_dict() if pruned.proof else None,
        "notes": pruned.notes,
        "seconds": pruned.seconds,
    }


def _changes(coupling: Coupling, removal: Removal) -> list[tuple[Group, int, int]]:
    return [(g, g.channels, g.channels - int(removal.removed[g.atoms].sum())) for g in coupling.groups]


def _real_inputs(data: DataSource | None) -> list[Mapping[str, np.ndarray]]:
    if data is None:
        return []
    first = next(iter(data.batches(4)), None)
    return [first.inputs] if first is not None else []
