"""A narrower table, and a matrix that widens what was looked up."""

from __future__ import annotations

from ..sites import Site
from .scheme import SCHEMES, TwoFactors


class Embedding(TwoFactors):
    """A table of words as a narrow table and a matrix: fewer parameters, more arithmetic.

    Source: Lan et al., "ALBERT", ICLR 2020, arXiv:1909.11942 (factorized embedding parameterization).
    """

    name = "embedding"

    def obstacle(self, site: Site) -> str:
        return "" if site.op == "Gather" else "it is no table that is looked up"


SCHEMES.register("embedding")(Embedding())
