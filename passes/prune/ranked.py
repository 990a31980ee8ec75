"""Plan a removal from scores of channels: the lowest go first, until the target is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...graph.coupling import Coupling, Removal
from ...graph.errors import TargetUnreachable, UsageError
from ...graph.layers import Layers
from ...graph.spec import near
from ..calibration.gradients import gradients
from ..needs import CURVATURE, GRADIENTS
from .choose import Ranking, eligible
from .inputs import collected
from .options import UNRANKED
from .plan import Choice, Job
from .weights import GroupWeights, Scores, Weights

Counts = NDArray[np.int64]
_NEAR = 0.01
"""A target counts as reached within this fraction of the whole, and within a tenth of itself."""
_FULL = 0.002
"""A gap below the target that is not worth filling, as a fraction of the whole."""
_FILL_TRIES = 128
"""Groups tried when filling a gap; each try looks at the whole graph."""


class Ranked:
    """Removes in ``job.asked.steps`` steps of equal ratio, scoring what is left before each."""

    def __init__(self, score: Callable[[GroupWeights], Scores], job: Job) -> None:
        self.score, self.job = score, job
        curved = CURVATURE in job.needs
        found = gradients(job.coupling.model, job.context, curved=curved) if GRADIENTS in job.needs else None
        self.notes = [found.note] if found else []
        inputs = collected(job.coupling, job.needs, job.context)
        self.weights = Weights(job.coupling, inputs, found.of if found else None)
        self._last: Ranking | None = None
        self._planned: dict[bytes, dict[str, int]] = {}

    def plan(self, limit: float) -> Removal:
        job = self.job

        def within(ranking: Ranking, share: float) -> Counts:
            keep = stated(ranking, job, share)
            return meet(ranking, job, (limit / job.whole) ** share * job.whole) if keep is None else keep

        removal, keep = self._in_steps(within)
        if job.asked.target == "latency" and job.asked.steps > 1:  # by steps that hang on no times
            removal, keep = self._in_steps(lambda ranking, share: part_way(ranking.sizes, keep, share))
        self._planned[removal.removed.tobytes()] = by_group(job, keep)
        return removal

    def widths(self, removal: Removal) -> dict[str, int]:
        return self._planned[removal.removed.tobytes()]

    def _in_steps(self, keeping: Callable[[Ranking, float], Counts]) -> tuple[Removal, Counts]:
        """What goes, and what each group was to keep; ``keeping`` says that of a share of the way."""
        job, keep = self.job, np.zeros(0, np.int64)
        removal = Removal(job.coupling, job.coupling.nothing())
        for step in range(1, job.asked.steps + 1):
            ranking = Ranking(job.coupling, job.numbers, self._scores(removal), job.limits, job.asked.scope)
            keep = keeping(ranking, step / job.asked.steps)
            removal, self._last = self._rescored(ranking, keep), ranking
            job.context.tick(step, job.asked.steps)
        return removal, keep

    def finish(self, removal: Removal) -> Choice:
        if self.job.asked.target in UNRANKED or self._last is None:
            return Choice(removal, self.notes)
        return Choice(removal, [*self.notes, *check_reached(self.job, self._last, removal)])

    def _scores(self, removal: Removal) -> list[Scores]:
        """Importance by group; what went in an earlier step stays gone."""
        found = []
        for k in self.job.numbers:
            scores = self.score(self.weights.group(k, removal, self.job.context.seed))
            scores[removal.removed[self.job.coupling.groups[k].atoms]] = -np.inf
            found.append(scores)
        return found

    def _rescored(self, ranking: Ranking, keep: np.ndarray) -> Removal:
        """Where both directions of a bundle go, choose the inner channels on what the outer left."""
        job = self.job
        groups = job.coupling.groups
        if job.asked.axis != "both" or all(groups[k].bundle < 0 for k in job.numbers):
            return ranking.removal(keep)
        outer = keep.copy()
        inner = [i for i, k in enumerate(job.numbers) if groups[k].bundle >= 0 and groups[k].depth >= 0.5]
        outer[inner] = ranking.sizes[inner]
        scores = self._scores(ranking.removal(outer))
        first = [np.where(np.isneginf(s), -np.inf, s) for s in scores]
        return Ranking(job.coupling, job.numbers, first, job.limits, job.asked.scope).removal(keep)


def stated(ranking: Ranking, job: Job, share: float = 1.0) -> np.ndarray | None:
    """What each group keeps once the ``share`` of the way is gone, where that was said of each group.

    Raises:
        UsageError: there is no such group, or it cannot become narrower.
    """
    if job.asked.target == "channels":
        wanted = ranking.sizes * job.asked.keep
    elif job.asked.target == "widths":
        wanted = named_widths(ranking, job)
    elif job.asked.target == "scopes":
        return ranking.allowed(scoped(ranking, job, share))
    else:
        return None
    return ranking.allowed(part_way(ranking.sizes, wanted, share))


def part_way(sizes: np.ndarray, wanted: np.ndarray, share: float) -> Counts:
    """Channels that are left after a ``share`` of the way, by equal ratios. Shapes: (groups,) each."""
    return np.asarray(np.ceil(sizes * (wanted / sizes) ** share - 1e-9), np.int64)


def by_group(job: Job, keep: np.ndarray) -> dict[str, int]:
    """Widths of the groups that become narrower, by their names."""
    groups = [job.coupling.groups[k] for k in job.numbers]
    return {one.name: int(n) for one, n in zip(groups, keep, strict=True) if n < one.channels}


def scoped(ranking: Ranking, job: Job, share: float) -> np.ndarray:
    """Of each scope the fraction that was asked for, the last that names a group counting; of other groups all.

    Source: Chu et al., "Group channel pruning and spatial attention distilling for object detection", 2023,
    arXiv:2306.01526. Differs: scopes are named, not found by FLOPs and parameters.
    """
    scope, keep = np.full(len(ranking.sizes), -1), ranking.sizes.copy()
    for number, (pattern, _) in enumerate(job.asked.scope_targets):
        inside = eligible(job.coupling, include=[pattern], exclude=[], exact_only=False)
        scope[np.isin(ranking.numbers, inside)] = number
    for number, (pattern, fraction) in enumerate(job.asked.scope_targets):
        places = np.nonzero(scope == number)[0]
        if not len(places):
            what = f"`scope_targets`: {pattern!r} names no group that can become narrower and that no later scope names"
            raise UsageError(what, fix=SEE_GROUPS)
        whole = int(ranking.sizes[places].sum())
        keep[places] -= ranking.gone_within(places, int(whole * (1 - fraction**share) + 1e-9))
    return keep


def named_widths(ranking: Ranking, job: Job) -> np.ndarray:
    """Of groups that are not named all channels. Raises UsageError."""
    places = {job.coupling.groups[k].name: place for place, k in enumerate(ranking.numbers)}
    widths = ranking.sizes.copy()
    for name, wanted in job.asked.widths:
        if name not in places:
            what = f"`widths`: no group {name!r} can become narrower"
            raise UsageError(what, fix=near(name, places) or SEE_GROUPS)
        if wanted > ranking.sizes[places[name]]:
            what = f"`widths`: group {name!r} has {ranking.sizes[places[name]]} channels, {wanted} were asked for"
            raise UsageError(what, fix="ask for as many or fewer")
        widths[places[name]] = wanted
    return widths


def meet(ranking: Ranking, job: Job, wanted: float) -> np.ndarray:
    """Channels to keep so that no more than ``wanted`` is left, as near as the limits allow: bisection over the order."""
    low, high = 0, ranking.length
    while low < high:
        middle = (low + high) // 2
        if job.cost(ranking.removal(ranking.counts(middle))) <= wanted:
            high = middle
        else:
            low = middle + 1
    return _fill(ranking, job, ranking.counts(low), wanted)


def _fill(ranking: Ranking, job: Job, keep: np.ndarray, wanted: float) -> np.ndarray:
    """Put channels back, the most important first, as long as the target still holds.

    With coarse steps (``round_to``, groups that weigh much) the order alone can stop far below the target.
    """
    tries = _FILL_TRIES
    while tries > 0:
        room = wanted - job.cost(ranking.removal(keep))
        if room < _FULL * job.whole:
            break
        before = keep
        for i in ranking.by_next_channel(keep)[:tries]:
            tries -= 1
            more = ranking.one_more(keep, i)
            if job.cost(ranking.removal(more)) <= wanted:
                keep = more
        if keep is before:
            break
    return keep


def near_to(keep: float) -> float:
    """How far from a target, as a fraction of the whole, counts as reached."""
    return min(_NEAR, keep / 10)


def check_reached(job: Job, ranking: Ranking, removal: Removal) -> list[str]:
    """Notes about a target met only nearly. Raises TargetUnreachable where nothing more could have gone."""
    if job.asked.target == "drop":
        return []
    reached, gap = job.cost(removal) / job.whole, near_to(job.asked.keep)
    if abs(reached - job.asked.keep) <= gap or (job.asked.target == "latency" and reached <= job.asked.keep):
        return []
    least = job.cost(ranking.removal(ranking.counts(ranking.length))) / job.whole
    if reached > job.asked.keep and least > job.asked.keep - gap and reached - least < gap:
        raise unreachable(job, least)
    return [
        f"the nearest possible to {job.asked.target} {job.asked.keep:g} is {reached:.3f}: channels are whole numbers"
    ]


def lowest(job: Job) -> float:
    """The fraction that even the narrowest model has."""
    even = [np.zeros(job.coupling.groups[k].channels) for k in job.numbers]
    ranking = Ranking(job.coupling, job.numbers, even, job.limits, "group")
    return job.cost(ranking.removal(ranking.counts(ranking.length))) / job.whole


def require_reachable(job: Job) -> None:
    """Raises TargetUnreachable, before any work, where too much is left of even the narrowest model."""
    if (least := lowest(job)) > job.asked.keep + near_to(job.asked.keep):
        raise unreachable(job, least)


def unreachable(job: Job, lowest: float) -> TargetUnreachable:
    groups = job.coupling.groups
    frozen = [g for g in groups if not g.prunable]
    digits = 2 if lowest >= _NEAR * 10 else 3
    reachable = f"{np.ceil(lowest * 10**digits - 1e-9) / 10**digits:.{digits}f}"
    return TargetUnreachable(
        f"target {job.asked.target}={job.asked.keep:g} cannot be reached: {len(frozen)} of {len(groups)} groups "
        f"are frozen (lowest reachable is {reachable})",
        why=frozen_summary(job.coupling),
        fix=f"allow more (--{job.asked.target} {reachable}), {SEE_GROUPS}, "
        "or try --axis both, a lower --min-channels or --round-to",
    )


SEE_GROUPS = "list the reasons (intaglio groups MODEL)"


def frozen_summary(coupling: Coupling) -> str:
    reasons = Counter(str(g.frozen_by) for g in coupling.groups if g.frozen_by is not None)
    if not reasons:
        return Layers(coupling.model).told or "no group of channels was found"
    most = [f"{text} ({count} groups)" if count > 1 else text for text, count in reasons.most_common(3)]
    return "; ".join(most) + (f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else "")
