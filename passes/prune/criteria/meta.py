"""Criterion: what a channel's place in the graph tells of its effect, learned from some channels of the network itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, Field

from ....graph.coupling import Group, Removal, mask_removed
from ....graph.coupling.certificate import too_short
from ....graph.layer import Floats, Ints
from ...calibration.activation_cache import Inputs, Store
from ...calibration.effects import Effects
from ...calibration.feeds import calibration_inputs
from ..plan import Job, Planner
from ..ranked import Ranked
from ..weights import GroupWeights, Member, Scores, Weights
from .criteria import CRITERIA, Criterion, Scored

_ROUNDS = 2
"""How far along the graph channels hear of each other."""
_TOLD = 3
"""What they hear of: the first columns, the norms of what makes and reads a channel and its offset."""
_STRENGTHS = 10.0 ** np.arange(-4, 4)
_LEAST = 1e-12
"""A measured effect below this, as a fraction of the largest, is rounding."""


class MetaOptions(BaseModel):
    """Options of ``meta``."""

    measured: int = Field(default=128, ge=8, description="channels whose effect on the outputs is measured")
    images: int = Field(default=64, ge=1, description="samples that effects are measured on")


@dataclass(frozen=True, kw_only=True)
class Meta(Criterion):
    """Predicted effect of zeroing a channel on the outputs, per unit of cost, from features of the coupling graph.

    Channels are nodes, weights between them are edges: what is known of a node (norms of what makes and reads it, offset,
    fan in and out, depth, width, cost) goes along the edges twice, both ways. A ridge is fitted to the measured effects of
    some channels. What it predicts is how the effect differs from the product of norms, so that a channel which nothing
    makes or reads has none.

    Source: Liu et al., "Meta Pruning via Graph Metanetworks", 2025, arXiv:2506.12041.
    Differs: the paper trains a graph network on many pruned networks, which then changes weights; here the messages are
    means, a ridge stands in for the network, and it is fitted to the one network that is pruned.
    """

    repair: str = "refit"
    options: MetaOptions = field(default_factory=MetaOptions)

    def with_options(self, options: MetaOptions) -> Meta:
        return replace(self, options=options)

    def planner(self, job: Job) -> Planner:
        nodes = Nodes(job)
        sample = nodes.drawn(self.options.measured, job.context.seed)
        effects = measured(job, nodes.atoms[sample], self.options.images)
        known = np.flatnonzero((nodes.bound[sample] > 0) & np.isfinite(effects))
        predicted, tau = fitted(nodes, sample[known], effects[known])
        scores = {name: predicted[mine] / nodes.cost[mine] for name, mine in nodes.of.items()}
        ranked = Ranked(Scored(score=lambda group: scores[group.name], comparable=True), job)
        told = "" if tau is None else f"; rank correlation with channels left out of the fit {tau:.2f}"
        ranked.notes.append(f"effects of {len(nodes.atoms)} channels were predicted from those of {len(sample)}{told}")
        return ranked


CRITERIA.register("meta", options=MetaOptions)(Meta())


class Nodes:
    """Channels of all groups that a coupling can take away, one after the other.

    ``of`` tells which are a group's. Shapes: atoms, bound, cost (channels,); bound is the product of squared norms.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.coupling = job, job.coupling
        weights, nothing = Weights(job.coupling), Removal(job.coupling, job.coupling.nothing())
        open_groups = [k for k, group in enumerate(job.coupling.groups) if len(group.atoms)]
        self.groups = [weights.group(k, nothing, job.context.seed) for k in open_groups]
        starts = np.cumsum([0, *(g.channels for g in self.groups)])
        self.of = {g.name: np.arange(*at) for g, at in zip(self.groups, pairwise(starts), strict=True)}
        self.described = [job.coupling.groups[k] for k in open_groups]
        self.atoms: Ints = np.concatenate([g.atoms for g in self.described])
        self.owner: Ints = np.repeat(np.arange(len(self.groups)), [g.channels for g in self.groups])
        self.chosen = np.isin(np.array(open_groups), job.numbers)[self.owner]
        self.made = np.concatenate([_made(g) for g in self.groups])
        self.read = np.concatenate([_read(g) for g in self.groups])
        self.bound = self.made * self.read
        by_size = job.asked.target in ("params", "size")
        costs = [max(g.params if by_size else g.macs, 1.0) for g in self.described]
        self.cost = np.array(costs)[self.owner]

    def drawn(self, count: int, seed: int) -> Ints:
        """Channels to measure, of each group as large a share; of a group of one none, which cannot go."""
        rng, size = np.random.default_rng(seed), np.bincount(self.owner)[self.owner]
        place = np.concatenate([rng.permutation(len(mine)) for mine in self.of.values()])
        turn = np.where(self.chosen & (size > 1), (place + 0.5) / size, np.inf)
        order = np.argsort(turn, kind="stable")
        return np.sort(order[: min(count, int(np.isfinite(turn).sum()))])

    @cached_property
    def features(self) -> Floats:
        """Of each channel and, by messages, of what makes and reads it. Shapes: (channels, features)."""
        own = np.concatenate(
            [_own(g, d, len(self.coupling.nodes)) for g, d in zip(self.groups, self.described, strict=True)]
        )
        found, ahead, behind = [own], own[:, :_TOLD], own[:, :_TOLD]
        for _ in range(_ROUNDS):
            ahead, behind = self._heard(ahead, forward=True), self._heard(behind, forward=False)
            found += [ahead, behind]
        return np.concatenate(found, axis=1)

    def _heard(self, told: Floats, *, forward: bool) -> Floats:
        """The mean of what the other ends of a channel's weights tell, by squared weight: makers' if ``forward``."""
        sums, weight = np.zeros_like(told), np.zeros(len(told))
        for block, makes, reads in self._blocks():
            matrix, ours, theirs = (block, makes, reads) if forward else (block.T, reads, makes)
            np.add.at(sums, ours, matrix @ told[theirs])
            np.add.at(weight, ours, matrix.sum(axis=1))
        return np.asarray(sums / np.maximum(weight, 1e-30)[:, None])

    def _blocks(self) -> Iterator[tuple[Floats, Ints, Ints]]:
        """Squared weights between channels. Shapes: (n, m), and the channels that are made (n,) and read (m,)."""
        ends: dict[str, dict[str, list[tuple[int, Member]]]] = {}
        for number, group in enumerate(self.groups):
            for member in group.having("out", "in"):
                ends.setdefault(member.tensor, {}).setdefault(member.role, []).append((number, member))
        starts = [mine[0] for mine in self.of.values()]
        for both in ends.values():
            for out, made in both.get("out", ()):
                for into, read in both.get("in", ()):
                    whole = np.square(np.moveaxis(made.weight, (made.axis, read.axis), (0, 1)).astype(np.float64))
                    table = whole.reshape(*whole.shape[:2], -1).sum(axis=2)[np.ix_(made.entries, read.entries)]
                    yield table, starts[out] + made.channel, starts[into] + read.channel


