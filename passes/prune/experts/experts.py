"""``prune --axis experts``: experts that calibration data seldom use go, with their scores and weights.

Source: which to drop, by how often they are taken: Chen et al., "Task-Specific Expert Pruning for Sparse
Mixture-of-Experts", 2022, arXiv:2206.00277.
Differs: nothing is trained afterwards; any limit on parameters or bytes divides them over routers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....graph.errors import NothingChanged, TargetUnreachable, UsageError
from ....graph.index import index_of
from ....graph.model import Model
from ...base import Context
from ...calibration.activation_cache import ActivationCache, Inputs, Store
from ...calibration.feeds import calibration_inputs
from ...change import Change, amounts
from ...live import MET, live_part
from ...proof import Claim, Proof, proof_inputs, prove_equal, real_inputs
from .routers import Kept, Router, compared, masked, routers, without

if TYPE_CHECKING:
    from ..options import PruneOptions

_CLAIM = Claim("pruned", "router", "the original with the scores of the experts that went at minus infinity")
Uses = Mapping[str, NDArray[np.int64]]
"""How often each expert of a router was taken, by the router's name."""


def drop_experts(options: PruneOptions, model: Model, context: Context) -> Change:
    """Drop experts until the target is met. Raises UsageError, NothingChanged, TargetUnreachable, ProofFailed."""
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
    uses = _uses(live.model, found, context)
    kept = _kept(options, live.model, live.given, found, uses)
    if all(len(kept[one.name]) == one.experts for one in found):
        raise NothingChanged(
            f"keeping {options.keep:g} of the {options.target} leaves every expert in place", fix="ask for less"
        )
    result = without(live.model, kept, found)
    proof = _proof(live.model, result, kept, found, context) if options.verify else None
    return Change(
        model,
        result,
        [_told(one, kept[one.name]) for one in found],
        units="groups",
        details={"experts": {one.name: _used(kept[one.name], uses[one.name]) for one in found}},
        notes=[*live.notes, *(f"experts of {name} stay: {why}" for name, why in refused.items())],
        proof=proof,
        proved=f"verified: equals {_CLAIM.equal}, on all {proof.told()}" if proof else "not verified (--no-verify)",
        reference=lambda: masked(live.model, kept, found),
    )


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


def _uses(model: Model, found: list[Router], context: Context) -> Uses:
    names = [one.best for one in found]
    uses = {one.name: np.zeros(one.experts, np.int64) for one in found}
    with Store.of(context) as store:
        batches, _ = calibration_inputs(model, context)
        for values in ActivationCache(model, Inputs(batches, store)).batches(names):
            for one in found:
                uses[one.name] += np.bincount(values[one.best].reshape(-1), minlength=one.experts)
    return uses


def _kept(options: PruneOptions, model: Model, given: Model, found: list[Router], uses: Uses) -> dict[str, Kept]:
    """Of each router the experts that are used most; a limit on the whole lets go whichever is used least of all."""
    order = {one.name: np.argsort(-uses[one.name], kind="stable") for one in found}
    least = {one.name: max(one.taken, options.min_channels) for one in found}
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
            f"target {options.target}={options.keep:g} cannot be reached: without any expert but those that a token takes "
            f"{now / whole:.3g} are left",
            fix="allow more, or prune channels as well: --axis width",
        )
    return {name: np.sort(order[name][:count]) for name, count in counts.items()}


def _amount(options: PruneOptions, model: Model, one: Router, found: list[Router]) -> float:
    """What is left without one expert of a router."""
    all_but_one = {other.name: np.arange(other.experts - (other is one)) for other in found}
    return amounts(without(model, all_but_one, found)).of(options.target)


def _proof(model: Model, result: Model, kept: Mapping[str, Kept], found: list[Router], context: Context) -> Proof:
    inputs = proof_inputs(model, real_inputs(context.inputs), context.seed)
    names = list(compared(index_of(model), found))
    return prove_equal(masked(model, kept, found), result, names, inputs, _CLAIM, memory=context.memory)


def _told(one: Router, kept: Kept) -> dict[str, Any]:
    return {
        "name": one.name,
        "before": one.experts,
        "after": len(kept),
        "exact": True,
        "prunable": True,
        "frozen_by": None,
    }


def _used(kept: Kept, uses: NDArray[np.int64]) -> dict[str, Any]:
    """What stays, and the share of all choices that fell on it."""
    return {"kept": kept.tolist(), "used": float(uses[kept].sum() / max(1, uses.sum())), "times": uses.tolist()}
