"""What a scheme is: a way to write a weight as a product of smaller ones that the standard operators can run.

Training methods need three things of it, and find them here: the matrix whose rank is cut (``unfold``) and the way
back, for a nuclear norm or a projection after some steps (trained rank pruning); and factors at a rank (``factor``),
to train on in their own right (dynamical low-rank training).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from ....graph.layer import Floats, Ints
from ....graph.registry import Registry
from ..evbmf import evbmf_rank
from ..factors import Factors, columns_by_slot
from ..sites import Site
from ..solve import alternate_factors, energies, truncate_rank


@dataclass(frozen=True)
class Stage:
    """One operator of what a layer becomes. ``axes`` are the kernel axes along which it slides.

    ``outputs`` of each group, ``params`` of its weight, ``macs`` for the batch that the site has.
    """

    axes: tuple[int, ...]
    outputs: int
    params: int
    macs: int


class Scheme(ABC):
    """Base of all schemes. ``rank`` is one number; a scheme with several widths derives them from it.

    ``blind`` schemes can be chosen by weights alone. The others lose whole channels, of which weights do not tell what
    they are worth: without data they are used only where no blind one suits, or where they are named.
    """

    name: ClassVar[str]
    blind: ClassVar[bool] = True

    @abstractmethod
    def obstacle(self, site: Site) -> str:
        """Why the scheme does not suit a layer; empty if it does."""

    @abstractmethod
    def largest(self, site: Site) -> int:
        """The rank from which on factors can be exact."""

    @abstractmethod
    def stages(self, site: Site, rank: int) -> list[Stage]:
        """What the layer would become, without doing it."""

    @abstractmethod
    def factor(self, site: Site, matrices: Floats, rank: int, moments: Floats | None = None) -> Factors:
        """Factors nearest to the weight, by what the layer makes of its inputs where their moments are given.

        Shapes: matrices (groups, outputs, columns), moments (groups, columns, columns).
        """

    @abstractmethod
    def unfold(self, site: Site, matrices: Floats) -> Floats:
        """The matrix of each group whose rank is cut. Shapes: (groups, outputs, columns) -> (groups, m, n)."""

    def spectrum(self, site: Site, matrices: Floats) -> Floats:
        """Energies of the unfolded matrices by rank, all groups together, the largest first."""
        found = [energies(m) for m in self.unfold(site, matrices)]
        return np.asarray(np.sum([np.pad(e, (0, max(map(len, found)) - len(e))) for e in found], axis=0))

    def noise_rank(self, site: Site, matrices: Floats) -> int:
        """The rank of what stands out of noise, the highest over groups; at least 1."""
        return rank_above_noise(self.unfold(site, matrices))

    def blank(self, site: Site, rank: int) -> Factors:
        """Factors of zeros, for whoever asks what the layer would look like."""
        first, second, *rest = self.stages(site, rank)
        inner = first.params // (site.groups * first.outputs)
        slots = second.params // (site.groups * second.outputs * first.outputs)
        return Factors(
            np.zeros((site.groups, first.outputs, inner)),
            np.zeros((site.groups, slots, second.outputs, first.outputs)),
            np.arange(slots * inner).reshape(slots, inner),
            np.zeros((site.groups, rest[0].outputs, second.outputs)) if rest else None,
        )

    def params(self, site: Site, rank: int) -> int:
        return sum(stage.params for stage in self.stages(site, rank))

    def macs(self, site: Site, rank: int) -> int:
        return sum(stage.macs for stage in self.stages(site, rank))


SCHEMES: Registry[Scheme] = Registry(
    "factorization", "intaglio.factorizations", "intaglio.passes.factorize.schemes", of=Scheme
)


class TwoFactors(Scheme):
    """Schemes of two layers, between which the kernel axes are shared out: the first takes those of ``first``."""

    def first(self, site: Site) -> tuple[int, ...]:
        """Kernel axes of the first layer; by default all."""
        return tuple(range(len(site.kernel)))

    def order(self, site: Site) -> Ints:
        return columns_by_slot(site.kernel, site.channels, self.first(site))

    def largest(self, site: Site) -> int:
        slots, inner = self.order(site).shape
        return min(inner, slots * site.outputs)

    def stages(self, site: Site, rank: int) -> list[Stage]:
        first = self.first(site)
        second = tuple(a for a in range(len(site.kernel)) if a not in first)
        slots, inner = self.order(site).shape
        sizes = (site.groups * rank * inner, site.groups * slots * site.outputs * rank)
        between = [site.out_size[a] if a in first else site.in_size[a] for a in range(len(site.kernel))]
        pixels = (prod(between), prod(site.out_size))
        return [
            Stage(axes, outs, size, 0 if site.op == "Gather" and not k else size * site.rows * pixels[k])
            for k, (axes, outs, size) in enumerate(zip((first, second), (rank, site.outputs), sizes, strict=True))
        ]

    def factor(self, site: Site, matrices: Floats, rank: int, moments: Floats | None = None) -> Factors:
        order = self.order(site)
        slots, inner = order.shape
        vs, fs = [], []
        for g, matrix in enumerate(matrices):
            by_slot = matrix[:, order].transpose(1, 0, 2) if not _is_plain(matrix, order) else matrix[None]  # (d, o, n)
            if moments is None or slots == 1:
                h = None if moments is None else moments[g][np.ix_(order[0], order[0])]
                f, v = truncate_rank(by_slot.reshape(-1, inner), rank, h)
                f = f.reshape(slots, site.outputs, rank)
            else:
                h = moments[g][np.ix_(order.reshape(-1), order.reshape(-1))].reshape(slots, inner, slots, inner)
                v, f, _ = alternate_factors(by_slot, h, rank)
            vs.append(v)
            fs.append(f)
        return Factors(np.stack(vs), np.stack(fs), order).balanced()

    def unfold(self, site: Site, matrices: Floats) -> Floats:
        if _is_plain(matrices, self.order(site)):
            return matrices
        by_slot = matrices[:, :, self.order(site)].transpose(0, 2, 1, 3)
        return by_slot.reshape(len(matrices), -1, by_slot.shape[3])


def _is_plain(matrices: Floats, order: Ints) -> bool:
    """Whether large matrices are in order as they stand: they are not copied then."""
    return matrices.dtype != np.float64 and len(order) == 1 and np.array_equal(order[0], np.arange(order.size))


def rank_above_noise(unfolded: Floats) -> int:
    """Shapes: (groups, m, n)."""
    return max(1, *(evbmf_rank(np.linalg.svd(m, compute_uv=False), *m.shape) for m in unfolded))
