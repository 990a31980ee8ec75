"""Criteria: how important each channel of a group is. The least important go first.

A criterion gets a whole group, so that a channel is judged by everything that would go with it.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
from pydantic import BaseModel, Field

from ....graph.errors import BadModel
from ....graph.model import Model
from ....graph.registry import Registry
from ...needs import CURVATURE, GRADIENTS, NEEDS
from ..plan import Job, Planner
from ..ranked import Ranked
from ..weights import GroupWeights, Member, Scores


@dataclass(frozen=True, kw_only=True)
class Criterion(ABC):
    """A way to choose channels. ``repair`` names what is done for those that stay, unless the user says otherwise."""

    repair: str = "none"

    def ready(self, model: Model) -> tuple[Model, list[str]]:
        """The model to analyse, equal to the one given, and notes on what differs."""
        return model, []

    @abstractmethod
    def planner(self, job: Job) -> Planner:
        """What chooses channels for one request."""


@dataclass(frozen=True, kw_only=True)
class Scored(Criterion):
    """A scoring function. ``comparable`` scores mean the same in every group, others are divided by the group's mean."""

    score: Callable[..., Scores]
    comparable: bool = False

    def with_options(self, options: BaseModel) -> Scored:
        return replace(self, score=partial(self.score, options=options))

    def __call__(self, group: GroupWeights) -> Scores:
        """Importance of each channel. Shapes: (channels,)."""
        scores = np.asarray(self.score(group), dtype=np.float64)
        mean = scores.mean()
        return scores if self.comparable or mean <= 0 else scores / mean

    def planner(self, job: Job) -> Planner:
        return Ranked(self, job)


def of_function(function: Any, name: str) -> Criterion:
    """The criterion that a function of the user's is: of a ``GroupWeights``, one score for each channel."""

    def score(group: GroupWeights) -> Scores:
        try:
            with redirect_stdout(sys.stderr):  # stdout is for results
                given = function(group)
            scores = np.asarray(given, dtype=np.float64)
        except (Exception, SystemExit) as error:
            raise BadModel(f"criterion {name!r} failed", why=f"{type(error).__name__}: {error}") from error
        if scores.shape != (group.channels,) or not np.isfinite(scores).all():
            told = f"numbers of shape {scores.shape}" if np.isfinite(scores).all() else "what is no number"
            fix = f"return one finite number for each of the {group.channels} channels"
            raise BadModel(f"criterion {name!r} returned {told} for the group {group.name!r}", fix=fix)
        return scores

    chosen = {key: getattr(function, key) for key in ("comparable", "repair") if hasattr(function, key)}
    return Scored(score=score, **chosen)


CRITERIA: Registry[Criterion] = Registry(
    "criterion", "intaglio.criteria", "intaglio.passes.prune", of=Criterion, offers=NEEDS, adapted=of_function
)


def criterion(
    name: str,
    *,
    comparable: bool = False,
    repair: str = "none",
    options: type[BaseModel] | None = None,
    needs: tuple[str, ...] = (),
) -> Callable[[Callable[..., Scores]], Scored]:
    """Register a scoring function under a name."""

    def add(score: Callable[..., Scores]) -> Scored:
        scored = Scored(score=score, comparable=comparable, repair=repair)
        return CRITERIA.register(name, options=options, needs=needs)(scored)

    return add


@criterion("l1")
def l1(group: GroupWeights) -> Scores:
    """Sum of absolute weights.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710; over coupled members as
    in Fang et al., "DepGraph", CVPR 2023, arXiv:2301.12900.
    """
    return group.row_mean(lambda rows: np.abs(rows).sum(axis=1), "out", "in", "scale")


@criterion("l2")
def l2(group: GroupWeights) -> Scores:
    """Sum of squared weights.

    Source: Fang et al., "DepGraph", CVPR 2023, arXiv:2301.12900.
    """
    return group.row_mean(lambda rows: np.square(rows).sum(axis=1), "out", "in", "scale")


class Norm(BaseModel):
    """Options of ``norm``."""

    p: float = Field(default=1.0, gt=0, le=64, description="power of each absolute weight")


@criterion("norm", options=Norm)
def norm(group: GroupWeights, options: Norm) -> Scores:
    """Sum of powers of absolute weights: l1 and l2 with another power, such as norm:p=0.5."""
    return group.row_mean(lambda rows: (np.abs(rows) ** options.p).sum(axis=1), "out", "in", "scale")


@criterion("bn-scale")
def bn_scale(group: GroupWeights) -> Scores:
    """Absolute BatchNormalization scale; groups without one are scored by l1.

    Source: Liu et al., "Network Slimming", ICCV 2017, arXiv:1708.06519.
    """
    if not group.having("scale"):
        return l1.score(group)
    return group.row_mean(lambda rows: np.abs(rows).sum(axis=1), "scale")


@criterion("fpgm")
def fpgm(group: GroupWeights) -> Scores:
    """Distance of a filter to all others of its layer: what lies near the geometric median can be replaced.

    Source: He et al., "Filter Pruning via Geometric Median", CVPR 2019, arXiv:1811.00250.
    """
    made = group.having("out") or group.having("in", "scale", "other")
    if not made:
        return np.zeros(group.channels)
    return np.asarray(np.mean([m.total(_distances(m.rows)) for m in made], axis=0))


def _distances(rows: Scores) -> Scores:
    """Sum of Euclidean distances of each row to the others."""
    squares = np.square(rows).sum(axis=1)
    gram = squares[:, None] + squares[None, :] - 2 * rows @ rows.T
    return np.asarray(np.sqrt(np.maximum(gram, 0)).sum(axis=1))


