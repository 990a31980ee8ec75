"""Binarization. An algorithm or scheme in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .binarize import Binarize

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)

__all__ = ["Binarize"]
