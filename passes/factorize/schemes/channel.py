"""Fewer filters, then a mixture of them."""

from __future__ import annotations

from ..sites import Site
from .scheme import SCHEMES, TwoFactors


class Channel(TwoFactors):
    """The whole kernel to a few channels, then 1x1 to the outputs.

    Source: Zhang et al., "Accelerating Very Deep Convolutional Networks", PAMI 2016, arXiv:1505.06798.
    """

    name = "channel"
    blind = False

    def obstacle(self, site: Site) -> str:
        return "its kernel has one position" if site.positions == 1 else ""


SCHEMES.register("channel")(Channel())
