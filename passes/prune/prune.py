"""Structured pruning: remove the least important coupled channels until a target is met."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from ...graph.cost import cost
from ...graph.coupling import Coupling, Group, Removal, analyse, remove
from ...graph.errors import NothingChanged, TargetUnreachable, UsageError
from ...graph.model import Model
from ...graph.save import file_bytes
from ..base import PASSES, Context, Pass, PassReport
from .choose import Limits, Ranking, eligible, one_direction
from .criteria import CRITERIA
from .proof import Proof, prove
from .tally import Amounts, Tally
from .weights import Scores, Weights

Target = Literal["macs", "params", "size", "channels"]
_NEAR = 0.01
"""A target counts as reached within this fraction of the whole."""
_FULL = 0.002
"""A gap below the target that is not worth filling, as a fraction of the whole."""
_FILL_TRIES = 128
"""Groups tried when filling a gap; each try looks at the whole graph."""


@dataclass(frozen=True)
class Pruned:
    """What a run of the pass found and did. ``removal`` is None where nothing went."""

    coupling: Coupling
    removal: Removal
    model: Model
    before: Amounts
    after: Amounts
    groups: list[tuple[Group, int, int]]
    proof: Proof | None
    notes: list[str]
    seconds: float


@PASSES.register("prune")
class PruneChannels(Pass):
    """Remove coupled channels by importance, and prove that nothing else changed.

    ``target`` names what ``keep`` is the fraction of: MACs, parameters, bytes, or the channels of every group.
    Source: Li et al., 2017, arXiv:1608.08710 (criterion pruning); Fang et al., "DepGraph", CVPR 2023,
    arXiv:2301.12900, and Wang et al., "Structurally Prune Anything", 2024, arXiv:2403.18955 (coupled channels).
    """

    name: ClassVar[str] = "prune"
    target: Target = "macs"
    keep: float = Field(default=0.5, gt=0, le=1)
    criterion: str = "l2"
    scope: Literal["global", "group"] = "global"
    steps: int = Field(default=1, ge=1, le=1000)
    axis: Literal["heads", "width", "both"] = "width"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_channels: int = Field(default=1, ge=1)
    round_to: int = Field(default=1, ge=1)
    exact_only: bool = False
    verify: bool = True

    @field_validator("criterion")
    @classmethod
    def _known(cls, name: str) -> str:
        CRITERIA[name]
        return name

    @model_validator(mode="after")
    def _uniform(self) -> PruneChannels:
        if self.target == "channels" and self.scope == "global" and "scope" in self.model_fields_set:
            raise UsageError(
                "a fraction of every group's channels leaves nothing to rank globally", fix="leave --scope out"
            )
        return self

    def run(self, model: Model, context: Context | None = None) -> PassReport:
        """Prune a copy. Raises TargetUnreachable, NothingChanged, ProofFailed, UsageError, BadModel."""
        context = context or Context()
        pruned = self.prune(model, context)
        return PassReport(pruned.model, pruned.model is not model, describe(pruned))

    def prune(self, model: Model, context: Context) -> Pruned:
        """The same with everything that was found on the way."""
        start = time.perf_counter()
        coupling = analyse(model)
        numbers = eligible(coupling, include=self.include, exclude=self.exclude, exact_only=self.exact_only)
        if not numbers:
            raise NothingChanged("no channel can be removed", why=_frozen_summary(coupling), fix=_SEE_GROUPS)
        numbers = one_direction(coupling, numbers, self.axis)
        tally = Tally(coupling, file_bytes(model))
        removal, notes = self._choose(coupling, numbers, tally, context)
        if not removal.removed.any():
            raise NothingChanged(
                f"keeping {self.keep:g} of the {self.target} leaves every channel in place",
                fix="ask for less, or lower --min-channels and --round-to",
            )
        small = remove(removal)
        proof = prove(removal, small, _real_inputs(context), context.seed) if self.verify else None
        left = cost(small)
        after = Amounts(left.macs, left.params, file_bytes(small))
        groups = _changes(coupling, removal)
        notes += [f"frozen by mistake, please report: {failure}" for failure in coupling.trace.failures]
        seconds = time.perf_counter() - start
        return Pruned(coupling, removal, small, tally.full, after, groups, proof, notes, seconds)

    def _choose(
        self, coupling: Coupling, numbers: Sequence[int], tally: Tally, context: Context
    ) -> tuple[Removal, list[str]]:
        """Remove in ``steps`` steps of equal ratio, scoring what is left before each."""
        weights = Weights(coupling)
        removal = Removal(coupling, coupling.nothing())
        notes: list[str] = []
        for step in range(1, self.steps + 1):
            goal = self.keep ** (step / self.steps)
            scores = self._scores(weights, numbers, removal, context)
            ranking = Ranking(coupling, numbers, scores, self._limits, self._scope)
            keep = ranking.allowed(np.ceil(ranking.sizes * goal - 1e-9).astype(np.int64))
            if self.target != "channels":
                keep = self._meet(ranking, tally, goal)
            removal = self._rescored(weights, numbers, ranking, keep, context)
            context.tick(step, self.steps)
        if self.target != "channels":
            notes.extend(self._check_reached(coupling, ranking, tally, removal))
        return removal, notes

    @property
    def _limits(self) -> Limits:
        return Limits(self.min_channels, self.round_to)

    @property
    def _scope(self) -> str:
        return "group" if self.target == "channels" else self.scope

    def _scores(self, weights: Weights, numbers: Sequence[int], removal: Removal, context: Context) -> list[Scores]:
        """Importance by group; what went in an earlier step stays gone."""
        criterion = CRITERIA[self.criterion]
        found = []
        for k in numbers:
            scores = criterion(weights.group(k, removal, context.seed))
            scores[removal.removed[weights.coupling.groups[k].atoms]] = -np.inf
            found.append(scores)
        return found

    def _meet(self, ranking: Ranking, tally: Tally, goal: float) -> np.ndarray:
        """Channels to keep so that the target is met as nearly as the limits allow: bisection over the order."""
        wanted = goal * tally.full.of(self.target)

        def left(gone: int) -> float:
            return tally.after(ranking.removal(ranking.counts(gone))).of(self.target)

        low, high = 0, ranking.length
        while low < high:
            middle = (low + high) // 2
            if left(middle) <= wanted:
                high = middle
            else:
                low = middle + 1
        return self._fill(ranking, tally, ranking.counts(low), wanted)

    def _fill(self, ranking: Ranking, tally: Tally, keep: np.ndarray, wanted: float) -> np.ndarray:
        """Put channels back, the most important first, as long as the target still holds.

        With coarse steps (``round_to``, groups that weigh much) the order alone can stop far below the target.
        """
        tries = _FILL_TRIES
        while tries > 0:
            room = wanted - tally.after(ranking.removal(keep)).of(self.target)
            if room < _FULL * tally.full.of(self.target):
                break
            before = keep
            for i in ranking.by_next_channel(keep)[:tries]:
                tries -= 1
                more = ranking.one_more(keep, i)
                if tally.after(ranking.removal(more)).of(self.target) <= wanted:
                    keep = more
            if keep is before:
                break
        return keep

    def _rescored(
        self, weights: Weights, numbers: Sequence[int], ranking: Ranking, keep: np.ndarray, context: Context
    ) -> Removal:
        """Where both directions of a bundle go, choose the inner channels on what the outer left."""
        coupling = weights.coupling
        if self.axis != "both" or all(coupling.groups[k].bundle < 0 for k in numbers):
            return ranking.removal(keep)
        outer = keep.copy()
        inner = [i for i, k in enumerate(numbers) if coupling.groups[k].bundle >= 0 and coupling.groups[k].depth >= 0.5]
        outer[inner] = ranking.sizes[inner]
        scores = self._scores(weights, numbers, ranking.removal(outer), context)
        first = [np.where(np.isneginf(s), -np.inf, s) for s in scores]
        return Ranking(coupling, numbers, first, self._limits, self._scope).removal(keep)

    def _check_reached(self, coupling: Coupling, ranking: Ranking, tally: Tally, removal: Removal) -> list[str]:
        full = tally.full.of(self.target)
        reached = tally.after(removal).of(self.target) / full
        if abs(reached - self.keep) <= _NEAR:
            return []
        lowest = tally.after(ranking.removal(ranking.counts(ranking.length))).of(self.target) / full
        if reached > self.keep and lowest > self.keep - _NEAR and reached - lowest < _NEAR:
            frozen = [g for g in coupling.groups if not g.prunable]
            raise TargetUnreachable(
                f"target {self.target}={self.keep:g} cannot be reached: {len(frozen)} of {len(coupling.groups)} groups "
                f"are frozen (lowest reachable is {lowest:.2f})",
                why=_frozen_summary(coupling),
                fix=f"allow more (--{self.target} {np.ceil(lowest * 100) / 100:.2f}), {_SEE_GROUPS}, "
                "or try --axis both, a lower --min-channels or --round-to",
            )
        return [f"the nearest possible to {self.target} {self.keep:g} is {reached:.3f}: channels are whole numbers"]


_SEE_GROUPS = "list the reasons (intaglio groups MODEL)"


def describe(pruned: Pruned) -> dict[str, Any]:
    """The result as plain data: what ``intaglio prune --json`` prints."""
    before, after = pruned.before, pruned.after
    return {
        "before": _amounts(before),
        "after": _amounts(after),
        "kept": {k: after.of(k) / before.of(k) if before.of(k) else 1.0 for k in ("macs", "params", "size")},
        "groups": [
            {"name": g.name, "before": old, "after": new, "exact": g.exact, "prunable": g.prunable}
            for g, old, new in pruned.groups
        ],
        "verified": pruned.proof.as_dict() if pruned.proof else None,
        "notes": pruned.notes,
        "seconds": pruned.seconds,
    }


def _amounts(amounts: Amounts) -> dict[str, int]:
    return {"macs": round(amounts.macs), "params": round(amounts.params), "size_bytes": round(amounts.size)}


def _changes(coupling: Coupling, removal: Removal) -> list[tuple[Group, int, int]]:
    return [(g, g.channels, g.channels - int(removal.removed[g.atoms].sum())) for g in coupling.groups]


def _real_inputs(context: Context) -> list[Mapping[str, np.ndarray]]:
    if context.data is None:
        return []
    first = next(iter(context.data.batches(4)), None)
    return [first.inputs] if first is not None else []


def _frozen_summary(coupling: Coupling) -> str:
    reasons = Counter(str(g.frozen_by) for g in coupling.groups if g.frozen_by is not None)
    if not reasons:
        return "no operator of the graph has channels"
    most = [f"{text} ({count} groups)" if count > 1 else text for text, count in reasons.most_common(3)]
    return "; ".join(most) + (f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else "")
