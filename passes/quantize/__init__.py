"""Quantization. A scheme, range method, rounding or bit allocator in a module of this folder is found without being listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .quantize import Quantize

__getattr__ = lazily(__name__, {".quantize": "Quantize"})
__all__ = ["Quantize"]
