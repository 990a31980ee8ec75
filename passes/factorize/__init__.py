"""Low-rank factorization. A scheme in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)

from .factors import Factors  # noqa: E402
from .scheme import SCHEMES, Scheme, TwoFactors  # noqa: E402
from .sites import Site  # noqa: E402

__all__ = ["SCHEMES", "Factors", "Scheme", "Site", "TwoFactors"]
