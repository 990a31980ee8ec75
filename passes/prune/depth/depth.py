"""``prune --axis depth``: whole branches of residual sums go, and what stays makes up for them.

Source: A-SDM, Wang et al., 2023, arXiv:2312.15516 (blocks of a network removed by their effect); what is refitted follows
He et al., ICCV 2017, arXiv:1707.06168, as in pruning of channels.
Differs: any sum of two tensors of one shape counts, with either operand; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....graph.errors import NothingChanged, UsageError
from ....graph.index import index_of
from ....graph.model import Model
from ....measure.run.inputs import runnable_inputs
from ....measure.run.latency import Timing, time_pair
from ...base import Context
from ...budget.latency_target import LatencyReport, Planned, meet_latency
from ...calibration.activation_cache import Inputs, Store
from ...calibration.effects import Effects
from ...calibration.feeds import calibration_inputs, with_mirrored
from ...calibration.journal import journal_in
from ...change import Change, amounts
from ...live import MET, live_part
from ...proof import Claim, Proof, proof_inputs, prove_equal, real_inputs
from ...simplify.biases import with_biases
from ...simplify.fold import fold_batch_norm
from ...simplify.idle import drop_idle
from ..options import UNRANKED
from .branches import Branch, branches, dropped, named, zeroed
from .choose import Choosing
from .refit import refit

if TYPE_CHECKING:
    from ..options import PruneOptions

_SAMPLES, _MADE_UP = 128, 16
"""Samples that effects are measured on."""
_CLAIM = Claim("shortened", "branch", "the original with the branches zeroed")


def shorten(options: PruneOptions, model: Model, context: Context) -> Change:
    """Drop branches until the target is met. Raises UsageError, NothingChanged, TargetUnreachable, ProofFailed."""
    _check(options)
    live = live_part(model)
    if live.meets(options.target, options.keep):
        return Change(model, live.model, notes=[*live.notes, MET], proved="only what no output depends on went")
    found = branches(live.model, options.include, options.exclude)
    if not found:
        raise NothingChanged(
            "no branch can be removed",
            why="no sum of two tensors of one shape has one that multiplies and that nothing else reads",
        )
    repairs = context.data is not None and options.repair != "none"
    equal = with_biases(fold_batch_norm(live.model)[0]) if repairs else live.model
    with Store.of(context) as store:
        batches, notes = _batches(equal, context)
        gone, choosing, latency = _chosen(options, equal, live.given, found, _few(batches), store, context)
        wide, count = refit(equal, gone, with_mirrored(batches, equal), store, context) if repairs else (equal, 0)
    result = dropped(wide, gone)
    proof = _proof(wide, result, gone, context) if options.verify else None
    drop_idle(result)
    told = [_told(one, one in gone, choosing.loss([one])) for one in found]
    return Change(
        model,
        result,
        told,
        units="branches",
        details={"repair": {"refitted": count, "samples": sum(len(next(iter(b.values()))) for b in batches)}}
        if count
        else {},
        notes=[*live.notes, *notes],
        proof=proof,
        proved=_proved(proof, bool(count)),
        reference=lambda: zeroed(wide, gone),
        latency=latency,
        stated={"target": "branches", "keep": 0.5, "branches": tuple(one.name for one in gone)} if latency else {},
        refusal=latency.refusal("shortened", why="", fix="or write it") if latency else None,
    )


def _check(options: PruneOptions) -> None:
    """Options that speak of channels."""
    if options.target in UNRANKED or options.target == "drop":
        raise UsageError(
            "`axis` depth has no search for a drop" if options.target == "drop" else "`axis` depth thins no channels",
            fix="give a fraction of macs, params, size or latency, and a gate on the drop",
        )
    if options.criterion or options.repair not in (None, "none", "refit"):
        raise UsageError(
            "`axis` depth has one criterion, what the outputs miss, and one repair, refit", fix="leave the other out"
        )


def _batches(model: Model, context: Context) -> tuple[list[Mapping[str, np.ndarray]], list[str]]:
    if context.data is not None:
        return calibration_inputs(model, context)
    made = [runnable_inputs(model, seed=context.seed + k) for k in range(_MADE_UP // 2)]
    return [*made], ["no --data: what branches do was measured on made-up inputs, and nothing was refitted"]


def _few(batches: Sequence[Mapping[str, np.ndarray]]) -> list[Mapping[str, np.ndarray]]:
    """As many as effects are measured on."""
    kept, seen = list[Mapping[str, np.ndarray]](), 0
    for batch in batches:
        if seen < _SAMPLES:
            kept.append(batch)
            seen += max((len(value) for value in batch.values() if value.ndim), default=1)
    return kept


def _chosen(
    options: PruneOptions,
    equal: Model,
    given: Model,
    found: Sequence[Branch],
    batches: Sequence[Mapping[str, np.ndarray]],
    store: Store,
    context: Context,
) -> tuple[list[Branch], Choosing, LatencyReport | None]:
    journal = journal_in(context.resume, [equal], batches, "effects", _SAMPLES)
    choosing = Choosing(equal, found, Effects(equal, Inputs(batches, store)), context.tick, journal)
    if options.target == "branches":
        return named(found, options.branches), choosing, None
    unit = "macs" if options.target == "latency" else options.target
    whole = amounts(given).of(unit)

    def cost(model: Model) -> float:
        return amounts(model).of(unit)

    def gain(one: Branch) -> float:
        return float(one.macs if unit == "macs" else max(one.params, 1))

    if options.target != "latency":
        return choosing.choose(options.keep * whole, cost, gain), choosing, None

    def plan(goal: float) -> Planned[list[Branch]]:
        gone = choosing.choose(goal * whole, cost, gain)
        return Planned(gone, cost(dropped(equal, gone)) / whole, frozenset(one.total for one in gone))

    def time(gone: Sequence[Branch]) -> Timing:
        return time_pair(given, dropped(equal, gone), seed=context.seed)

    gone, report = meet_latency(plan, time, options.keep)
    return gone, choosing, report


def _proof(wide: Model, result: Model, gone: Sequence[Branch], context: Context) -> Proof:
    """All tensors that both have, against the branches computed and multiplied by zero."""
    there, inputs = index_of(wide).place, proof_inputs(wide, real_inputs(context.inputs), context.seed)
    names = [name for name in index_of(result).place if name in there]
    return prove_equal(zeroed(wide, gone), result, names, inputs, _CLAIM, memory=context.memory)


def _told(one: Branch, gone: bool, effect: float) -> dict[str, Any]:
    return {"name": one.name, "macs": one.macs, "params": one.params, "effect": effect, "removed": gone}


def _proved(proof: Proof | None, refitted: bool) -> str:
    if proof is None:
        return "not verified (--no-verify)"
    return f"verified: equals the {'refitted ' if refitted else ''}original with the removed branches zeroed, on all {proof.told()}"
