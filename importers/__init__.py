"""Importers: from any framework to the standard graph. A module in this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .base import IMPORTERS, Importer

__all__ = ["IMPORTERS", "Importer"]

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
