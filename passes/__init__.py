"""Passes: from a graph to a smaller or faster one. A module or folder in this one is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .base import PASSES, Context, Pass, PassReport

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)

__all__ = ["PASSES", "Context", "Pass", "PassReport"]
