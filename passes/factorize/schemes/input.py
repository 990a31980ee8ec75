"""A mixture of the inputs first, then the kernel on fewer channels."""

from __future__ import annotations

from ..sites import Site
from .scheme import SCHEMES, TwoFactors


class Input(TwoFactors):
    """1x1 to a few channels at the input's resolution, then the whole kernel; AIMET's weight SVD.

    Source: Kuzmin et al., "Taxonomy and Evaluation of Structured Compression of Convolutional Neural Networks", 2019,
    arXiv:1912.09802.
    """

    name = "input"
    blind = False

    def first(self, site: Site) -> tuple[int, ...]:
        return ()

    def obstacle(self, site: Site) -> str:
        return "its kernel has one position" if site.positions == 1 else ""


SCHEMES.register("input")(Input())
