"""Low-rank factorization of layers. A scheme in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

from .factorize import Factorize
from .factors import Factors
from .schemes.scheme import SCHEMES, Scheme, TwoFactors
from .sites import Site

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = ["SCHEMES", "Factorize", "Factors", "Scheme", "Site", "TwoFactors"]
