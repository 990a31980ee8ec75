"""Structured pruning: remove the least important coupled channels until a target is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ...graph.coupling import Group, Removal, analyse, mask_removed, remove
from ...graph.errors import NothingChanged, TargetUnreachable
from ...graph.io.save import file_bytes
from ...graph.model import Model
from ...measure.optime.block import INTEGER_BLOCK
from ..base import PASSES, Context, Pass
from ..budget.drop import accuracy_of, smallest
from ..budget.latency_target import LatencyReport, report
from ..change import Change, amounts
from ..live import MET, Live, live_part
from ..needs import check_needs
from ..proof import Proof, real_inputs
from .choose import Limits, eligible, one_direction
from .criteria.criteria import CRITERIA
from .latency.model import Follow, LatencyModel, meet_target
from .options import UNRANKED, PruneOptions
from .plan import Choice, Job, Planner
from .proof import prove
from .ranked import SEE_GROUPS, frozen_summary, lowest, require_reachable
from .removal_cost import RemovalCost
from .repair.repair import REPAIRS, Repair, Repaired, RepairImpossible, with_weights

WITH_DATA, WITHOUT_DATA = "obspa", "l2"
"""The criterion where none is named."""


@dataclass(frozen=True)
class Cut:
    """What is to go, before it goes.

    ``removal`` is of the model that is cut: the one given, or an equal one with its constants refitted (``refitted``).
    """

    criterion: str
    groups: Sequence[Group]
    removal: Removal
    refitted: bool
    notes: Sequence[str]
    details: Mapping[str, Any]
    times: LatencyModel | None = None
    latency: LatencyReport | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)


_FEW = 32
"""Samples that ranges are taken from where only times are looked at."""
_TIMED_BLOCK = 8
"""Steps of widths where times of floats are measured: what narrower than a runtime's block is no faster costs as much there.
In integers whole blocks alone are planned while they suffice: on a ResNet-20 at 0.38 of the time these kept 83.75 %, steps of
8, whose times are told less well, 76.5.
"""
_SLOW = "narrower layers can miss the widths that the runtime is fast at"


@PASSES.register("prune")
class PruneChannels(PruneOptions, Pass):
    """Remove coupled channels by importance, and prove that nothing else changed.

    Source: Li et al., 2017, arXiv:1608.08710 (criterion pruning); Fang et al., "DepGraph", CVPR 2023,
    arXiv:2301.12900, and Wang et al., "Structurally Prune Anything", 2024, arXiv:2403.18955 (coupled channels).
    """

    name: ClassVar[str] = "prune"
    doing: ClassVar[str] = "pruning"
    in_bodies: ClassVar[bool] = True

    @property
    def resumes(self) -> bool:  # type: ignore[override]
        """What looks at layers, branches or batches one after the other does."""
        walks = "refit" in (self.repair, CRITERIA[self.criterion or WITH_DATA].repair)
        return self.axis in ("depth", "experts") or walks or self.criterion in (None, WITH_DATA)

    @property
    def resumes_blind(self) -> bool:  # type: ignore[override]
        return self.axis == "depth"

    @property
    def blind(self) -> str:
        return "channels" if self.criterion is None and self.dialect is None else ""

    def recipe(self, change: Change) -> dict[str, Any]:
        named = {"criterion": change.details.get("criterion", self.criterion)}
        told = {**self.model_dump(), **named, **change.stated}
        return {
            name: value
            for name, value in told.items()
            if value is not None and (value or name not in ("widths", "branches", "nested"))
        }

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Prune a copy. Raises TargetUnreachable, NothingChanged, ProofFailed, UsageError, BadModel."""
        context = context or Context()
        if self.axis == "depth":
            from .depth.depth import shorten

            return shorten(self, model, context)
        if self.axis == "experts":
            from .experts.experts import drop_experts

            return drop_experts(self, model, context)
        if self.target == "drop":
            accuracy_of(context)
        live = live_part(model)
        cut = self.cut(live, context)
        small = remove(cut.removal)
        latency = cut.latency
        if cut.times and latency:
            latency = report(self.keep, latency.predicted, cut.times.time(small, model), rounds=latency.rounds)
        feeds = real_inputs(context.inputs)
        proof = prove(cut.removal, small, feeds, context.seed, context.memory) if self.verify else None
        return Change(
            model,
            small,
            [_told(group, cut.removal) for group in cut.groups],
            units="groups",
            details={"criterion": cut.criterion, **cut.details},
            notes=[*live.notes, *cut.notes],
            proof=proof,
            proved=_proved(proof, cut.refitted),
            reference=lambda: mask_removed(cut.removal),
            latency=latency,
            stated=cut.stated,
            advice={"slower": "widths that are multiples of 8 or 16 run best, try --round-to 8"},
            refusal=latency.refusal("pruned", why=_SLOW, fix="try --round-to 8, or write it") if latency else None,
        )

    def cut(self, live: Live, context: Context) -> Cut:
        """What goes, by the criterion, and what is made up for it in what stays."""
        name = self._criterion(context)
        if live.meets(self.target, self.keep):
            coupling = analyse(live.model)
            return Cut(name, coupling.groups, Removal(coupling, coupling.nothing()), False, [MET], {})
        criterion, repair = CRITERIA[name], REPAIRS[self.repair or CRITERIA[name].repair]
        needs = CRITERIA.entry(name).needs
        check_needs(f"criterion {name}", needs, context)
        equal, notes = criterion.ready(live.model)
        coupling = analyse(equal)
        numbers = eligible(coupling, include=self.include, exclude=self.exclude, exact_only=self.exact_only)
        if not numbers:
            left_out = eligible(coupling, include=(), exclude=(), exact_only=self.exact_only)
            why = "--include and --exclude leave out all that could be pruned" if left_out else frozen_summary(coupling)
            raise NothingChanged("no channel can be removed", why=why, fix=SEE_GROUPS)
        numbers = one_direction(coupling, numbers, self.axis)
        follow = self._follow(context)
        times = LatencyModel(coupling, seed=context.seed, follow=follow) if self.target == "latency" else None
        whole, left = (
            (times.full, times.after) if times else self._costs(live.given, RemovalCost(coupling, file_bytes(equal)))
        )
        if not whole:
            why = "shapes of its layers are not known where free sizes are counted as 1"
            fix = "give --data, or pin real sizes with --shape; or ask for --params, --size or --latency"
            raise TargetUnreachable(f"the {self.target} of the model are not known", why=why, fix=fix)
        limits = Limits(self.min_channels, self.round_to or self._block(times))
        job = Job(self, live.model, coupling, numbers, limits, whole, left, context, needs)
        if self.target not in (*UNRANKED, "drop"):
            job = self._reachable(job)
        planner = criterion.planner(job)
        if self.target == "drop":
            done, latency, stated = self._smallest(planner, repair, job), None, {}
        else:
            removal, latency = (
                meet_target(planner.plan, times, self.keep) if times else (planner.plan(self.keep * whole), None)
            )
            stated = _stated(planner.widths(removal)) if times else {}
            done = self._finished(planner, repair, removal, context)
        if not done.removal.removed.any():
            raise NothingChanged(
                f"keeping {self.keep:g} of the {self.target} leaves every channel in place",
                fix="ask for less, or lower --min-channels and --round-to",
            )
        notes = [*notes, *done.notes]
        notes += [f"frozen by mistake, please report: {failure}" for failure in coupling.trace.failures]
        refitted = done.removal.coupling is not coupling
        return Cut(name, coupling.groups, done.removal, refitted, notes, done.details, times, latency, stated)

    def _block(self, times: LatencyModel | None) -> int:
        return INTEGER_BLOCK if self.followed_by else min(times.block, _TIMED_BLOCK) if times else 1

    def _reachable(self, job: Job) -> Job:
        """With finer steps where whole blocks of integers leave too much of the time. Raises TargetUnreachable."""
        try:
            require_reachable(job)
        except TargetUnreachable:
            if self.round_to or not (self.followed_by and self.target == "latency"):
                raise
            job = replace(job, limits=Limits(self.min_channels, _TIMED_BLOCK))
            require_reachable(job)
        return job

    def _finished(self, planner: Planner, repair: Repair, removal: Removal, context: Context) -> Choice:
        """What is planned to go, made up for. Nothing is done where nothing goes."""
        if not removal.removed.any():
            return Choice(removal)
        choice = planner.finish(removal)
        repaired = self._repaired(repair, choice.removal, context)
        removal = with_weights(choice.removal, repaired.weights) if repaired.weights else choice.removal
        details = {**choice.details, **({"repair": repaired.details} if repaired.details else {})}
        return Choice(removal, [*choice.notes, *repaired.notes], details)

    def _smallest(self, planner: Planner, repair: Repair, job: Job) -> Choice:
        """The narrowest model whose accuracy stays."""
        accuracy = accuracy_of(job.context)
        before = accuracy(job.source)

        def make(keep: float) -> Choice:
            return self._finished(planner, repair, planner.plan(keep * job.whole), job.context)

        def lost(done: Choice) -> float:
            return accuracy.lost(before, accuracy(remove(done.removal))) if done.removal.removed.any() else 0.0

        tried = smallest(make, lost, self.keep, lowest(job))
        best, note = tried
        if best is None or not best.removal.removed.any():
            raise NothingChanged(
                f"no channels can go without a loss of more than {self.keep:g} points",
                why=note,
                fix="allow a larger drop",
            )
        return replace(best, notes=[*best.notes, note])

    def _costs(self, model: Model, removal_cost: RemovalCost) -> tuple[float, Callable[[Removal], float]]:
        """What a model has of what is limited, and what a removal leaves of that."""
        unit = "macs" if self.target in (*UNRANKED, "drop") else self.target
        return amounts(model).of(unit), lambda removal: removal_cost.after(removal).of(unit)

    def _follow(self, context: Context) -> Follow | None:
        """What comes after, done quickly: only times are looked at."""
        if self.followed_by is None:
            return None
        data = context.data and replace(context.data, limit=_FEW)
        options = {"scheme": self.followed_by, "ranges": "minmax", "method": "nearest", "verify": False}
        later = PASSES["quantize"].model_validate(options)
        return lambda model: later.run(model, Context(data=data, seed=context.seed)).model

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


def _told(group: Group, removal: Removal) -> dict[str, Any]:
    left = group.channels - int(removal.removed[group.atoms].sum())
    return {
        "name": group.name,
        "before": group.channels,
        "after": left,
        "exact": group.exact,
        "prunable": group.prunable,
        "frozen_by": str(group.frozen_by) if group.frozen_by else None,
    }


def _stated(widths: Mapping[str, int]) -> dict[str, Any]:
    """Options that ask for just these widths: with what decided them gone."""
    given = {"target": "widths", "keep": 0.5, "scope": "group", "widths": tuple(widths.items())}
    return {**given, "min_channels": 1, "round_to": None, "followed_by": None}


def _proved(proof: Proof | None, refitted: bool) -> str:
    if proof is None:
        return "not verified (--no-verify)"
    what = f"the {'refitted ' if refitted else ''}original with the removed channels zeroed"
    if not proof.exact:
        what += ", normalizations and means taken over what stays"
    return f"verified: equals {what}, on all {proof.told()}"
