"""Low-rank factorization of layers. A scheme in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .factorize import Factorize
from .factors import Factors
from .scheme import SCHEMES, Scheme, TwoFactors
from .sites import Site

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)

__all__ = ["SCHEMES", "Factorize", "Factors", "Scheme", "Site", "TwoFactors"]
