"""Two thin matrices for one: fully connected layers, 1x1 convolutions and attention's projections."""

from __future__ import annotations

from ..sites import Site
from .scheme import SCHEMES, TwoFactors


class Svd(TwoFactors):
    """A matrix as two thin ones: inputs to the rank, the rank to outputs; a stride stays with the first.

    Source: Denton et al., "Exploiting Linear Structure Within Convolutional Networks", NIPS 2014, arXiv:1404.0736.
    """

    name = "svd"

    def obstacle(self, site: Site) -> str:
        if site.op == "Gather":
            return "a table is looked up, not multiplied"
        return "" if site.positions == 1 else "its kernel has several positions"


SCHEMES.register("svd")(Svd())
