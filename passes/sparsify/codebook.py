"""A few values that all weights of a layer share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...graph.layer import Floats
from ..rounding.columns import choose_columns

_ROUNDS = 50


def shared_values(matrices: Floats, hessian: Floats | None, count: int) -> Floats:
    """The matrices with at most ``count`` values, zero among them; with data columns make up for those before them.

    Source: Han et al., "Deep Compression", ICLR 2016, arXiv:1510.00149 (k-means from evenly spread values). Differs: weights
    count as much as their inputs vary, and are chosen one column after the other as in GPTQ, arXiv:2210.17323.
    """
    mask = matrices != 0
    if hessian is None:
        weight = np.ones(matrices.shape)
    else:
        weight = np.broadcast_to(np.einsum("gcc->gc", hessian)[:, None], matrices.shape)
    values = clustered(matrices[mask], weight[mask], count - 1)
    if hessian is None:
        return np.where(mask, nearest(matrices, values), 0.0)
    found, groups = np.zeros_like(matrices), np.arange(len(matrices))

    def choose(columns: NDArray[np.intp], target: Floats) -> Floats:
        chosen = np.where(mask[groups, :, columns], nearest(target, values), 0.0)
        found[groups, :, columns] = chosen
        return chosen

    choose_columns(matrices, hessian, choose)
    return found


def clustered(values: Floats, weight: Floats, count: int) -> Floats:
    """At most ``count`` centres of least squared distance, found by Lloyd's steps, in ascending order. Shapes: (n,)."""
    distinct = np.unique(values)
    if len(distinct) <= count:
        return distinct
    centres = np.linspace(distinct[0], distinct[-1], count)
    order = np.argsort(values, kind="stable")
    values, weight = values[order], weight[order]
    sums, weights = (np.concatenate([[0.0], np.cumsum(a)]) for a in (values * weight, weight))
    for _ in range(_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(values, (centres[1:] + centres[:-1]) / 2), [len(values)]])
        share = np.diff(weights[ends])
        moved = np.where(share > 0, np.diff(sums[ends]) / np.where(share > 0, share, 1.0), centres)
        if np.allclose(moved, centres, rtol=1e-9, atol=0):
            break
        centres = np.sort(moved)
    return centres[centres != 0]


def nearest(values: Floats, centres: Floats) -> Floats:
    """Of each value the nearest centre."""
    if not len(centres):
        return np.zeros_like(values)
    return np.asarray(centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values)])
