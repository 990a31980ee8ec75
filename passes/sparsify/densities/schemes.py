"""Densities that follow from shapes, from scores, or from what outputs lose."""

from __future__ import annotations

import numpy as np

from ....graph.layer import Floats
from ...budget.solvers import Item, solve_exact
from .density import DENSITIES, Spread

_GRID = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0)


@DENSITIES.register("uniform")
def uniform(spread: Spread) -> Floats:
    """The same part of every layer."""
    return np.full(len(spread.shapes), spread.density)


@DENSITIES.register("erk")
def erk(spread: Spread) -> Floats:
    """In proportion to the sum of a weight's lengths by their product: small layers keep more.

    Source: Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, arXiv:1911.11134.
    """
    return np.array([sum(shape) / np.prod(shape) for shape in spread.shapes], np.float64)


@DENSITIES.register("balanced")
def balanced(spread: Spread) -> Floats:
    """As many weights of every layer.

    Source: "Why Random Pruning Is All We Need to Start Sparse", Gadhikar et al., ICML 2023, arXiv:2210.02412.
    """
    return 1.0 / spread.sizes


@DENSITIES.register("pyramid")
def pyramid(spread: Spread) -> Floats:
    """A geometric row: each layer keeps the same part of the density before it.

    Source: as ``balanced``.
    """
    places = np.arange(1.0, len(spread.shapes) + 1)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        kept = float((spread.sizes * middle**places).sum())
        low, high = (middle, high) if kept < spread.density * spread.sizes.sum() else (low, middle)
    return np.asarray(high**places)


@DENSITIES.register("global")
def everywhere(spread: Spread) -> Floats:
    """The highest scores of all layers; each keeps a fifth of the density at least."""
    scores = [one.reshape(-1) for one in spread.scores()]
    owner = np.repeat(np.arange(len(scores)), [len(one) for one in scores])
    best = np.argsort(-np.concatenate(scores), kind="stable")[: round(spread.density * len(owner))]
    return np.bincount(owner[best], minlength=len(scores)) / spread.sizes


@DENSITIES.register("measured")
def measured(spread: Spread) -> Floats:
    """So that outputs lose least: each layer's loss is measured at some densities, with it alone sparse. Needs data.

    Losses are taken to add up, as in Cai et al., "ZeroQ", CVPR 2020, arXiv:2001.00281, there for bits.
    """
    grid = np.array([one for one in _GRID if one <= 4 * spread.density] or (*_GRID[:1], 1.0))
    grid = grid if grid[0] <= spread.density else np.array([spread.density, *grid])
    losses = spread.losses(list(grid))
    items = [Item(grid * size, np.asarray(loss)) for size, loss in zip(spread.sizes, losses, strict=True)]
    return grid[solve_exact(items, spread.density * float(spread.sizes.sum()))]