def _made(group: GroupWeights) -> Scores:
    """Squared norm of what makes each channel, offsets included."""
    filters = sum((_folded(m) for m in group.having("out")), np.zeros(group.channels))
    return np.asarray(filters + sum((_squares(m) for m in group.having("shift")), np.zeros(group.channels)))


def _read(group: GroupWeights) -> Scores:
    """Squared norm of what reads each channel; ones where nothing known does."""
    readers = group.having("in")
    return sum((_squares(m) for m in readers), np.zeros(group.channels)) if readers else np.ones(group.channels)


def _squares(member: Member) -> Scores:
    return member.total(member.scored(lambda rows: np.asarray(np.square(rows).sum(axis=1))))


def _folded(member: Member) -> Scores:
    rows = member.scored(lambda rows: np.asarray(np.square(rows).sum(axis=1)))
    return member.total(rows if member.gain is None else np.asarray(rows * np.square(member.gain)))


def _own(group: GroupWeights, described: Group, nodes: int) -> Floats:
    """What is known of channels without others. Shapes: (channels, features)."""
    made, read = _made(group), _read(group)
    makers, readers = group.having("out"), group.having("in")
    offset = sum((m.total(m.rows.sum(axis=1)) for m in group.having("shift")), np.zeros(group.channels))
    logs = np.stack([np.log(_safe(made)), np.log(_safe(read))])
    alike = [
        *logs.mean(axis=1),
        len(makers),
        len(readers),
        min((m.node for m in makers), default=0) / nodes,
        max((m.node for m in readers), default=nodes) / nodes,
        np.log(group.channels),
        np.log(max(described.macs, 1.0)),
        np.log(max(described.params, 1.0)),
    ]
    each = np.stack([*logs, offset / np.sqrt(_safe(made)), np.sqrt(made), np.sqrt(read)], axis=1)
    return np.concatenate([each, np.tile(np.array(alike, dtype=np.float64), (group.channels, 1))], axis=1)


