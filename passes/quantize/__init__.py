"""Quantization. A scheme, range method, rounding or bit allocator in a module of this folder is found without being listed."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .quantize import Quantize

for _module in iter_modules(__path__):
    import_module(f".{_module.name}", __name__)

__all__ = ["Quantize"]
