"""Low-rank factorization of layers. A scheme in a module of this folder is found without being listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .factorize import Factorize
    from .factors import Factors
    from .schemes.scheme import SCHEMES, Scheme, TwoFactors
    from .sites import Site

__getattr__ = lazily(
    __name__,
    {
        ".factorize": "Factorize",
        ".factors": "Factors",
        ".schemes.scheme": "SCHEMES Scheme TwoFactors",
        ".sites": "Site",
    },
)
__all__ = ["SCHEMES", "Factorize", "Factors", "Scheme", "Site", "TwoFactors"]
