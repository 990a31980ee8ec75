"""A kernel along one axis, then along the others."""

from __future__ import annotations

from ..sites import Site
from .scheme import SCHEMES, TwoFactors


class Spatial(TwoFactors):
    """k x 1 to a few channels, then 1 x k; in three dimensions k x 1 x 1, then 1 x k x k.

    Source: Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions", BMVC 2014,
    arXiv:1405.3866; Tai et al., ICLR 2016, arXiv:1511.06067 (closed form).
    Differs: with data the factors are those that are best for the layer's output.
    """

    name = "spatial"

    def first(self, site: Site) -> tuple[int, ...]:
        return tuple(a for a, k in enumerate(site.kernel) if k > 1)[:1]

    def obstacle(self, site: Site) -> str:
        return "" if sum(k > 1 for k in site.kernel) > 1 else "its kernel is long along one axis at most"


SCHEMES.register("spatial")(Spatial())