@criterion("lamp", comparable=True)
def lamp(group: GroupWeights) -> Scores:
    """Each squared weight relative to all weights of its layer that are not smaller, summed over a channel.

    Source: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, arXiv:2010.07611.
    """
    return group.mean(_relative_magnitude, "out", "in")


def _relative_magnitude(rows: Scores) -> Scores:
    squares = np.square(rows).reshape(-1)
    order = np.argsort(squares, kind="stable")
    not_smaller = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(not_smaller, np.finfo(np.float64).tiny)
    return np.asarray(scores.reshape(rows.shape).sum(axis=1))


@criterion("taylor", needs=(GRADIENTS,))
def taylor(group: GroupWeights) -> Scores:
    """What the loss changes by without the channel, to first order: (gradient · weight)² of all that goes with it.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, arXiv:1906.10771; over
    coupled members as in Fang et al., "DepGraph", CVPR 2023, arXiv:2301.12900.
    Differs: the mean over batches of calibration data, of a network that stays as it is, not of one in training; scores
    are compared between groups relative to each group's mean (on a ResNet-20 at 0.9 of the MACs 90.6 % instead of 89.1 %
    is left).
    """
    members = group.having("out", "in", "scale", "shift")
    changes = (m.total((np.square(m.rows) * m.squared_gradients).sum(axis=1)) for m in members)
    return sum(changes, np.zeros(group.channels))


@criterion("snip", needs=(GRADIENTS,))
def snip(group: GroupWeights) -> Scores:
    """How much the loss depends on each weight alone: |gradient · weight|, summed over all that goes with the channel.

    Source: Lee et al., "SNIP: single-shot network pruning based on connection sensitivity", ICLR 2019, arXiv:1810.02340;
    of channels as in Aflalo et al., "Knapsack pruning with inner distillation", 2020, arXiv:2002.08258.
    """
    return _summed(group, lambda m: np.abs(m.rows * m.gradients))


@criterion("grasp", needs=(GRADIENTS, CURVATURE), comparable=True)
def grasp(group: GroupWeights) -> Scores:
    """What the gradient's length loses without the channel, to first order: weight · (second derivatives · gradient).

    Source: Wang et al., "Picking winning tickets before training by preserving gradient flow", ICLR 2020, arXiv:2002.07376.
    """
    return _summed(group, lambda m: m.rows * m.curvature)


@criterion("crop", needs=(GRADIENTS, CURVATURE))
def crop(group: GroupWeights) -> Scores:
    """How much the gradient's length changes without the channel, up or down.

    Source: Rachwan et al., "Winning the lottery ahead of time", ICML 2022, arXiv:2206.10451.
    """
    return _summed(group, lambda m: np.abs(m.rows * m.curvature))


def _summed(group: GroupWeights, score: Callable[[Member], Scores]) -> Scores:
    members = group.having("out", "in", "scale", "shift")
    return sum((m.total(score(m).sum(axis=1)) for m in members), np.zeros(group.channels))


@criterion("random", comparable=True)
def random(group: GroupWeights) -> Scores:
    """Uniform noise: the baseline that every criterion must beat."""
    return np.random.default_rng([group.seed, crc32(group.name.encode())]).random(group.channels)


@criterion("dfpc", repair="absorb")
def dfpc(group: GroupWeights) -> Scores:
    """Bound on what the consumers of a channel lose.

    For each layer that makes the channel and each later one that reads it: the product of their absolute weights, at
    the resolution they run at.

    Source: Narshana et al., "DFPC: Data Flow Driven Pruning of Coupled Channels without Data", ICLR 2023. Both factors
    are non-negative, so the norm of the product is the product of row and column sums.
    Differs: borders are ignored, every later consumer in graph order counts as downstream, and scores are compared
    between groups relative to each group's mean (on a ResNet-20 at 0.9 of the MACs 85 % instead of 64 % is left).
    """
    makers = sorted(group.having("out"), key=lambda m: m.node)
    readers = sorted(group.having("in"), key=lambda m: m.node)
    if not makers or not readers:
        return l1.score(group)
    sums = {id(m): m.total(_absolute(m)) for m in (*makers, *readers)}
    scores = np.zeros(group.channels)
    for maker in makers:
        for reader in readers:
            if reader.node > maker.node:
                scores += maker.uses * sums[id(maker)] * sums[id(reader)]
    return scores


def _absolute(member: Member) -> Scores:
    rows = member.scored(lambda rows: np.asarray(np.abs(rows).sum(axis=1)))
    return rows if member.gain is None else np.asarray(rows * member.gain)


@criterion("udfc", repair="udfc")
def udfc(group: GroupWeights) -> Scores:
    """Norm of the filters with BatchNormalization folded into them.

    Source: Bai et al., "Unified Data-Free Compression: Pruning and Quantization without Fine-Tuning", ICCV 2023,
    arXiv:2308.07209.
    Differs: where several layers make a channel, their norms are averaged.
    """
    if not group.having("out"):
        return l2.score(group)
    return np.asarray(np.mean([np.sqrt(m.total(_folded_squares(m))) for m in group.having("out")], axis=0))


def _folded_squares(member: Member) -> Scores:
    rows = member.scored(lambda rows: np.asarray(np.square(rows).sum(axis=1)))
    return rows if member.gain is None else np.asarray(rows * np.square(member.gain))
