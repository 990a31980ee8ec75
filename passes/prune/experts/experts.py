"""``prune --axis experts``: experts that calibration data seldom use go, with their scores and weights, or merge into others.

Source: which to drop, by how often they are taken: Chen et al., "Task-Specific Expert Pruning for Sparse
Mixture-of-Experts", 2022, arXiv:2206.00277.
Differs: nothing is trained afterwards; any limit on parameters or bytes divides them over routers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....graph.errors import NothingChanged, TargetUnreachable, UsageError
from ....graph.index import index_of
from ....graph.model import Model
from ...base import Context
from ...calibration.activation_cache import ActivationCache, Inputs, Store
from ...calibration.feeds import calibration_inputs
from ...calibration.journal import journal_in
from ...change import Change, amounts
from ...live import MET, live_part
from ...proof import Claim, proof_inputs, prove_equal, real_inputs
from .merging import MERGES, Crowd, Merged, Units
from .routers import Kept, Router, compared, masked, routers, without
from .standing import interchangeable, merged, shared

if TYPE_CHECKING:
    from ..options import PruneOptions

_DROPPED = Claim("pruned", "router", "the original with the scores of the experts that went at minus infinity")
_MERGED = Claim("pruned", "router", "the original in which each expert has the weights of what stands in for it")


@dataclass(frozen=True)
class _Seen:
    """How often data took each expert of a router (experts,), and second moments of their scores (experts, experts)."""

    took: NDArray[np.int64]
    moments: NDArray[np.float64]

    @classmethod
    def none(cls, experts: int) -> _Seen:
        return cls(np.zeros(experts, np.int64), np.zeros((experts, experts)))

    def more(self, best: np.ndarray, scores: np.ndarray) -> _Seen:
        """With the choices and scores of another batch. Shapes: best (...), scores (..., experts)."""
        rows = scores.reshape(-1, len(self.took)).astype(np.float64)
        took = self.took + np.bincount(best.reshape(-1), minlength=len(self.took))
        return _Seen(took, self.moments + rows.T @ rows)


@dataclass(frozen=True)
class _Fewer:
    """A model with fewer experts, what it must equal and on which tensors; which of those that stay stands in for each."""

    model: Model
    reference: Callable[[], Model]
    claim: Claim
    compared: Sequence[str]
    into: Mapping[str, list[int]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def drop_experts(options: PruneOptions, model: Model, context: Context) -> Change:
    """Drop or merge experts until the target is met. Raises UsageError, NothingChanged, TargetUnreachable, ProofFailed."""
    _check(options, context)
    live = live_part(model)
    if live.meets(options.target, options.keep):
        return Change(model, live.model, notes=[*live.notes, MET], proved="only what no output depends on went")
    found, refused = routers(live.model)
    if not found:
        raise NothingChanged(
            "no experts can be removed",
            why="; ".join(f"{name}: {why}" for name, why in refused.items())
            or "no TopK takes experts by scores that a product with a constant makes",
            fix="see docs/language.md for the forms that are known",
        )
    seen = _seen(live.model, found, context)
    kept = _kept(options, live.model, live.given, found, seen)
    if all(len(kept[one.name]) == one.experts for one in found):
        raise NothingChanged(
            f"keeping {options.keep:g} of the {options.target} leaves every expert in place", fix="ask for less"
        )
    inputs = proof_inputs(live.model, real_inputs(context.inputs), context.seed)
    if options.merge:
        units = interchangeable(live.model, found, inputs, context.seed, context.memory)
        crowds = {one.name: _crowd(live.model, one, seen[one.name], units[one.name]) for one in found}
        fewer = _merged(options.merge, live.model, found, kept, crowds)
    else:
        fewer = _dropped(live.model, found, kept)
    proof = None
    if options.verify:
        names = list(fewer.compared)
        proof = prove_equal(fewer.reference(), fewer.model, names, inputs, fewer.claim, memory=context.memory)
    return Change(
        model,
        fewer.model,
        [_told(one, kept[one.name]) for one in found],
        units="groups",
        details={"experts": {one.name: _used(one, kept, seen, fewer) for one in found}},
        notes=[*live.notes, *(f"experts of {name} stay: {why}" for name, why in refused.items()), *fewer.notes],
        proof=proof,
        proved=f"verified: equals {fewer.claim.equal}, on all {proof.told()}"
        if proof
        else "not verified (--no-verify)",
        reference=fewer.reference,
    )


def _dropped(model: Model, found: list[Router], kept: Mapping[str, Kept]) -> _Fewer:
    names = list(compared(index_of(model), found))
    return _Fewer(without(model, kept, found), lambda: masked(model, kept, found), _DROPPED, names)


def _merged(
    merge: str, model: Model, found: list[Router], kept: Mapping[str, Kept], crowds: Mapping[str, Crowd]
) -> _Fewer:
    done = {one.name: MERGES[merge](crowds[one.name], kept[one.name]) for one in found}
    numbers = {name for one in found for name in one.numbers}
    names = [name for name in index_of(model).place if name not in numbers]
    into = {name: kept[name][merged.place].tolist() for name, merged in done.items()}
    notes = [
        f"experts of {name} merged as they stand: no order of what is inside of them is known to be free"
        for name, crowd in crowds.items()
        if not crowd.units
    ]
    return _Fewer(merged(model, found, done), lambda: shared(model, found, done), _MERGED, names, into, notes)


def _crowd(model: Model, one: Router, seen: _Seen, units: Sequence[Units]) -> Crowd:
    lengths = np.sqrt(np.maximum(np.diag(seen.moments), 1e-30))
    stacks = {name: model.weights[name] for name in sorted(one.looked)}
    return Crowd(seen.took, seen.moments / lengths[:, None] / lengths, stacks, units)


def _check(options: PruneOptions, context: Context) -> None:
    if options.target not in ("channels", "params", "size"):
        raise UsageError(
            f"`axis` experts cannot keep a fraction of {options.target}",
            why="a token takes as many experts as before: neither work nor time gets less",
            fix="give --params, --size, or --channels, the fraction of each router's experts",
        )
    if options.criterion or options.repair:
        raise UsageError("`axis` experts goes by how often data take each", fix="leave out --criterion and --repair")
    if context.data is None:
        raise UsageError("which experts are used only data can tell", fix="add --data SOURCE")


def _seen(model: Model, found: list[Router], context: Context) -> dict[str, _Seen]:
    """Over all batches; sums up to each are kept."""
    names = [name for one in found for name in (one.best, one.scores)]
    seen = {one.name: _Seen.none(one.experts) for one in found}
    with Store.of(context) as store:
        batches, _ = calibration_inputs(model, context)
        journal, first = journal_in(context.resume, [model], batches, "experts", names), 0
        while journal is not None and (known := journal.read(first)) is not None:
            seen, first = known, first + 1
        for k, values in enumerate(ActivationCache(model, Inputs(batches, store)).batches(names, first=first), first):
            seen = {one.name: seen[one.name].more(values[one.best], values[one.scores]) for one in found}
            if journal is not None:
                journal.keep(k, seen)
    return seen


def _kept(
    options: PruneOptions, model: Model, given: Model, found: list[Router], seen: Mapping[str, _Seen]
) -> dict[str, Kept]:
    """Of each router the experts that are used most; a limit on the whole lets go whichever is used least of all."""
    uses = {name: one.took for name, one in seen.items()}
    order = {one.name: np.argsort(-uses[one.name], kind="stable") for one in found}
    least = {one.name: max(1 if options.merge else one.taken, options.min_channels) for one in found}
    if options.target == "channels":
        counts = {one.name: max(least[one.name], round(options.keep * one.experts)) for one in found}
        return {name: np.sort(order[name][:count]) for name, count in counts.items()}
    counts = {one.name: one.experts for one in found}
    whole, now = (amounts(one).of(options.target) for one in (given, model))
    saved = {one.name: (now - _amount(options, model, one, found)) for one in found}
    shares = [
        (uses[one.name][order[one.name][k]] / max(1, uses[one.name].sum()), -k, one)
        for one in found
        for k in range(least[one.name], one.experts)
    ]
    for _, _, one in sorted(shares, key=lambda share: share[:2]):
        if now <= options.keep * whole:
            break
        counts[one.name] -= 1
        now -= saved[one.name]
    if now > options.keep * whole:
        raise TargetUnreachable(
            f"target {options.target}={options.keep:g} cannot be reached: without any expert but "
            f"{'one' if options.merge else 'those that a token takes'} {now / whole:.3g} are left",
            fix="allow more, or prune channels as well: --axis width",
        )
    return {name: np.sort(order[name][:count]) for name, count in counts.items()}


def _amount(options: PruneOptions, model: Model, one: Router, found: list[Router]) -> float:
    """What is left without one expert of a router."""
    if not options.merge:
        all_but_one = {other.name: np.arange(other.experts - (other is one)) for other in found}
        return amounts(without(model, all_but_one, found)).of(options.target)
    stacks = {name: model.weights[name][1:] for name in one.looked}
    fewer = merged(model, [one], {one.name: Merged(np.zeros(one.experts, np.int64), stacks)})
    return amounts(fewer).of(options.target)


def _told(one: Router, kept: Kept) -> dict[str, Any]:
    return {
        "name": one.name,
        "before": one.experts,
        "after": len(kept),
        "exact": True,
        "prunable": True,
        "frozen_by": None,
    }


def _used(one: Router, kept: Mapping[str, Kept], seen: Mapping[str, _Seen], fewer: _Fewer) -> dict[str, Any]:
    """What stays, and the share of all choices that fell on it; where experts merge, into which each went."""
    stay, took = kept[one.name], seen[one.name].took
    told = {"kept": stay.tolist(), "used": float(took[stay].sum() / max(1, took.sum())), "times": took.tolist()}
    return {**told, "into": fewer.into[one.name]} if fewer.into else told
