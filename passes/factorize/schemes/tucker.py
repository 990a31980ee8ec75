"""Fewer inputs, fewer outputs, and the kernel between them."""

from __future__ import annotations

from math import prod

import numpy as np

from ....graph.layer import Floats, Ints
from ..factors import Factors, columns_by_slot
from ..sites import Site
from ..solve import alternate_factors, truncate_rank
from .scheme import SCHEMES, Scheme, Stage, rank_above_noise

_SWEEPS = 2


class Tucker(Scheme):
    """1x1 to the rank, the kernel from the rank to the rank, 1x1 to the outputs; neither wider than the layer was.

    Source: Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications",
    ICLR 2016, arXiv:1511.06530; De Lathauwer et al., SIAM J. Matrix Anal. Appl. 21, 2000 (HOOI).
    """

    name = "tucker"
    blind = False

    def obstacle(self, site: Site) -> str:
        if site.positions == 1:
            return "its kernel has one position"
        return "it has one channel in each group" if min(site.channels, site.outputs) < 2 else ""

    def largest(self, site: Site) -> int:
        return max(site.channels, site.outputs)

    def stages(self, site: Site, rank: int) -> list[Stage]:
        inner, outer = self._ranks(site, rank)
        axes = tuple(range(len(site.kernel)))
        sizes = (inner * site.channels, outer * inner * site.positions, site.outputs * outer)
        before, after = (prod(size) * site.rows for size in (site.in_size, site.out_size))
        return [
            Stage(axes if k == 1 else (), outs, site.groups * size, site.groups * size * (after if k else before))
            for k, (outs, size) in enumerate(zip((inner, outer, site.outputs), sizes, strict=True))
        ]

    def factor(self, site: Site, matrices: Floats, rank: int, moments: Floats | None = None) -> Factors:
        inner, outer = self._ranks(site, rank)
        order = self._order(site)
        vs, cs, us = [], [], []
        for g, matrix in enumerate(matrices):
            by_slot = matrix[:, order].transpose(1, 0, 2)
            if moments is None:
                v, c, u = _hooi(by_slot, inner, outer)
            else:
                flat = order.reshape(-1)
                h = moments[g][np.ix_(flat, flat)].reshape(*order.shape, *order.shape)
                v, c, narrow = alternate_factors(by_slot, h, inner, outer_rank=outer)
                assert narrow is not None
                u = narrow
            vs.append(v)
            cs.append(c)
            us.append(u)
        return Factors(np.stack(vs), np.stack(cs), order, np.stack(us)).balanced()

    def unfold(self, site: Site, matrices: Floats) -> Floats:
        """By outputs: the other mode is that of the scheme ``input``."""
        return matrices

    def noise_rank(self, site: Site, matrices: Floats) -> int:
        """The higher of the two modes, as both get the same rank."""
        by_slot = matrices[:, :, self._order(site)].transpose(0, 2, 1, 3)
        return max(rank_above_noise(matrices), rank_above_noise(by_slot.reshape(len(matrices), -1, site.channels)))

    def _ranks(self, site: Site, rank: int) -> tuple[int, int]:
        inner = min(rank, site.channels, site.outputs * site.positions)
        return inner, min(rank, site.outputs, inner * site.positions)

    def _order(self, site: Site) -> Ints:
        return columns_by_slot(site.kernel, site.channels, ())


def _hooi(w: Floats, inner: int, outer: int) -> tuple[Floats, Floats, Floats]:
    """Tucker-2 by higher-order orthogonal iteration. Shapes: w (d, o, n) -> V (r, n), C (d, k, r), U (o, k)."""
    slots, outputs, n = w.shape
    v = (
        truncate_rank(w.reshape(-1, n).T, inner)[0].T
        if n <= slots * outputs
        else truncate_rank(w.reshape(-1, n), inner)[1]
    )
    v = np.linalg.qr(v.T)[0].T
    for _ in range(_SWEEPS):
        seen = np.matmul(w, v.T).transpose(1, 0, 2).reshape(outputs, -1)
        u = np.linalg.qr(truncate_rank(seen, outer)[0])[0]
        narrow = np.matmul(u.T, w).reshape(-1, n)
        v = np.linalg.qr(truncate_rank(narrow.T, inner)[0])[0].T
    seen = np.matmul(w, v.T).transpose(1, 0, 2).reshape(outputs, -1)
    u = np.linalg.qr(truncate_rank(seen, outer)[0])[0]
    return v, np.matmul(np.matmul(u.T, w), v.T), u


SCHEMES.register("tucker")(Tucker())
