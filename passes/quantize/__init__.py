"""Quantization. A scheme, range method, rounding or bit allocator in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

from .quantize import Quantize

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = ["Quantize"]
