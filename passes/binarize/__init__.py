"""Binarization. An algorithm or scheme in a module of this folder is found without being listed."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .binarize import Binarize as Binarize

__getattr__, __all__ = lazily(__name__, {".binarize": "Binarize"})
