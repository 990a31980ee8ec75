"""OMPQ: layers that say what others say too get fewer bits; no loss is measured.

How alike two layers are is the linear CKA of what they give on a few samples. A layer's importance falls with the sum
of that over all others, and a linear program maximises the sum of importance times bits under the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import scipy

from ....graph.errors import IntaglioError, TargetUnreachable, UsageError
from ....graph.layer import Layer
from ...calibration.activation_cache import ActivationCache, each
from .allocate import ALLOCATORS, Choices, Floats

BETA = 10.0
"""How fast importance falls with likeness."""
SAMPLES = 32
_MOST_SEARCHED = 12
"""Layers between two numbers of bits of which all ways to round are tried."""


@ALLOCATORS.register("ompq", needs=("grams",))
def ompq(layers: Sequence[Choices], limit: float) -> dict[str, int]:
    """More bits for layers that are unlike the others, by linear programming; fast, as no loss is measured.

    Source: Ma et al., "OMPQ: Orthogonal Mixed Precision Quantization", AAAI 2023, arXiv:2109.07865. Differs: choices of
    bits with any costs instead of numbers of bits in proportion to cost. As the aim is linear, layers go to one end or
    the other: like the paper's 2 to 4 bits, only the choices next to what all layers could have alike are open.

    Raises:
        TargetUnreachable: the fewest bits cost more than the limit.
    """
    least = sum(float(one.cost.min()) for one in layers)
    if least > limit * (1 + 1e-12):
        raise TargetUnreachable(
            f"the fewest bits cost {least:g}, more than the limit {limit:g}", fix=f"allow {least:g}"
        )
    value, layers = importance(layers), near(layers, limit)
    shares = _program(layers, value, limit)
    return {one.name: one.bits[k] for one, k in zip(layers, _whole(layers, value, shares, limit), strict=True)}


def near(layers: Sequence[Choices], limit: float) -> Sequence[Choices]:
    """The choices up to one step from the most bits that all layers could have; layers without such keep theirs."""
    levels = sorted({b for one in layers for b in one.bits})

    def alike(most: int) -> float:
        return sum(float(one.cost[[b <= most for b in one.bits]].max(initial=one.cost.min())) for one in layers)

    place = max([k for k, most in enumerate(levels) if alike(most) <= limit], default=0)
    allowed = levels[max(0, place - 1) : place + 2]
    found = [_only(one, allowed) for one in layers]
    return found if sum(float(one.cost.min()) for one in found) <= limit else layers


def _only(one: Choices, allowed: Sequence[int]) -> Choices:
    kept = [k for k, b in enumerate(one.bits) if b in allowed]
    if not kept:
        return one
    return replace(one, bits=tuple(one.bits[k] for k in kept), cost=one.cost[kept])


def likeness(grams: Sequence[Floats]) -> Floats:
    """Linear CKA of all pairs; 0 for layers that never change. Shapes: -> (layers, layers)."""
    flat = []
    for gram in grams:
        centred = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
        size = np.linalg.norm(centred)
        flat.append((centred / size if size > 1e-12 * np.abs(gram).max(initial=1e-300) else 0 * centred).ravel())
    return np.asarray(np.stack(flat) @ np.stack(flat).T)


def importance(layers: Sequence[Choices]) -> Floats:
    """``exp(-beta * gamma)``, gamma the mean likeness to other layers, averaged over a layer and all after it.

    The paper's gamma is a sum: with many layers only the least alike would count at all.
    """
    grams = [one.gram for one in layers if one.gram is not None]
    if len(grams) < len(layers):
        raise UsageError("ompq needs calibration data", fix="add --data, or choose --allocator dp")
    alike = likeness(grams)
    gamma = (alike.sum(axis=1) - np.diag(alike)) / max(1, len(layers) - 1)
    theta = np.exp(-BETA * gamma)
    return np.asarray(np.cumsum(theta[::-1])[::-1] / np.arange(len(layers), 0, -1))


def grams(cache: ActivationCache, layers: Sequence[Layer]) -> Iterator[Floats]:
    """Of each layer's output, one layer after the other. Shapes: (samples, samples)."""
    for layer in each(cache, [(layer, [layer.output]) for layer in layers]):
        parts = [batch[layer.output] for batch in cache.batches([layer.output])]
        rows = np.concatenate([np.asarray(p, np.float64).reshape(len(p), -1) for p in parts])
        yield rows @ rows.T


def _program(layers: Sequence[Choices], value: Floats, limit: float) -> list[Floats]:
    """Shares of the choices of each layer, which sum to 1."""
    gain = np.concatenate([-v * np.array(one.bits, np.float64) for v, one in zip(value, layers, strict=True)])
    cost = scipy.sparse.csr_matrix(np.concatenate([one.cost for one in layers])[None])
    ones = scipy.sparse.block_diag([np.ones((1, len(one.bits))) for one in layers], format="csr")
    unit = max(1.0, abs(limit))
    found = scipy.optimize.linprog(
        gain,
        scipy.sparse.vstack([cost / unit]),
        [limit / unit],
        ones,
        np.ones(len(layers)),
        bounds=(0, 1),
        method="highs-ds",
    )
    if found.x is None:
        raise IntaglioError("the linear program of ompq has no answer", why=str(found.message))
    return np.split(found.x, np.cumsum([len(one.bits) for one in layers])[:-1])


def _whole(layers: Sequence[Choices], value: Floats, shares: Sequence[Floats], limit: float) -> list[int]:
    """Of layers between choices each is tried, then what is left of the limit is spent; never more than the limit."""
    tried = [np.flatnonzero(s > 1e-9) for s in shares]
    between = [k for k, t in enumerate(tried) if len(t) > 1]
    for k in between[_MOST_SEARCHED:]:  # an extreme point has one such layer, if not many are of equal worth
        tried[k] = tried[k][[int(np.argmin(layers[k].cost[tried[k]]))]]
    worth = [v * np.array(one.bits, np.float64) for v, one in zip(value, layers, strict=True)]
    best: list[int] | None = None
    for choice in product(*tried):
        chosen = _spent(layers, worth, [int(c) for c in choice], limit)
        if chosen is not None and (best is None or _sum(worth, chosen) > _sum(worth, best)):
            best = chosen
    if best is not None:
        return best
    cheapest = [int(np.argmin(one.cost)) for one in layers]
    return _spent(layers, worth, cheapest, limit) or cheapest


def _spent(layers: Sequence[Choices], worth: Sequence[Floats], choice: list[int], limit: float) -> list[int] | None:
    """Change one layer at a time, what is worth most, while the limit allows; None if it is exceeded from the start."""
    costs = [one.cost for one in layers]
    room = limit * (1 + 1e-12) - _sum(costs, choice)
    if room < 0:
        return None
    while True:
        best, most = None, 0.0
        for k, c in enumerate(choice):
            gain = np.where(costs[k] - costs[k][c] <= room, worth[k] - worth[k][c], -np.inf)
            to = int(np.argmax(gain))
            if gain[to] > most + 1e-15:
                best, most = (k, to), float(gain[to])
        if best is None:
            return choice
        k, to = best
        room -= float(costs[k][to] - costs[k][choice[k]])
        choice[k] = to


def _sum(values: Sequence[Floats], choice: Sequence[int]) -> float:
    return float(sum(v[c] for v, c in zip(values, choice, strict=True)))