def _safe(values: Scores) -> Scores:
    """Without zeros: what is nothing counts as a millionth of the mean."""
    return np.maximum(values, 1e-6 * values.mean() + 1e-30)


def measured(job: Job, atoms: Ints, images: int) -> Floats:
    """What the outputs lose without each channel alone, relative to their variance; NaN where none can go alone."""
    original = job.coupling.original
    found = np.full(len(atoms), np.nan)
    with Store.of(job.context) as store:
        batches, _ = calibration_inputs(original, job.context, images)
        effects = Effects(original, Inputs(batches, store).first(images))
        for place, atom in enumerate(atoms):
            gone = job.coupling.nothing()
            gone[atom] = True
            removal = Removal(job.coupling, gone)
            if too_short(removal) is None:
                found[place] = effects.of_model(mask_removed(removal))
            job.context.tick(place + 1, len(atoms))
    return found


def fitted(nodes: Nodes, sample: Ints, effects: Floats) -> tuple[Floats, float | None]:
    """Predicted effects of all channels, and Kendall's tau of those measured with what others predict of them.

    Source of the ridge: Hoerl and Kennard, Technometrics 12, 1970; leaving out one in closed form by Golub, Heath and
    Wahba, Technometrics 21, 1979.
    """
    if len(sample) < 2 or not effects.max() > 0:
        return nodes.bound, None
    wanted = np.log(np.maximum(effects, _LEAST * effects.max())) - np.log(nodes.bound[sample])
    centre, scale = nodes.features[sample].mean(axis=0), nodes.features[sample].std(axis=0) + 1e-9
    rows, middle = (nodes.features[sample] - centre) / scale, wanted.mean()
    values, vectors = np.linalg.eigh(rows @ rows.T)
    turned, tries = vectors.T @ (wanted - middle), []
    for strength in _STRENGTHS * len(sample):
        shrunk = 1 / (np.maximum(values, 0) + strength)
        left = vectors @ (shrunk * turned)
        missed = left / (np.square(vectors) @ shrunk)
        tries.append((float(np.square(missed).mean()), missed, left))
    _, missed, left = min(tries, key=lambda one: one[0])
    near = np.clip((nodes.features - centre) / scale, rows.min(axis=0), rows.max(axis=0))
    ratio = np.exp(middle + near @ (rows.T @ left))
    return nodes.bound * ratio, _tau(wanted - missed + np.log(nodes.bound[sample]), effects)


def _tau(predicted: Floats, effects: Floats) -> float:
    """Kendall's, pairs that are alike left out."""
    upper = np.triu_indices(len(effects), 1)
    agree = np.sign(predicted[:, None] - predicted)[upper] * np.sign(effects[:, None] - effects)[upper]
    return float(agree.sum() / max(1, np.abs(agree).sum()))
