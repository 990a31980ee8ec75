"""Binarization. An algorithm or scheme in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

from .binarize import Binarize

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = ["Binarize"]
