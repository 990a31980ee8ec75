"""Quantization. A scheme, range method, rounding or bit allocator in a module of this folder is found without being listed."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .quantize import Quantize as Quantize

__getattr__, __all__ = lazily(__name__, {".quantize": "Quantize"})
