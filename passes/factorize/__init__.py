"""Low-rank factorization of layers. A scheme in a module of this folder is found without being listed."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .factorize import Factorize as Factorize
    from .factors import Factors as Factors
    from .schemes.scheme import SCHEMES as SCHEMES
    from .schemes.scheme import Scheme as Scheme
    from .schemes.scheme import TwoFactors as TwoFactors
    from .sites import Site as Site

__getattr__, __all__ = lazily(
    __name__,
    {
        ".factorize": "Factorize",
        ".factors": "Factors",
        ".schemes.scheme": "SCHEMES Scheme TwoFactors",
        ".sites": "Site",
    },
)
